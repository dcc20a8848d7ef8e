"""wav2vec (Schneider et al. 2019): latents of the next 150 ms told from others of the same speech."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import ConfigError
from firstwords.losses.noise_contrastive import NoiseContrastConfig, first_step
from firstwords.models.wav2vec2 import Encoded
from firstwords.nn.context_network import ContextNetwork, ContextNetworkConfig
from firstwords.nn.dropout import dropout
from firstwords.nn.latent_encoder import LatentEncoder, LatentEncoderConfig


@dataclass(frozen=True)
class Wav2VecEncoderConfig:
    """Waveform to context: what features are taken from."""

    latent_encoder: LatentEncoderConfig = field(default_factory=LatentEncoderConfig)
    """The encoder network f: waveform to latents z."""
    context_network: ContextNetworkConfig = field(default_factory=ContextNetworkConfig)
    """The context network g: latents to context c."""
    latent_dropout: float = 0.0
    """On the latents that enter the context network. Source: fairseq (dropout_features)."""
    context_dropout: float = 0.0
    """On the context. Source: fairseq (dropout_agg)."""
    normalize_waveform: bool = False
    """Zero mean, unit variance per utterance: off in all published models."""
    normalize_epsilon: float = 1e-5
    """Added to that variance."""


@dataclass(frozen=True)
class Wav2VecConfig:
    """The pre-training model and its objective."""

    encoder: Wav2VecEncoderConfig = field(default_factory=Wav2VecEncoderConfig)
    """Waveform to context."""
    steps: int = 12
    """K, how many future latents are predicted. Source: wav2vec."""
    prediction_dropout: float = 0.0
    """On the predictions. Source: fairseq (dropout)."""
    contrast: NoiseContrastConfig = field(default_factory=NoiseContrastConfig)
    """Distractors and the kind of loss."""


class Predicted(NamedTuple):
    """What the loss needs of one forward pass."""

    predictions: Tensor
    """(B, T, K, D): what each frame expects its future latents to be."""
    targets: Tensor
    """(B, T, D): the latents."""
    lengths: Tensor
    """(B,) valid frames."""


class Wav2VecEncoder(nn.Module):
    """Encoder network and context network; the part that features come from."""

    def __init__(self, config: Wav2VecEncoderConfig) -> None:
        super().__init__()
        check_shares("encoder", config, "latent_dropout", "context_dropout")
        self.config = config
        self.feature_encoder = LatentEncoder(config.latent_encoder)
        self.context_network = ContextNetwork(config.context_network, self.feature_encoder.output_dim)
        self.dim = self.context_network.output_dim
        self.layers = len(config.context_network.channels)

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.feature_encoder.frames(samples)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        layer: int | None = None,
        states: list[Tensor] | None = None,
    ) -> Encoded:
        """Context of waveforms.

        Args:
            waveforms: (B, samples), 16 kHz, normalised if the configuration says so.
            lengths: (B,) valid samples; None means all. What lies beyond never changes the frames before.
            layer: stop after so many layers of the context network (0: the latents); None runs all.
            states: gets the latents and each layer's output appended.
        """
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        return self.contextualize(self.feature_encoder(waveforms, lengths), self.frames(lengths), layer, states)

    def contextualize(
        self, latents: Tensor, lengths: Tensor, layer: int | None = None, states: list[Tensor] | None = None
    ) -> Encoded:
        """Runs the context network over latents (B, T, C), or what replaces them, with `lengths` (B,) valid frames."""
        latents = dropout(latents, self.config.latent_dropout, self.training)
        context = self.context_network(latents, lengths, layer, states)
        return Encoded(dropout(context, self.config.context_dropout, self.training), lengths)


class StepPredictions(nn.Module):
    """K affine maps of context, one for each future step: the paper's h_k (section 2.2).

    All have one bias, as in the released models; the paper has one for each step. They start as torch's transposed
    convolution, which fairseq writes them as.
    """

    def __init__(self, dim: int, target_dim: int, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"model: steps, how many future latents are predicted, must be at least 1; found {steps}")
        self.weight = nn.Parameter(torch.empty(steps, target_dim, dim))
        self.bias = nn.Parameter(torch.empty(target_dim))
        bound = (target_dim * steps) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, context: Tensor) -> Tensor:
        """(B, T, C) to (B, T, K, D)."""
        steps = len(self.weight)
        values = F.linear(context, self.weight.flatten(0, 1), self.bias.repeat(steps))
        return values.unflatten(2, (steps, -1))


class Wav2Vec(nn.Module):
    """The pre-training model: encoder, and what it expects to hear next."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        check_shares("model", config, "prediction_dropout")
        self.config = config
        self.encoder = Wav2VecEncoder(config.encoder)
        self.predictions = StepPredictions(self.encoder.dim, self.encoder.feature_encoder.output_dim, config.steps)

    @property
    def offset(self) -> int:
        """Frames from a context to the first that it predicts (3 for the published models)."""
        features = self.encoder.feature_encoder
        return first_step(self.config.contrast, features.receptive_field, features.hop)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Predicted:
        """Predictions and targets of waveforms (B, samples) with `lengths` (B,) valid samples."""
        latents = self.encoder.feature_encoder(waveforms, lengths)
        frames = self.encoder.frames(lengths)
        predictions = self.predictions(self.encoder.contextualize(latents, frames).features)
        return Predicted(dropout(predictions, self.config.prediction_dropout, self.training), latents, frames)
