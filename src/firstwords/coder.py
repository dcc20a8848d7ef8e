"""What a pre-trained model's own quantiser makes of recordings: codes, one entry of each codebook for every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.checkpoints.models import coding_of
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.encoder import choose_device
from firstwords.models.vq_wav2vec import VqWav2Vec, VqWav2VecEncoder
from firstwords.models.wav2vec2 import Wav2Vec2, Wav2Vec2Encoder
from firstwords.nn.kmeans_quantizer import KMeansQuantizer
from firstwords.nn.lengths import normalize_waveform
from firstwords.nn.quantizer import GumbelQuantizer, QuantizerConfig


class Coder(nn.Module):
    """A model with a quantiser as a torch module: waveforms (B, samples) to codes (B, T, G).

    wav2vec 2.0 and vq-wav2vec quantise the latents, before what sees their context; the code is the entry with the
    highest logit, or with vq-wav2vec's k-means the nearest.
    """

    def __init__(self, model: Wav2Vec2 | VqWav2Vec) -> None:
        """Raises ValueError where the model's targets are not quantised."""
        super().__init__()
        self.encoder = model.encoder
        self.quantizer: GumbelQuantizer | KMeansQuantizer
        chosen: QuantizerConfig
        if isinstance(model, VqWav2Vec):
            self.quantizer, chosen = model.encoder.quantizer, model.config.encoder.quantizer
        else:
            if not model.config.quantize_targets:
                raise ValueError("a model trained on continuous targets has no codes")
            self.quantizer, chosen = model.quantizer, model.config.quantizer
        self.groups: int = chosen.groups
        """Codebooks G."""
        self.entries: int = chosen.entries
        """Entries V of each codebook."""
        self.stride: int = model.encoder.feature_encoder.hop
        """Samples from one frame to the next."""
        self.receptive_field: int = model.encoder.feature_encoder.receptive_field
        """Samples needed for one frame."""

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.encoder.frames(samples)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codes (B, T, G) int64, each from 0 to V - 1.

        Args:
            waveforms: (B, samples) at 16 kHz, as recorded: the model's own normalisation is applied here.
            lengths: (B,) valid samples; None means all.
        """
        config = self.encoder.config
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        if config.normalize_waveform:
            waveforms = normalize_waveform(waveforms, lengths, config.normalize_epsilon)
        if isinstance(self.encoder, VqWav2VecEncoder):
            return self.encoder.codes(waveforms, lengths)
        return self.codes(self.encoder.feature_encoder(waveforms, lengths))

    def codes(self, latents: Tensor) -> Tensor:
        """Codes (..., G) of latents (..., C) of wav2vec 2.0, which depend on nothing beside them."""
        assert isinstance(self.encoder, Wav2Vec2Encoder) and isinstance(self.quantizer, GumbelQuantizer)
        logits = self.quantizer.entry_logits(self.encoder.latent_norm(latents).flatten(0, -2))
        return logits.argmax(-1).view(*latents.shape[:-1], self.groups)


def load_coder(place: str | Path, device: str = "auto") -> Coder:
    """The quantiser of a pre-training run, or of a pre-trained model of others, with what is before it.

    Raises:
        CheckpointError: nothing there, cut short, or a model without a quantiser.
    """
    checkpoint, where = open_checkpoint(place)
    return Coder(coding_of(checkpoint, where)).eval().to(choose_device(device))
