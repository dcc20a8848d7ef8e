"""The feature encoder: waveform to latents z, one every 20 ms (wav2vec 2.0 section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.nn.fused_convolution import Activation, activate, activate_and_convolve
from firstwords.nn.lengths import length_mask
from firstwords.nn.moments import Moments
from firstwords.nn.strided_convolution import StridedConvolution
from firstwords.nn.strided_shape import StridedStack


@dataclass(frozen=True)
class FeatureEncoderConfig:
    """Strided convolutions over the waveform."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    """Output channels of each layer. Source: wav2vec 2.0 section 4.2."""
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Taps of each layer. Source: wav2vec 2.0 section 4.2."""
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Stride of each layer; their product is the hop in samples (320). Source: wav2vec 2.0 section 4.2."""
    norm: Literal["group", "layer"] = "group"
    """"group": group norm in the first layer only (BASE); "layer": layer norm in every layer (LV-60k, XLSR)."""
    bias: bool = False
    """Biases in the convolutions: off in BASE, on in LV-60k and XLSR models."""
    group_statistics: Literal["valid", "padded"] = "valid"
    """Frames that the group norm averages: the utterance's own, or the padding too, as in the released models."""
    gradient_scale: float = 0.1
    """Factor on the gradient that reaches the encoder; 0 freezes it. Source: BASE."""


EPSILON = 1e-5
"""Of every norm; torch's and fairseq's default."""


class FeatureEncoder(StridedStack):
    """Waveforms (B, samples) to latents (B, T, C)."""

    config: FeatureEncoderConfig

    def __init__(self, config: FeatureEncoderConfig) -> None:
        super().__init__(config, "feature_encoder")
        inputs = (1, *config.channels[:-1])
        sizes = zip(inputs, config.channels, config.kernels, config.strides, strict=True)
        self.layers = nn.ModuleList(StridedConvolution(i, o, k, s, config.bias) for i, o, k, s in sizes)
        normed = config.channels if config.norm == "layer" else config.channels[:1]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in normed)

    def forward(self, waveforms: Tensor, lengths: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Latents (B, T, C). What lies beyond `lengths` (B,) samples never changes the latents before it.

        Args:
            waveforms: (B, samples).
            lengths: (B,) valid samples.
            statistics: what the group norm shall take for the mean and covariance of a recording of which `waveforms`
                are parts (see `Moments`); None takes each utterance's own.
        """
        if self.config.gradient_scale == 0:
            with torch.no_grad():
                return self._convolve(waveforms, lengths, statistics)
        latents = self._convolve(waveforms, lengths, statistics)
        if self.config.gradient_scale != 1 and self.training:
            latents = _ScaledGradient.apply(latents, self.config.gradient_scale)
        return latents

    def moments(self) -> Moments | None:
        """Gathers `statistics` of a recording that comes in parts; None where the norms need none (layer norm)."""
        if self.config.norm == "layer":
            return None
        kernel, stride = self.config.kernels[0], self.config.strides[0]
        return Moments(kernel, stride, lambda samples: samples.unfold(0, kernel, stride), products=True)

    def _convolve(self, waveforms: Tensor, lengths: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        first: Any = self.layers[0]
        windows = waveforms.unfold(1, self.config.kernels[0], self.config.strides[0])
        if self.config.norm == "group":
            frames = (lengths - self.config.kernels[0]) // self.config.strides[0] + 1
            windows, taps = self._folded_norm(windows, frames, statistics)
            before = Activation(taps=taps)
        else:
            before = self._activation(0)._replace(taps=first.weight.permute(1, 2, 0))
        x = windows
        for number in range(1, len(self.layers)):
            layer: Any = self.layers[number]
            x = activate_and_convolve(x, before, EPSILON, layer.weight, layer.stride)
            before = self._activation(number)
        return activate(x, before, EPSILON, first.weight)

    def _activation(self, number: int) -> Activation:
        """What follows the convolution of a layer."""
        layer: Any = self.layers[number]
        if self.config.norm == "group":
            return Activation(bias=layer.bias)
        norm: Any = self.norms[number]
        return Activation(bias=layer.bias, norm_weight=norm.weight, norm_bias=norm.bias)

    def _folded_norm(
        self, windows: Tensor, frames: Tensor, statistics: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """First convolution and group norm (one group a channel, statistics over time) as one product.

        A channel's mean and variance over time follow from the mean and covariance of the windows that the kernel
        sees, so the norm folds into weights of each utterance's own and no pass over (B, T, C) is needed. Windows are
        centred first, so that a constant offset of the waveform cancels before it can cost digits.

        Args:
            windows: (B, T, kernel).
            frames: (B,) valid ones.
            statistics: mean and covariance of the windows where they are known (see `forward`).

        Returns:
            Centred windows and a one, (B, T, kernel + 1), and taps (B, kernel + 1, C), the last of them the bias.
        """
        layer: Any = self.layers[0]
        norm: Any = self.norms[0]
        with torch.autocast(windows.device.type, enabled=False):
            windows = windows.float()
            if statistics is None:
                if self.config.group_statistics == "padded":
                    frames = torch.full_like(frames, windows.shape[1])
                count = frames[:, None, None]
                valid = length_mask(frames, windows.shape[1])[:, :, None]
                centred = windows - (windows * valid).sum(1, keepdim=True) / count
                inside = centred * valid
                covariance = torch.bmm(inside.transpose(1, 2), inside) / count
            else:
                centred = windows - statistics[0].to(windows)
                covariance = statistics[1].to(windows).expand(len(windows), -1, -1)
            taps = layer.weight[:, 0].float()
            variance = ((taps @ covariance) * taps).sum(-1)
            folded = taps * (norm.weight * torch.rsqrt(variance + norm.eps))[:, :, None]
            bias = norm.bias.float()[:, None].expand(len(windows), -1, -1)
            return F.pad(centred, (0, 1), value=1.0), torch.cat([folded, bias], 2).transpose(1, 2)


class _ScaledGradient(torch.autograd.Function):
    """Identity forwards; backwards the gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
