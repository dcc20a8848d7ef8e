"""Encoders of every kind under one roof: what a checkpoint that has one inside needs to say to get it back.

An encoder has `config`, `feature_encoder` (with `hop` and `receptive_field` in samples), `dim`, `layers` (blocks),
`frames(samples)`, and takes waveforms, lengths and a list `states` as Wav2Vec2Encoder does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from firstwords.config import from_dict, to_dict
from firstwords.errors import CheckpointError
from firstwords.models.code_bert import CodeBert, CodeBertConfig, CodeBertEncoder, CodeVocabulary
from firstwords.models.log_mel import LogMelConfig, LogMelEncoder
from firstwords.models.vq_wav2vec import VqWav2Vec, VqWav2VecConfig, VqWav2VecEncoder, VqWav2VecEncoderConfig
from firstwords.models.wav2vec import Wav2VecEncoder, Wav2VecEncoderConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2, Wav2Vec2Config, Wav2Vec2Encoder


@dataclass(frozen=True)
class CodeBertEncoderConfig:
    """BERT over codes with what makes its codes."""

    bert: CodeBertConfig = field(default_factory=CodeBertConfig)
    """The network."""
    vocabulary: tuple[str, ...] = ()
    """Its tokens, as `CodeVocabulary.names` has them."""
    codes_kind: str = "vq-wav2vec"
    """The model that makes the codes: "vq-wav2vec" or "wav2vec2"."""
    codes: Any = None
    """And its configuration."""


def _code_bert(config: CodeBertEncoderConfig) -> CodeBertEncoder:
    vocabulary = CodeVocabulary.of_names(config.vocabulary)
    source: VqWav2Vec | Wav2Vec2
    if config.codes_kind == "wav2vec2":
        source = Wav2Vec2(from_dict(Wav2Vec2Config, config.codes, "encoder code-bert: codes"))
    else:
        source = VqWav2Vec(from_dict(VqWav2VecConfig, config.codes, "encoder code-bert: codes"))
    return CodeBertEncoder(source, CodeBert(config.bert, len(vocabulary)), vocabulary)


ENCODERS: dict[str, tuple[type[Any], Any]] = {
    "wav2vec2": (EncoderConfig, Wav2Vec2Encoder),
    "wav2vec": (Wav2VecEncoderConfig, Wav2VecEncoder),
    "vq-wav2vec": (VqWav2VecEncoderConfig, VqWav2VecEncoder),
    "code-bert": (CodeBertEncoderConfig, _code_bert),
    "log_mel": (LogMelConfig, LogMelEncoder),
}
"""Configuration of each kind, and what makes a module of it."""


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
    made: nn.Module = module(config if isinstance(config, settings) else from_dict(settings, config, f"encoder {kind}"))
    return made


def encoder_kind(encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """What `build_encoder` needs to make one like this."""
    if isinstance(encoder, CodeBertEncoder):
        made_by = "wav2vec2" if isinstance(encoder.source, Wav2Vec2) else "vq-wav2vec"
        names = tuple(encoder.vocabulary.names())
        return "code-bert", to_dict(CodeBertEncoderConfig(encoder.bert.config, names, made_by,
                                                          to_dict(encoder.source.config)))  # fmt: skip
    for kind, (_, module) in ENCODERS.items():
        if type(encoder) is module:
            return kind, to_dict(encoder.config)
    raise CheckpointError(f"no head can stand on a {type(encoder).__name__} yet; there are: {', '.join(ENCODERS)}")
