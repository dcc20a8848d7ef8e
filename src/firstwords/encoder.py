"""A pre-trained encoder for other people's models: features of any layer, or of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.checkpoints.models import AnyEncoder, load_any_encoder
from firstwords.nn.lengths import normalize_waveform


class Encoder(nn.Module):
    """A pre-trained encoder as a torch module: waveforms (B, samples) to features (B, T, D).

    Layers are numbered from 0, the input of the first block, to `layers`, the output of the last. Transformers'
    `hidden_states` are numbered alike; fairseq counts blocks from 0, so that its layer 14 is 15 here. In wav2vec
    (2019) the blocks are the layers of the context network: layer 0 is the latents z, None the context c.
    """

    def __init__(self, encoder: AnyEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim: int = encoder.dim
        """Width D."""
        self.layers: int = encoder.layers
        """Blocks."""
        self.stride: int = encoder.feature_encoder.hop
        """Samples from one frame to the next."""
        self.receptive_field: int = encoder.feature_encoder.receptive_field
        """Samples that the front end needs for one frame."""

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
        self.check_layer(layer)
        return self.encoder(self.normalize(waveforms, lengths), lengths, layer=layer).features

    def hidden_states(
        self, waveforms: Tensor, lengths: Tensor | None = None, layers: Sequence[int | None] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Several layers in one pass: a list of (B, T, D), and the valid frames (B,) of each utterance.

        Args:
            waveforms, lengths: as in `forward`.
            layers: numbers as in `forward`, in any order. None: all of them, `layers` + 1 in number, the last being
                the model's output (after its final norm where it has one), as transformers' `hidden_states` are.
        """
        wanted = self.all_layers if layers is None else list(layers)
        for layer in wanted:
            self.check_layer(layer)
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        states: list[Tensor] = []
        last = None if None in wanted else max(layer for layer in wanted if layer is not None)
        output = self.encoder(self.normalize(waveforms, lengths), lengths, layer=last, states=states).features
        return [output if layer is None else states[layer] for layer in wanted], self.frames(lengths)

    @property
    def all_layers(self) -> list[int | None]:
        """The layers of a weighted sum: 0 to `layers` - 1, and the model's output."""
        return [*range(self.layers), None]

    def check_layer(self, layer: int | None) -> None:
        """Raises ValueError where there is no such layer."""
        if layer is not None and not 0 <= layer <= self.layers:
            raise ValueError(f"layer {layer}: this encoder has 0 to {self.layers}")

    def normalize(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Waveforms (B, samples) as the model wants them."""
        if not self.encoder.config.normalize_waveform:
            return waveforms
        return normalize_waveform(waveforms, lengths, self.encoder.config.normalize_epsilon)


def load_encoder(place: str | Path, device: str = "auto", adapter: str | None = None) -> Encoder:
    """The encoder of a pre-training or fine-tuning run, or of a model that others trained, in evaluation mode.

    Raises:
        CheckpointError: nothing there, cut short, or without an encoder.
    """
    encoder, _ = load_any_encoder(place, adapter)
    return Encoder(encoder).eval().to(choose_device(device))


def choose_device(device: str) -> str:
    """What "auto" means here: a GPU if there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
