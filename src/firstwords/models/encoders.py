"""Encoders of every kind under one roof: what a checkpoint that has one inside needs to say to get it back.

An encoder has `config`, `feature_encoder` (with `hop` and `receptive_field` in samples), `dim`, `layers` (blocks),
`frames(samples)`, and takes waveforms, lengths and a list `states` as Wav2Vec2Encoder does.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from firstwords.config import from_dict, to_dict
from firstwords.errors import CheckpointError
from firstwords.models.log_mel import LogMelConfig, LogMelEncoder
from firstwords.models.wav2vec import Wav2VecEncoder, Wav2VecEncoderConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Encoder

ENCODERS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "wav2vec2": (EncoderConfig, Wav2Vec2Encoder),
    "wav2vec": (Wav2VecEncoderConfig, Wav2VecEncoder),
    "log_mel": (LogMelConfig, LogMelEncoder),
}
"""Configuration and module of each kind."""


def build_encoder(kind: str, config: Any) -> nn.Module:
    """A new encoder with random weights.

    Args:
        kind: a key of `ENCODERS`.
        config: its configuration, as a dataclass or plain containers.

    Raises:
        CheckpointError: no such kind.
    """
    if kind not in ENCODERS:
        raise CheckpointError(f"no encoder of kind {kind!r}; there are: {', '.join(ENCODERS)}")
    settings, module = ENCODERS[kind]
    return module(config if isinstance(config, settings) else from_dict(settings, config, f"encoder {kind}"))


def encoder_kind(encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """What `build_encoder` needs to make one like this."""
    for kind, (_, module) in ENCODERS.items():
        if type(encoder) is module:
            return kind, to_dict(encoder.config)
    raise CheckpointError(f"no head can stand on a {type(encoder).__name__} yet; there are: {', '.join(ENCODERS)}")
