"""A layer's norm and activation together with the convolution that follows, a slice of time at a time.

Between two convolutions lie only passes over memory: bias, norm, GELU. Cut into slices that stay in a core's cache
they cost little more than their arithmetic, and nothing but the layer's input is kept for the way back, where the
slices are computed again: at BASE size half of the feature encoder's memory, more where every layer has a norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.nn.strided_convolution import blocks, product_dtype, strided_products, tap_blocks, taps_matrix

SLICE_BYTES = 1 << 21
"""Activations of a slice; of 0.5 to 16 MB this was the fastest on a core with 2 MB of second-level cache."""


class Activation(NamedTuple):
    """What stands between two convolutions: (B, T, width) to (B, T, C)."""

    taps: Tensor | None = None
    """(B, width, C) or (1, width, C): the first convolution, as a product over windows of the waveform."""
    bias: Tensor | None = None
    """(C,) of the convolution before."""
    norm_weight: Tensor | None = None
    """(C,) of a layer norm over channels; None: no norm."""
    norm_bias: Tensor | None = None
    """(C,)."""

    def apply(self, x: Tensor, epsilon: float) -> Tensor:
        """GELU of the norm of the product."""
        if self.taps is not None:
            x = torch.matmul(x, self.taps)
        if self.bias is not None:
            x = x + self.bias
        if self.norm_weight is not None:
            x = F.layer_norm(x.float(), x.shape[-1:], self.norm_weight, self.norm_bias, epsilon).to(x.dtype)
        return F.gelu(x)

    def of(self, number: int) -> Activation:
        """That of one utterance of a batch."""
        if self.taps is None:
            return self
        return self._replace(taps=self.taps[number if len(self.taps) > 1 else 0])

    def to(self, dtype: torch.dtype) -> Activation:
        """Products in another type; norms stay in float32."""
        taps, bias = (None if part is None else part.to(dtype) for part in (self.taps, self.bias))
        weight, shift = (None if part is None else part.float() for part in (self.norm_weight, self.norm_bias))
        return Activation(taps, bias, weight, shift)


def activate(x: Tensor, before: Activation, epsilon: float, like: Tensor) -> Tensor:
    """The activation alone, (B, T, width) to (B, T, C), in the type that products with `like` have."""
    dtype = product_dtype(like)
    with torch.autocast(x.device.type, enabled=False):
        return before.to(dtype).apply(x.to(dtype), epsilon)


def activate_and_convolve(x: Tensor, before: Activation, epsilon: float, weight: Tensor, stride: int) -> Tensor:
    """Convolution of the activation of `x`: (B, T, width) to (B, (T - kernel) // stride + 1, C_out).

    Args:
        x: windows of the waveform, or what the convolution before gave, without its bias.
        before: what is applied to `x` first.
        epsilon: of the norm.
        weight: (C_out, C, kernel).
        stride: of the convolution.
    """
    dtype = product_dtype(weight)
    if x.device.type != "cpu":
        return strided_products(activate(x, before, epsilon, weight), weight, stride)
    with torch.autocast("cpu", enabled=False):
        return _Slices.apply(x.to(dtype), weight.to(dtype), stride, epsilon, *before.to(dtype))


class _Slices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, epsilon: float, *before: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, *before)
        ctx.stride, ctx.epsilon = stride, epsilon
        taps = all_taps(weight, stride)
        result = x.new_empty(len(x), (x.shape[1] - weight.shape[2]) // stride + 1, len(weight))
        for number, first, last in slices(result, stride, weight):
            inside = x[number, first * stride : (last - 1) * stride + weight.shape[2]]
            active = Activation(*before).of(number).apply(inside, epsilon)
            target = result[number, first:last]
            for part, (_, _, view) in enumerate(blocks(active[None], weight.shape[2], stride, last - first)):
                target.addmm_(view[0], taps[part], beta=min(part, 1))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *before = ctx.saved_tensors
        kernel, stride, gradient = weight.shape[2], ctx.stride, gradient.contiguous()
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
        x_sum, *sums = [torch.zeros_like(one) if need else None for one, need in zip((x, *before), needed, strict=True)]
        taps = all_taps(weight, stride)
        taps_sums = [torch.zeros_like(part) for part in taps]
        for number, first, last in slices(gradient, stride, weight):
            span, slope = slice(first * stride, (last - 1) * stride + kernel), gradient[number, first:last]
            with torch.enable_grad():
                inside = x[number, span].detach().requires_grad_(needed[0])
                parts = [
                    part if part is None else part.detach().requires_grad_(need)
                    for part, need in zip(before, needed[1:], strict=True)
                ]
                active = Activation(*parts).of(number).apply(inside, ctx.epsilon)
            views = blocks(active.detach()[None], kernel, stride, last - first)
            for total, (_, _, view) in zip(taps_sums, views, strict=True):
                total.addmm_(view[0].t(), slope)
            inputs = [one for one in (inside, *parts) if one is not None and one.requires_grad]
            if inputs:
                of_active = torch.zeros_like(active)
                views = blocks(of_active[None], kernel, stride, last - first)
                for tap, (_, _, view) in zip(taps, views, strict=True):
                    view[0].addmm_(slope, tap.t())
                found = iter(torch.autograd.grad(active, inputs, of_active))
                if x_sum is not None:
                    x_sum[number, span] += next(found)
                for part_sum in sums:
                    if part_sum is not None:
                        part_sum += next(found)
        weight_sum = torch.cat([part.view(-1, weight.shape[1], len(weight)) for part in taps_sums]).permute(2, 1, 0)
        return (x_sum, weight_sum, None, None, *sums)


def all_taps(weight: Tensor, stride: int) -> list[Tensor]:
    """A matrix for each block of the kernel."""
    return [taps_matrix(weight, first, last) for first, last in tap_blocks(weight.shape[2], stride)]


def slices(result: Tensor, stride: int, weight: Tensor) -> Iterator[tuple[int, int, int]]:
    """(utterance, first output frame, last + 1) of every slice."""
    size = max(16, SLICE_BYTES // (weight.element_size() * weight.shape[1] * stride))
    for number in range(len(result)):
        for first in range(0, result.shape[1], size):
            yield number, first, min(first + size, result.shape[1])
