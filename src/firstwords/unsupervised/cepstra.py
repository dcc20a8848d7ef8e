"""Cepstra where an encoder is expected: what wav2vec-U reads when no model has listened long enough to be read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from firstwords.nn.log_mel import HOP, WINDOW
from firstwords.nn.mfcc import CEPSTRA, mfcc

MFCC = "mfcc"
"""What is named instead of an encoder."""
WEIGHTS = (1.0, 0.3, 0.1)
"""Of cepstra, deltas and their deltas, once each has unit variance. Ours: docs/results/unsupervised.md."""
LEVEL = 0.05
"""Root mean square that every utterance is brought to first, so that the least energy that bands can have, some 60 dB
below its speech, is the same for quiet and for loud recordings. Ours."""


class Cepstra(nn.Module):
    """39 Mel-frequency cepstra and derivatives every 10 ms, mean 0 and the deviations `WEIGHTS` in each utterance.

    Args:
        plain: the 13 cepstra as they are, for whoever maps them by speaker (`voices.py`).
    """

    layers = 0
    stride = HOP

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.dim = CEPSTRA if plain else 3 * CEPSTRA

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give."""
        return (samples - WINDOW) // HOP + 1

    def forward(self, waveforms: Tensor, lengths: Tensor, layer: int | None = None) -> Tensor:
        """(B, samples) at 16 kHz and (B,) to (B, T, dim), zeros in the padding; there is no layer but 0."""
        weights = torch.tensor(WEIGHTS, device=waveforms.device).repeat_interleave(CEPSTRA)
        heard = []
        for samples, length in zip(waveforms, lengths.tolist(), strict=True):
            heard_samples = samples[:length].float()
            values = mfcc(heard_samples * (LEVEL / (heard_samples.square().mean().sqrt() + 1e-9)))
            if self.plain:
                heard.append(values[:, :CEPSTRA])
                continue
            deviation, mean = torch.std_mean(values, 0, correction=0)
            heard.append((values - mean) / (deviation + 1e-5) * weights)
        return nn.utils.rnn.pad_sequence(heard, batch_first=True)
