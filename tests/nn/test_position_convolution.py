"""The position convolution's weight: the fused form equals the formula, gradients included."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from firstwords.nn.transformer import PositionConvolution


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
