"""Causal convolutions of M models side by side as matrix products, and their transposes, each the other's gradient.

Few channels come in and many go out (symbols to hidden), so that the narrow side is the one that is copied: once for
each tap of the kernel, as rows of windows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class CausalProduct(torch.autograd.Function):
    """y[t] = sum over taps p of x[t + p - (P - 1)] K[p], with zeros before the beginning.

    x is (M, B, T, V), K (M, P V, H), y (M, B, T, H).
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        windows = _windows(x, kernel.shape[1] // x.shape[-1])
        ctx.save_for_backward(windows, kernel)
        ctx.shape = x.shape
        return torch.bmm(windows, kernel).view(*x.shape[:3], -1)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        windows, kernel = ctx.saved_tensors
        flat = gradient.flatten(1, 2)
        by_x = _folded(flat, kernel, ctx.shape) if ctx.needs_input_grad[0] else None
        by_kernel = torch.bmm(windows.transpose(1, 2), flat) if ctx.needs_input_grad[1] else None
        return by_x, by_kernel


class TransposedCausalProduct(torch.autograd.Function):
    """x[t] = sum over taps p of y[t - p + (P - 1)] K[p]^T: what `CausalProduct` does to gradients.

    y is (M, B, T, H), K (M, P V, H), x (M, B, T, V); V is given by `symbols`.
    """

    @staticmethod
    def forward(ctx, y: Tensor, kernel: Tensor, symbols: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(y, kernel)
        return _folded(y.flatten(1, 2), kernel, torch.Size((*y.shape[:3], symbols)))

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        y, kernel = ctx.saved_tensors
        windows = _windows(gradient, kernel.shape[1] // gradient.shape[-1])
        by_y = torch.bmm(windows, kernel).view_as(y)
        by_kernel = torch.bmm(windows.transpose(1, 2), y.flatten(1, 2)) if ctx.needs_input_grad[1] else None
        return by_y, by_kernel, None


class GeluSlope(torch.autograd.Function):
    """weight(M, T, H) * GELU'(x (M, B, T, H)), in one pass forward."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        return torch.ops.aten.gelu_backward(weight[:, None].expand_as(x), x)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        """GELU'' = phi(x) (2 - x^2), with phi the normal density."""
        x, weight = ctx.saved_tensors
        by_weight = torch.ops.aten.gelu_backward(gradient, x).sum(1)
        square = x.square()
        bend = square.mul(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi)).mul_(square.neg_().add_(2))
        return bend.mul_(gradient).mul_(weight[:, None]), by_weight


def _windows(x: Tensor, taps: int) -> Tensor:
    """(M, B, T, V) to (M, B T, P V): of each step the P last ones, oldest first."""
    members, rows, steps, width = x.shape
    padded = F.pad(x, (0, 0, taps - 1, 0))
    strides = (*padded.stride()[:2], width, 1)
    return padded.as_strided((members, rows, steps, taps * width), strides).reshape(members, rows * steps, -1)


def _folded(flat: Tensor, kernel: Tensor, shape: torch.Size) -> Tensor:
    """(M, B T, H) times the kernel's transpose, windows added up where they overlap: (M, B, T, V)."""
    members, rows, steps, width = shape
    taps = kernel.shape[1] // width
    windows = torch.bmm(flat, kernel.transpose(1, 2)).view(members, rows, steps, taps, width)
    folded = windows.new_zeros(members, rows, steps, width)
    for tap in range(taps):
        back = taps - 1 - tap  # the window of step t holds at this tap the step `back` before
        if back < steps:
            folded[:, :, : steps - back] += windows[:, :, back:, tap]
    return folded
