"""What a stack of strided convolutions over the waveform sees: frames, receptive field, hop."""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch import nn

from firstwords.errors import ConfigError


class StridedShape(Protocol):
    """A configuration with one number a layer."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels."""

    @property
    def kernels(self) -> tuple[int, ...]:
        """Taps."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides."""


class StridedStack(nn.Module):
    """Unpadded convolutions one upon the other; what they compute is its subclasses' own.

    Raises:
        ConfigError: channels, kernels and strides of different numbers of layers, or below 1.
    """

    config: StridedShape

    def __init__(self, config: StridedShape, name: str) -> None:
        super().__init__()
        parts = (config.channels, config.kernels, config.strides)
        if len({len(part) for part in parts}) != 1 or min(min(part, default=0) for part in parts) < 1:
            raise ConfigError(
                f"{name}: channels, kernels and strides must have one number a layer, each at least 1; found "
                + ", ".join(" ".join(map(str, part)) or "none" for part in parts)
            )
        self.config = config
        self.output_dim = config.channels[-1]

    def frames(self, samples: Any) -> Any:
        """Latents that so many samples give (int or integer tensor): floor((n - k) / s) + 1, layer by layer."""
        for kernel, stride in zip(self.config.kernels, self.config.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    @property
    def receptive_field(self) -> int:
        """Samples behind one latent, and the shortest input: 400 in wav2vec 2.0, 465 in wav2vec."""
        samples = 1
        for kernel, stride in reversed(list(zip(self.config.kernels, self.config.strides, strict=True))):
            samples = (samples - 1) * stride + kernel
        return samples

    @property
    def hop(self) -> int:
        """Samples from one latent to the next: 320 in wav2vec 2.0, 160 in wav2vec."""
        return math.prod(self.config.strides)
