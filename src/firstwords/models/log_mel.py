"""Log-mel bands where an encoder is expected: the baseline of a probe, for which nothing was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.models.wav2vec2 import Encoded
from firstwords.nn.log_mel import STACKED, LogMel

LEVEL, SPREAD = -4.0, 4.0
"""Middle and spread of the bands' logarithms in speech, roughly: constants, so that nothing depends on a corpus."""


@dataclass(frozen=True)
class LogMelConfig:
    """Bands as features."""

    normalize: bool = False
    """Zero mean and unit variance of each band over the utterance. Then their mean over time says nothing: only for
    heads that look at frames."""
    normalize_waveform: bool = False
    """Bands are taken from the waveform as it was recorded."""
    normalize_epsilon: float = 1e-5
    """Of that normalisation."""


class LogMelEncoder(nn.Module):
    """Waveforms (B, samples) to (B, T, 160): 80 log-mel bands, two windows to a frame of 20 ms (see nn.log_mel)."""

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_encoder = LogMel()
        self.dim = self.feature_encoder.output_dim
        self.layers = 0

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
        """The bands (B, T, 160), zero beyond `lengths` (B,) samples; there is but this layer, which `states` gets."""
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        fixed = None
        if not self.config.normalize:
            bands = self.feature_encoder.output_dim // STACKED
            fixed = torch.full((bands,), LEVEL), torch.full((bands,), SPREAD**2)
        features = self.feature_encoder(waveforms, lengths, fixed)
        if states is not None:
            states.append(features)
        return Encoded(features, self.frames(lengths))
