"""Heads on a pre-trained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Encoder
from firstwords.nn.dropout import dropout


@dataclass(frozen=True)
class CTCConfig:
    """A recogniser's network."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Waveform to context representations."""
    labels: int = 32
    """Outputs, the blank included."""
    final_dropout: float = 0.0
    """Before the output layer. Source: fairseq."""


class Emissions(NamedTuple):
    """What CTC reads."""

    logits: Tensor
    """(B, T, V), not normalised."""
    lengths: Tensor
    """(B,) valid frames."""


class CTCModel(nn.Module):
    """Encoder and one linear layer over labels (wav2vec 2.0 section 3.3). The output layer starts Xavier-uniform."""

    def __init__(self, config: CTCConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Wav2Vec2Encoder(config.encoder)
        self.output = nn.Linear(self.encoder.dim, config.labels)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def front(self) -> Any:
        """What says how samples become frames: `hop`, `receptive_field`, `frames`."""
        return self.encoder.feature_encoder

    def transition_scores(self) -> None:
        """CTC has none."""
        return None

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        kept: Sequence[bool] | None = None,
        frozen: bool = False,
    ) -> Emissions:
        """Logits of waveforms (B, samples); the arguments are those of Wav2Vec2Encoder.

        `frozen` trains the output layer only: the encoder runs without gradients, but with its dropout and masks.
        """
        with torch.no_grad() if frozen else nullcontext():
            features, frames = self.encoder(waveforms, lengths, mask, channel_mask, kept=kept)
        features = dropout(features, self.config.final_dropout, self.training)
        return Emissions(self.output(features), frames)
