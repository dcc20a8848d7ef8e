"""The context network of wav2vec and vq-wav2vec: latents z to context c, which never hears what follows (2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import ConfigError
from firstwords.nn.dropout import dropout
from firstwords.nn.group_norm import group_norm
from firstwords.nn.latent_encoder import ActivationName, check_residual_scale
from firstwords.nn.normed_convolution import ACTIVATIONS, Padding, Raw, convolve
from firstwords.nn.strided_convolution import strided_products


@dataclass(frozen=True)
class ContextNetworkConfig:
    """Causal convolutions over latents, each with a group norm over channels and time together."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512, 512, 512)
    """Output channels of each layer. Source: wav2vec section 2.1; large has twelve layers."""
    kernels: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 3, 3, 3)
    """Frames that each layer sees, the newest its own. Source: wav2vec section 2.1; large: 2 to 13."""
    activation: ActivationName = "relu"
    """After each norm: "relu" in wav2vec, "gelu" in vq-wav2vec."""
    bias: bool = True
    """Biases in the convolutions. Source: fairseq (no_conv_bias off)."""
    affine_norm: bool = True
    """Whether norms have a weight and a bias for each channel. Source: fairseq (non_affine_group_norm off)."""
    padding: Literal["replicate", "zero"] = "replicate"
    """Before the first frame: copies of it, or zeros. Source: fairseq (agg_zero_pad off)."""
    skip_connections: bool = False
    """Each layer's input added to its output, projected where widths differ. Source: fairseq; on in large."""
    residual_scale: float = 0.5
    """Sums of skip connections are multiplied by its root. Source: fairseq."""
    dropout: float = 0.0
    """After each convolution. Source: fairseq."""


class ContextNetwork(nn.Module):
    """Latents (B, T, C_in) to context (B, T, C). Weights start as torch's convolutions do (fairseq wav2vec.py)."""

    def __init__(self, config: ContextNetworkConfig, input_dim: int) -> None:
        super().__init__()
        shape = (config.channels, config.kernels)
        if len(config.channels) != len(config.kernels) or min(min(part, default=0) for part in shape) < 1:
            raise ConfigError(
                "context_network: channels and kernels must have one number a layer, each at least 1; found "
                + ", ".join(" ".join(map(str, part)) or "none" for part in shape)
            )
        check_shares("context_network", config, "dropout")
        check_residual_scale("context_network", config.residual_scale)
        self.config = config
        inputs = (input_dim, *config.channels[:-1])
        sizes = list(zip(inputs, config.channels, config.kernels, strict=True))
        self.layers = nn.ModuleList(nn.Conv1d(i, o, k, bias=config.bias) for i, o, k in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width, affine=config.affine_norm) for width in config.channels)
        self.residuals = nn.ModuleDict(
            {
                str(n): nn.Linear(i, o, bias=False)
                for n, (i, o, _) in enumerate(sizes)
                if config.skip_connections and i != o
            }
        )
        self.output_dim = config.channels[-1]

    @property
    def receptive_field(self) -> int:
        """Frames behind one context vector, its own included: 19 for the base model, 79 for large."""
        return 1 + sum(kernel - 1 for kernel in self.config.kernels)

    def forward(
        self, latents: Tensor, lengths: Tensor, layer: int | None = None, states: list[Tensor] | None = None
    ) -> Tensor:
        """Context (B, T, C) of latents (B, T, C_in).

        Args:
            latents: (B, T, C_in).
            lengths: (B,) valid frames; what lies beyond them never changes the context before it.
            layer: stop after so many layers (0: the latents); None runs all.
            states: gets the latents and each layer's output appended.
        """
        plain = self.config.skip_connections or (self.config.dropout and self.training)
        raw = Raw(latents)
        if states is not None:
            states.append(latents)
        for number in range(len(self.layers) if layer is None else layer):
            raw = Raw(self._block(raw.x, lengths, number)) if plain else self._convolve(raw, lengths, number)
            if states is not None:
                states.append(raw.applied())
        return raw.applied()

    def _convolve(self, raw: Raw, lengths: Tensor, number: int) -> Raw:
        """A layer whose norm and activation are left to the next."""
        config = self.config
        convolution: Any = self.layers[number]
        norm: Any = self.norms[number]
        padding = Padding(convolution.kernel_size[0] - 1, config.padding)
        return convolve(raw, convolution.weight, convolution.bias, 1, padding, lengths, norm, config.activation)

    def _block(self, x: Tensor, lengths: Tensor, number: int) -> Tensor:
        """A layer with all that belongs to it."""
        config = self.config
        convolution: Any = self.layers[number]
        norm: Any = self.norms[number]
        padded = Padding(convolution.kernel_size[0] - 1, config.padding).apply(x)
        result = strided_products(padded, convolution.weight, 1)
        if convolution.bias is not None:
            result = result + convolution.bias
        result = dropout(result, config.dropout, self.training)
        result = ACTIVATIONS[config.activation](group_norm(result, lengths, norm))
        if config.skip_connections:
            residual = self.residuals[str(number)](x) if str(number) in self.residuals else x
            result = (result + residual) * math.sqrt(config.residual_scale)
        return result
