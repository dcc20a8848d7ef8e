"""The encoder network of wav2vec and vq-wav2vec: waveform to latents z, one every 10 ms (wav2vec section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError
from firstwords.nn.group_norm import group_norm
from firstwords.nn.lengths import length_mask
from firstwords.nn.normed_convolution import ACTIVATIONS, Padding, Raw, affine, convolve
from firstwords.nn.strided_convolution import product_dtype, strided_products
from firstwords.nn.strided_shape import StridedStack

ActivationName = Literal["relu", "gelu"]


@dataclass(frozen=True)
class LatentEncoderConfig:
    """Strided convolutions over the waveform, each with a group norm over channels and time together."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512)
    """Output channels of each layer. Source: wav2vec section 2.1; large has two more, vq-wav2vec three."""
    kernels: tuple[int, ...] = (10, 8, 4, 4, 4)
    """Taps of each layer. Source: wav2vec section 2.1; the further layers of others have 1."""
    strides: tuple[int, ...] = (5, 4, 2, 2, 2)
    """Stride of each layer; their product is the hop in samples (160). Source: wav2vec section 2.1."""
    activation: ActivationName = "relu"
    """After each norm: "relu" in wav2vec, "gelu" in vq-wav2vec."""
    affine_norm: bool = True
    """Whether norms have a weight and a bias for each channel. Source: fairseq (non_affine_group_norm off)."""
    skip_connections: bool = False
    """Each layer's input, every stride-th frame of it, added to its output where widths agree. Source: fairseq, off."""
    residual_scale: float = 0.5
    """Sums of skip connections are multiplied by its root. Source: fairseq."""
    log_compression: bool = True
    """Latents are log(|z| + 1). Source: fairseq's wav2vec recipe; off in vq-wav2vec's."""


def check_residual_scale(where: str, scale: float) -> None:
    """Raises ConfigError where a scale has no root."""
    if not scale >= 0:
        raise ConfigError(f"{where}: residual_scale must not be below 0, found {scale}")


class LatentEncoder(StridedStack):
    """Waveforms (B, samples) to latents (B, T, C). Weights start as torch's convolutions do (fairseq wav2vec.py)."""

    config: LatentEncoderConfig

    def __init__(self, config: LatentEncoderConfig) -> None:
        super().__init__(config, "latent_encoder")
        check_residual_scale("latent_encoder", config.residual_scale)
        inputs = (1, *config.channels[:-1])
        sizes = zip(inputs, config.channels, config.kernels, config.strides, strict=True)
        self.layers = nn.ModuleList(nn.Conv1d(i, o, k, s, bias=False) for i, o, k, s in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width, affine=config.affine_norm) for width in config.channels)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Latents (B, T, C). What lies beyond `lengths` (B,) samples never changes the latents before it.

        Args:
            waveforms: (B, samples).
            lengths: (B,) valid samples.
        """
        if self.config.skip_connections:
            return self._compressed(self._with_skips(waveforms, lengths))
        raw = self._first(waveforms, lengths)
        config = self.config
        layer: Any
        norm: Any
        lengths = (lengths - config.kernels[0]) // config.strides[0] + 1
        for layer, norm in list(zip(self.layers, self.norms, strict=True))[1:]:
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            lengths = (lengths - kernel) // stride + 1
            raw = convolve(raw, layer.weight, None, stride, Padding(), lengths, norm, config.activation)
        return self._compressed(raw.applied())

    def _compressed(self, latents: Tensor) -> Tensor:
        return torch.log1p(latents.abs()) if self.config.log_compression else latents

    def _first(self, waveforms: Tensor, lengths: Tensor) -> Raw:
        """First convolution and its norm as one product over windows of the waveform.

        The statistics over channels and time follow from the mean and covariance of the windows, so no pass over
        (B, T, C) is needed. Windows are centred first, so that an offset of the waveform costs no digits.
        """
        layer: Any = self.layers[0]
        norm: Any = self.norms[0]
        kernel, stride = self.config.kernels[0], self.config.strides[0]
        with torch.autocast(waveforms.device.type, enabled=False):
            windows = waveforms.float().unfold(1, kernel, stride)
            frames = (lengths - kernel) // stride + 1
            count = frames.clamp(min=1)[:, None, None]
            valid = length_mask(frames, windows.shape[1])[:, :, None]
            middle = torch.where(valid, windows, 0).sum(1, keepdim=True) / count
            centred = windows - middle
            inside = torch.where(valid, centred, 0)
            covariance = torch.bmm(inside.transpose(1, 2), inside) / count
            taps = layer.weight[:, 0].float()
            means = torch.matmul(middle[:, 0], taps.T)
            mean = means.mean(1)
            variance = ((taps @ covariance) * taps).sum(-1).mean(1) + (means - mean[:, None]).square().mean(1)
            scale, shift = affine(mean, variance, norm, len(taps))
            bias = means * scale + shift
            folded = torch.cat([taps.T * scale[:, None], bias[:, None]], 1)
            values = F.pad(centred, (0, 1), value=1.0).to(product_dtype(layer.weight))
            return Raw(values, taps=folded, activation=self.config.activation)

    def _with_skips(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """The same with skip connections, where each layer's whole output is needed."""
        config, activation = self.config, ACTIVATIONS[self.config.activation]
        x = waveforms[:, :, None]
        layer: Any
        norm: Any
        for layer, norm in zip(self.layers, self.norms, strict=True):
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            lengths = (lengths - kernel) // stride + 1
            result = activation(group_norm(strided_products(x, layer.weight, stride), lengths, norm))
            if x.shape[2] == result.shape[2]:
                residual = x[:, ::stride][:, : result.shape[1]]
                result = (result + residual) * math.sqrt(config.residual_scale)
            x = result
        return x
