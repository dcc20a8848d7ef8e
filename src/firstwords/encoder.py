"""A pre-trained encoder for other people's models: features of any layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.checkpoints.models import load_encoder_weights
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.nn.lengths import normalize_waveform


class Encoder(nn.Module):
    """A pre-trained encoder as a torch module: waveforms (B, samples) to features (B, T, D)."""

    def __init__(self, encoder: Wav2Vec2Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim
        self.layers = encoder.config.transformer.layers

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.encoder.frames(samples)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None, layer: int | None = None) -> Tensor:
        """Features (B, T, D).

        Args:
            waveforms: (B, samples) at 16 kHz, as recorded: the model's own normalisation is applied here.
            lengths: (B,) valid samples; None means all.
            layer: output of that block (1 to `layers`); 0 is the input of the first; None is the model's output, after
                its final norm where it has one. fairseq counts blocks from 0: its layer 14 is 15 here.
        """
        if layer is not None and not 0 <= layer <= self.layers:
            raise ValueError(f"layer {layer}: this encoder has 0 to {self.layers}")
        if self.encoder.config.normalize_waveform:
            waveforms = normalize_waveform(waveforms, lengths, self.encoder.config.normalize_epsilon)
        return self.encoder(waveforms, lengths, layer=layer).features


def load_encoder(place: str | Path, device: str = "auto", adapter: str | None = None) -> Encoder:
    """The encoder of a pre-training or fine-tuning run, or of a model that others trained, in evaluation mode.

    Raises:
        CheckpointError: nothing there, cut short, or without an encoder.
    """
    encoder, _ = load_encoder_weights(place, adapter)
    return Encoder(encoder).eval().to(choose_device(device))


def choose_device(device: str) -> str:
    """What "auto" means here: a GPU if there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
