"""Models of a few channels, of every kind that is converted."""

from __future__ import annotations

from pathlib import Path

import torch

from firstwords.checkpoints.own import Checkpoint, write_checkpoint
from firstwords.config import to_dict
from firstwords.models.classifier import Classifier, ClassifierConfig, HeadConfig
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2, Wav2Vec2Config, Wav2Vec2Encoder
from firstwords.nn.conformer import ConformerConfig
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.quantizer import QuantizerConfig
from firstwords.nn.transformer import TransformerConfig
from firstwords.text.alphabet import BLANK, Alphabet

LETTERS = Alphabet((BLANK, "|", *"abcdefg"))


def encoder_config(
    vox: bool = False,
    buckets: int = 0,
    adapter: int = 0,
    latent_norm: bool = True,
    layers: int = 2,
    conformer: ConformerConfig | None = None,
) -> EncoderConfig:
    """base-style or vox-style; with WavLM's positions, adapters, no norm on the latents, or Conformer blocks."""
    return EncoderConfig(
        feature_encoder=FeatureEncoderConfig(channels=(8,) * 7, norm="layer" if vox else "group", bias=vox),
        transformer=TransformerConfig(
            layers=layers,
            dim=16,
            feed_forward_dim=24,
            heads=2,
            norm_first=vox,
            position_kernel=8,
            position_groups=4,
            relative_buckets=buckets,
            relative_distance=40,
            adapter_dim=adapter,
            block="conformer" if conformer else "transformer",
            conformer=conformer or ConformerConfig(),
        ),
        normalize_waveform=vox,
        latent_norm=latent_norm,
    )


KINDS = {
    "base": encoder_config(),
    "vox": encoder_config(vox=True),
    "wavlm": encoder_config(buckets=12),
    "adapters": encoder_config(vox=True, adapter=4),
    "distilled hubert": encoder_config(latent_norm=False),
    "conformer": encoder_config(vox=True, conformer=ConformerConfig("relative", kernel=7)),
    "rotary conformer": encoder_config(vox=True, conformer=ConformerConfig("rotary", kernel=5, rotary_base=100)),
    "conformer without positions": encoder_config(conformer=ConformerConfig("none", activation="gelu")),
}


LABELS = ["cat", "dog", "über uns"]
HEADS = {
    "mean": HeadConfig(projection=6),
    "mean of the last": HeadConfig(projection=6, layers="last"),
    "frames": HeadConfig(kind="frames"),
    "x-vector": HeadConfig(
        kind="x-vector", tdnn_dims=(8, 7, 6), tdnn_kernels=(5, 3, 1), tdnn_dilations=(1, 2, 1), embedding=5
    ),
}


def recogniser(config: EncoderConfig, alphabet: Alphabet = LETTERS, seed: int = 0) -> Checkpoint:
    """Random weights, adapters and norms included."""
    torch.manual_seed(seed)
    model = CTCModel(CTCConfig(config, len(alphabet)))
    return Checkpoint("ctc", to_dict(model.config), shaken(model), state={"alphabet": alphabet.to_dict()})


def pretrained(config: EncoderConfig) -> Checkpoint:
    torch.manual_seed(0)
    model = Wav2Vec2(Wav2Vec2Config(config, QuantizerConfig(entries=6), final_dim=8))
    return Checkpoint("wav2vec2", to_dict(model.config), shaken(model))


def encoder(config: EncoderConfig) -> Checkpoint:
    torch.manual_seed(0)
    model = Wav2Vec2Encoder(config)
    return Checkpoint("encoder", to_dict(config), {f"encoder.{name}": value for name, value in shaken(model).items()})


def classifier(kind: str, head: str) -> Checkpoint:
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig("wav2vec2", to_dict(KINDS[kind]), HEADS[head], 3))
    return Checkpoint("classifier", to_dict(model.config), shaken(model), state={"labels": LABELS})


def shaken(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights with noise on each, so that nothing is 0 or 1 by its start."""
    return {name: value + 0.1 * torch.rand_like(value) for name, value in model.state_dict().items()}


def saved(checkpoint: Checkpoint, folder: Path) -> Path:
    """As a run of ours keeps it."""
    write_checkpoint(folder / "best.safetensors", checkpoint)
    return folder
