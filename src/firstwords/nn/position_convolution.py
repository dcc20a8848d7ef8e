"""Relative position embedding by a wide grouped convolution (wav2vec 2.0 section 2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDE = 64
"""Kernels of so many frames go through Fourier space on a CPU in float32: at 128 two to five times as fast."""


class PositionConvolution(nn.Module):
    """Grouped convolution over time, then GELU; (B, T, D) to (B, T, D).

    Weight norm has one gain per kernel position (dim=2 in fairseq): weight = gain * v / ||v||, the norm over all
    channels. The kernel is even, so the last of its T + 1 frames is dropped.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.direction = nn.Parameter(torch.randn(dim, dim // groups, kernel) * math.sqrt(4 / (kernel * dim)))
        self.gain = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch._weight_norm(self.direction, self.gain, 2)  # as in formula, 9 times as fast, gradient included
        autocast = torch.is_autocast_enabled(x.device.type)
        if x.device.type == "cpu" and x.dtype == torch.float32 and not autocast and weight.shape[2] >= WIDE:
            return F.gelu(correlate(x, weight, self.groups) + self.bias)
        positions = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=weight.shape[2] // 2, groups=self.groups)
        return F.gelu(positions[:, :, : x.shape[1]]).transpose(1, 2)


def correlate(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """conv1d with half a kernel of padding, its first T frames, through Fourier space (overlap-save).

    Blocks of two kernels' length, a kernel apart: the first half of a block's circular correlation is not touched by
    what wraps around.

    Args:
        x: (B, T, D).
        weight: (D, D / groups, kernel), kernel even.
        groups: parts of the channels that see only themselves.
    """
    batch, frames, dim = x.shape
    kernel, width = weight.shape[2], weight.shape[1]
    blocks = -(-frames // kernel)
    analysis, synthesis = _fourier(kernel, x)
    padded = F.pad(x, (0, 0, kernel // 2, (blocks + 1) * kernel - frames - kernel // 2))
    windows = padded.unfold(1, 2 * kernel, kernel)  # (B, blocks, D, 2 kernels)
    waves = torch.matmul(analysis, windows.transpose(2, 3))  # (B, blocks, 2 frequencies, D)
    waves = waves.view(batch * blocks, 2, kernel + 1, groups, width).permute(1, 2, 3, 0, 4).flatten(1, 2)
    response = torch.matmul(analysis[:, :kernel], weight.reshape(-1, kernel).t())
    response = response.view(2, (kernel + 1) * groups, width, width)  # out, in
    product = torch.bmm(torch.complex(*waves), torch.complex(response[0], -response[1]).transpose(1, 2))
    product = torch.view_as_real(product).view(kernel + 1, groups, batch, blocks, width, 2)
    product = product.permute(2, 3, 5, 0, 1, 4).reshape(batch, blocks, 2 * (kernel + 1), dim)
    return torch.matmul(synthesis, product).view(batch, blocks * kernel, dim)[:, :frames]


def _fourier(kernel: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Real transform of 2 kernels' frames, (2 frequencies, 2 kernels), and back to the first half, (kernel, 2 ...).

    As products: they leave the frequencies in front, where the products over channels need them, and cost less than
    moving the result of a fast transform there.
    """
    size = 2 * kernel
    angles = torch.outer(torch.arange(kernel + 1), torch.arange(size)).remainder(size) * (2 * math.pi / size)
    analysis = torch.cat([angles.cos(), -angles.sin()])
    share = torch.full((kernel + 1, 1), 2.0 / size)
    share[0] = share[-1] = 1.0 / size
    synthesis = torch.cat([angles.cos() * share, -angles.sin() * share])[:, :kernel].t()
    return analysis.to(like), synthesis.to(like)
