"""Norm, activation and the convolution that follows, a slice of time at a time, for norms over channels and time.

What a convolution gives is kept as it is, with its sum and its sum of squares, which are taken while a slice is still
in a core's cache. The norm is then a scale and a shift for each utterance and channel, applied together with the
activation when the next convolution reads a slice. So nothing but the convolutions' outputs is ever in memory, and the
slices are computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.nn.fused_convolution import all_taps, slices
from firstwords.nn.lengths import length_mask
from firstwords.nn.strided_convolution import blocks, product_dtype, strided_products


class Raw(NamedTuple):
    """Values before their norm and activation, and what these are."""

    x: Tensor
    """(B, T, C), or (B, T, k) where `taps` make channels of it."""
    scale: Tensor | None = None
    """(B, C) of the norm; None: `x` is as it shall be, or `taps` hold the norm."""
    shift: Tensor | None = None
    """(B, C)."""
    taps: Tensor | None = None
    """(B, k, C): a first convolution over windows of the waveform, its norm included."""
    activation: str = "none"
    """"relu", "gelu" or "none"."""

    def applied(self) -> Tensor:
        """(B, T, C) with norm and activation."""
        with torch.autocast(self.x.device.type, enabled=False):
            x = self.x
            if self.taps is not None:
                x = torch.bmm(x, self.taps.to(x.dtype))
            elif self.scale is not None and self.shift is not None:
                x = torch.addcmul(self.shift[:, None].to(x.dtype), x, self.scale[:, None].to(x.dtype))
            return ACTIVATIONS[self.activation](x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}


class Padding(NamedTuple):
    """Frames put before the first."""

    frames: int = 0
    mode: str = "zero"
    """"zero", or "replicate": copies of the first frame."""

    def apply(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T + frames, C)."""
        if not self.frames:
            return x
        before = x[:, :1].expand(-1, self.frames, -1)
        return torch.cat([before if self.mode == "replicate" else torch.zeros_like(before), x], 1)


def convolve(
    before: Raw,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: Padding,
    lengths: Tensor,
    norm: nn.GroupNorm,
    activation: str,
) -> Raw:
    """A convolution whose norm and activation are still to be applied.

    Args:
        before: what it reads.
        weight: (C_out, C, kernel).
        bias: (C_out,) or None.
        stride: of the convolution.
        padding: before the first frame.
        lengths: (B,) valid frames of the result, which alone the norm averages.
        norm: that follows, with one group.
        activation: that follows it.
    """
    dtype = product_dtype(weight)
    with torch.autocast(weight.device.type, enabled=False):
        before = before._replace(x=before.x.to(dtype))
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        if weight.device.type == "cpu":
            scale, shift, taps = (
                None if part is None else part.to(dtype) for part in (before.scale, before.shift, before.taps)
            )
            settings = (stride, padding, before.activation, lengths)
            y, sums, squares = _Slices.apply(before.x, weight, bias, scale, shift, taps, settings)
        else:
            y = strided_products(padding.apply(before.applied()), weight, stride)
            y = y if bias is None else y + bias
            valid = torch.where(length_mask(lengths, y.shape[1])[:, :, None], y.float(), 0)
            sums, squares = valid.sum((1, 2)), valid.square().sum((1, 2))
        count = (lengths * len(weight)).clamp(min=1)
        mean = sums / count
        variance = (squares / count - mean.square()).clamp(min=0)
        scale, shift = affine(mean, variance, norm, len(weight))
        return Raw(y, scale, shift, activation=activation)


def affine(mean: Tensor, variance: Tensor, norm: nn.GroupNorm, channels: int) -> tuple[Tensor, Tensor]:
    """Scale and shift (B, C) of a norm whose mean and variance (B,) are known."""
    root = torch.rsqrt(variance + norm.eps)[:, None].float()
    scale = root * norm.weight if norm.affine else root.expand(-1, channels)
    shift = -mean[:, None].float() * scale
    return scale, shift + norm.bias if norm.affine else shift


class _Slices(torch.autograd.Function):
    """Convolution (B, T_out, C_out), and sums and sums of squares (B,) over valid frames."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        taps: Tensor | None,
        settings: tuple[int, Padding, str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        stride, padding, _, lengths = settings
        kernel = weight.shape[2]
        result = x.new_empty(len(x), (x.shape[1] + padding.frames - kernel) // stride + 1, len(weight))
        ctx.save_for_backward(x, weight, bias, scale, shift, taps, result)
        ctx.settings, ctx.valid = settings, lengths.tolist()
        matrices = all_taps(weight, stride)
        moments = torch.zeros(2, len(x), dtype=torch.double)
        for number, first, last in slices(result, stride, weight):
            inside, early = _inside(x, number, first, last, stride, kernel, padding)
            active = _padded(_active(inside, number, scale, shift, taps, settings[2]), early, padding)
            target = result[number, first:last]
            for part, (_, _, view) in enumerate(blocks(active[None], kernel, stride, last - first)):
                if part:
                    target.addmm_(view[0], matrices[part])
                elif bias is None:
                    torch.mm(view[0], matrices[0], out=target)
                else:
                    torch.addmm(bias, view[0], matrices[0], out=target)
            counted = result[number, first : min(last, ctx.valid[number])]
            if len(counted):
                moments[0, number] += counted.sum(dtype=torch.float32)
                moments[1, number] += torch.linalg.vector_norm(counted, dtype=torch.float32).square()
        return result, moments[0], moments[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_sums: Tensor, of_squares: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, shift, taps, result = ctx.saved_tensors
        stride, padding, activation, _ = ctx.settings
        kernel = weight.shape[2]
        x_sum = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        bias_sum, scale_sum, shift_sum, taps_sum = (
            None if part is None else torch.zeros_like(part, dtype=torch.float32) for part in (bias, scale, shift, taps)
        )
        matrices = all_taps(weight, stride)
        sums = [torch.zeros_like(part, dtype=torch.float32) for part in matrices]
        slopes, doubled = of_sums.tolist(), (2 * of_squares).tolist()
        for number, first, last in slices(result, stride, weight):
            slope = gradient[number, first:last].clone()
            counted = min(last, ctx.valid[number]) - first
            if counted > 0:
                slope[:counted].add_(result[number, first : first + counted], alpha=doubled[number])
                slope[:counted].add_(slopes[number])
            inside, early = _inside(x, number, first, last, stride, kernel, padding)
            active = _active(inside, number, scale, shift, taps, activation)
            padded = _padded(active, early, padding)
            for total, (_, _, view) in zip(sums, blocks(padded[None], kernel, stride, last - first), strict=True):
                if total.dtype == slope.dtype:
                    total.addmm_(view[0].t(), slope)
                else:
                    total += view[0].t() @ slope
            if bias_sum is not None:
                bias_sum += slope.sum(0, dtype=torch.float32)
            of_active = torch.zeros_like(padded)
            for tap, (_, _, view) in zip(matrices, blocks(of_active[None], kernel, stride, last - first), strict=True):
                view[0].addmm_(slope, tap.t())
            if early and padding.mode == "replicate":
                of_active[early] += of_active[:early].sum(0)
            inner = of_active[early:]
            inner = _before_activation(inner, inside, active, number, scale, shift, taps, activation)
            if taps_sum is not None:
                taps_sum[number] += inside.t() @ inner
                continue
            if scale is not None and scale_sum is not None and shift_sum is not None:
                shift_sum[number] += inner.sum(0, dtype=torch.float32)
                scale_sum[number] += (inner * inside).sum(0, dtype=torch.float32)
                inner = inner * scale[number]
            if x_sum is not None:
                start = max(0, first * stride - padding.frames)
                x_sum[number, start : start + len(inner)] += inner
        weight_sum = torch.cat([part.view(-1, weight.shape[1], len(weight)) for part in sums]).permute(2, 1, 0)
        given = (bias_sum, scale_sum, shift_sum, taps_sum)
        found = (
            None if part is None else part.to(like.dtype)
            for part, like in zip(given, (bias, scale, shift, taps), strict=True)
        )
        return (x_sum, weight_sum.to(weight.dtype), *found, None)


def _inside(
    x: Tensor, number: int, first: int, last: int, stride: int, kernel: int, padding: Padding
) -> tuple[Tensor, int]:
    """What an utterance's output frames [first, last) read of x, and how many frames of padding come before it."""
    start = first * stride - padding.frames
    return x[number, max(0, start) : (last - 1) * stride + kernel - padding.frames], max(0, -start)


def _padded(active: Tensor, early: int, padding: Padding) -> Tensor:
    if not early:
        return active
    before = active[:1].expand(early, -1)
    return torch.cat([before if padding.mode == "replicate" else torch.zeros_like(before), active])


def _active(
    x: Tensor, number: int, scale: Tensor | None, shift: Tensor | None, taps: Tensor | None, activation: str
) -> Tensor:
    if taps is not None:
        x = x @ taps[number]
    elif scale is not None and shift is not None:
        x = torch.addcmul(shift[number], x, scale[number])
    if activation == "relu":
        return x.clamp_(min=0) if taps is not None or scale is not None else x.clamp(min=0)
    return F.gelu(x) if activation == "gelu" else x


def _before_activation(
    gradient: Tensor,
    x: Tensor,
    active: Tensor,
    number: int,
    scale: Tensor | None,
    shift: Tensor | None,
    taps: Tensor | None,
    activation: str,
) -> Tensor:
    """The gradient of what the activation was applied to."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(gradient, active, 0)
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(gradient, _active(x, number, scale, shift, taps, "none"))
    return gradient
