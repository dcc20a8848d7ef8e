"""Encoders of every kind by name: what a checkpoint with an encoder inside has to say to get it back.

An encoder has `config` (with `normalize_waveform` and `normalize_epsilon`), `feature_encoder` (with `hop` and
`receptive_field` in samples), `dim`, `layers`, and `frames(samples)`; it takes waveforms, lengths, `layer` and `states`
as Wav2Vec2Encoder does.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from firstwords.config import from_dict, to_dict
from firstwords.errors import CheckpointError
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Encoder

ENCODERS: dict[str, tuple[type[Any], type[nn.Module]]] = {"wav2vec2": (EncoderConfig, Wav2Vec2Encoder)}
"""Configuration and module of each kind."""


def build_encoder(kind: str, config: Any) -> nn.Module:
    """An encoder with random weights.

    Args:
        kind: a key of `ENCODERS`.
        config: a dataclass, or plain containers.

    Raises:
        CheckpointError: there is no such kind.
    """
    if kind not in ENCODERS:
        raise CheckpointError(f"no encoder of kind {kind!r}; known: {', '.join(ENCODERS)}")
    settings, module = ENCODERS[kind]
    return module(config if isinstance(config, settings) else from_dict(settings, config, f"encoder {kind}"))


def encoder_kind(encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """The kind and configuration with which `build_encoder` makes one like this. Raises CheckpointError."""
    for kind, (_, module) in ENCODERS.items():
        if type(encoder) is module:
            return kind, to_dict(encoder.config)
    raise CheckpointError(f"no model can stand on a {type(encoder).__name__}; known: {', '.join(ENCODERS)}")
