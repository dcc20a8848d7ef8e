"""Relative position embedding by a wide grouped convolution (wav2vec 2.0 section 2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError

WIDE = 64
"""Kernels of so many frames go through Fourier space on a CPU in float32: at 128 two to five times as fast."""


class PositionConvolution(nn.Module):
    """Grouped convolution over time, then GELU; (B, T, D) to (B, T, D).

    Weight norm has one gain per kernel position (dim=2 in fairseq): weight = gain * v / ||v||, the norm over all
    channels. The kernel is even, so the last of its T + 1 frames is dropped.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        if kernel < 1:
            raise ConfigError(f"transformer: position_kernel must be at least 1, found {kernel}")
        self.groups = groups
        self.direction = nn.Parameter(torch.randn(dim, dim // groups, kernel) * math.sqrt(4 / (kernel * dim)))
        self.gain = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(dim))

    def weight(self) -> Tensor:
        """(D, D / groups, kernel)."""
        return torch._weight_norm(self.direction, self.gain, 2)  # as in formula, 9 times as fast, gradient included

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight()
        if _through_fourier_space(x, weight):
            return F.gelu(correlate(x, response(weight), self.groups) + self.bias)
        return _convolve(x, weight, self.bias, self.groups)


class FixedPositionConvolution(nn.Module):
    """The same for inference: the weight, or what it is in Fourier space, computed once."""

    def __init__(self, learnt: PositionConvolution, dtype: torch.dtype) -> None:
        super().__init__()
        self.groups = learnt.groups
        with torch.no_grad():
            weight = learnt.weight().to(dtype)
            self.fourier = _through_fourier_space(weight, weight)
            self.register_buffer("fixed", response(weight) if self.fourier else weight)
        self.register_buffer("bias", learnt.bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        fixed, bias = self.get_buffer("fixed"), self.get_buffer("bias")
        if self.fourier:
            return F.gelu(correlate(x, fixed, self.groups) + bias)
        return _convolve(x, fixed, bias, self.groups)


def _through_fourier_space(x: Tensor, weight: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and weight.shape[2] >= WIDE and not torch.is_autocast_enabled("cpu")


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    positions = F.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=groups)
    return F.gelu(positions[:, :, : x.shape[1]]).transpose(1, 2)


def response(weight: Tensor) -> Tensor:
    """Weight (D, width, kernel) in Fourier space, conjugate: complex (kernel + 1, D, width)."""
    dim, width, kernel = weight.shape
    analysis, _ = _fourier(kernel, weight)
    real, imaginary = torch.matmul(analysis[:, :kernel], weight.reshape(-1, kernel).t()).view(2, kernel + 1, dim, width)
    return torch.complex(real, -imaginary)


def correlate(x: Tensor, response: Tensor, groups: int) -> Tensor:
    """conv1d with half a kernel of padding, its first T frames, through Fourier space (overlap-save).

    Blocks of two kernels' length, a kernel apart: the first half of a block's circular correlation is not touched by
    what wraps around.

    Args:
        x: (B, T, D).
        response: of the weight, complex (kernel + 1, D, D / groups).
        groups: parts of the channels that see only themselves.
    """
    batch, frames, dim = x.shape
    kernel, width = len(response) - 1, response.shape[2]
    blocks = -(-frames // kernel)
    analysis, synthesis = _fourier(kernel, x)
    padded = F.pad(x, (0, 0, kernel // 2, (blocks + 1) * kernel - frames - kernel // 2))
    windows = padded.unfold(1, 2 * kernel, kernel)  # (B, blocks, D, 2 kernels)
    waves = torch.matmul(analysis, windows.transpose(2, 3))  # (B, blocks, 2 frequencies, D)
    waves = waves.view(batch * blocks, 2, kernel + 1, groups, width).permute(1, 2, 3, 0, 4).flatten(1, 2)
    product = torch.bmm(torch.complex(*waves), response.view(-1, width, width).transpose(1, 2))
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
