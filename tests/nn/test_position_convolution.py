"""The position convolution's weight: the fused form equals the formula, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstwords.nn import position_convolution
from firstwords.nn.position_convolution import PositionConvolution, correlate, response


def test_weight_norm_as_in_formula() -> None:
    torch.manual_seed(1)
    module = PositionConvolution(dim=32, kernel=8, groups=4).double()
    module.gain.data *= torch.rand(8, dtype=torch.double) + 0.5
    x = torch.randn(2, 21, 32, dtype=torch.double, requires_grad=True)
    inputs = (x, module.direction, module.gain, module.bias)
    upstream = torch.randn(2, 21, 32, dtype=torch.double)

    length = module.direction.square().sum((0, 1), keepdim=True).sqrt()
    weight = module.gain * module.direction / length
    plain = F.gelu(F.conv1d(x.mT, weight, module.bias, padding=4, groups=4)[:, :, :-1]).mT

    torch.testing.assert_close(module(x), plain)
    ours, theirs = (torch.autograd.grad(y, inputs, upstream) for y in (module(x), plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 16, 31, 200])
@pytest.mark.parametrize("level", [1.0, 1e-6, 1e4])
def test_fourier_space_equals_conv1d(frames: int, level: float) -> None:
    """Result and gradients, for lengths below, at and above the kernel's; quiet and loud, with an offset."""
    torch.manual_seed(frames)
    x = ((torch.randn(3, frames, 24) + 0.5) * level).requires_grad_()
    weight = torch.randn(24, 6, 8, requires_grad=True)
    ours = correlate(x, response(weight), groups=4)
    double = F.conv1d(x.double().mT, weight.double(), padding=4, groups=4)[:, :, :-1].mT
    torch.testing.assert_close(ours.double(), double, rtol=1e-4, atol=1e-5 * float(double.detach().abs().max()))
    upstream = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * upstream).sum(), (x, weight))
    for own, other in zip(mine, torch.autograd.grad((double * upstream).sum(), (x, weight)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_wide_kernels_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = PositionConvolution(dim=32, kernel=8, groups=4)
    x = torch.randn(2, 21, 32)
    narrow = module(x)
    monkeypatch.setattr(position_convolution, "WIDE", 8)
    torch.testing.assert_close(module(x), narrow, rtol=1e-4, atol=1e-5)
