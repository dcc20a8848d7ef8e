"""BERT over codes and the model that its codes come from, as one checkpoint.

A run of BERT keeps the latter in a file of its own, written once, since it never changes; whoever opens the run gets
both.
"""

from __future__ import annotations

from pathlib import Path

from firstwords.checkpoints.own import Checkpoint, load_weights, read_checkpoint
from firstwords.config import from_dict
from firstwords.errors import CheckpointError
from firstwords.models.code_bert import CodeBert, CodeBertConfig, CodeBertEncoder, CodeVocabulary
from firstwords.models.vq_wav2vec import VqWav2Vec
from firstwords.models.wav2vec2 import Wav2Vec2

KIND = "code-bert"
CODES = "codes.safetensors"
"""Beside a run's checkpoints: the model that makes its codes."""


def with_codes(bert: Checkpoint, path: Path) -> Checkpoint:
    """A run's BERT, read from `path`, together with the model in the file beside it.

    Raises:
        CheckpointError: there is none.
    """
    if not (path.parent / CODES).is_file():
        raise CheckpointError(f"{path}: {CODES}, the model that its codes come from, is no longer beside it")
    return joined(bert, read_checkpoint(path.parent / CODES))


def joined(bert: Checkpoint, codes: Checkpoint) -> Checkpoint:
    """Both as one checkpoint, which needs no other file."""
    weights = {f"bert.{name}": value for name, value in bert.weights.items()}
    weights |= {f"codes.{name}": value for name, value in codes.weights.items()}
    config = {"bert": bert.config, "codes": codes.config, "codes_kind": codes.kind}
    return Checkpoint(KIND, config, weights, state=bert.state)


def is_joined(checkpoint: Checkpoint) -> bool:
    """Whether the model that makes the codes is in the checkpoint."""
    return "codes" in checkpoint.config


def codes_of(checkpoint: Checkpoint) -> Checkpoint:
    """The model that makes the codes, as the checkpoint that it was."""
    start = "codes."
    weights = {name.removeprefix(start): v for name, v in checkpoint.weights.items() if name.startswith(start)}
    return Checkpoint(checkpoint.config["codes_kind"], checkpoint.config["codes"], weights)


def code_bert_encoder(checkpoint: Checkpoint, source: VqWav2Vec | Wav2Vec2, where: str) -> CodeBertEncoder:
    """The encoder of a joined checkpoint, whose `codes_of` has become `source`.

    Raises:
        CheckpointError: another shape, or a vocabulary of other codes.
    """
    vocabulary = CodeVocabulary.of_names(checkpoint.state["vocabulary"])
    bert = CodeBert(from_dict(CodeBertConfig, checkpoint.config["bert"], where), len(vocabulary))
    start = "bert."
    weights = {name.removeprefix(start): v for name, v in checkpoint.weights.items() if name.startswith(start)}
    load_weights(bert, weights, where)
    quantizer = source.config.quantizer if isinstance(source, Wav2Vec2) else source.config.encoder.quantizer
    check_fit(vocabulary, quantizer.groups, quantizer.entries, where)
    return CodeBertEncoder(source, bert, vocabulary)


def check_fit(vocabulary: CodeVocabulary, groups: int, entries: int, where: str) -> None:
    """Raises CheckpointError where combinations cannot be of a model with so many codebooks and entries."""
    largest = int(vocabulary.combinations.max())
    if vocabulary.groups != groups or largest >= entries:
        raise CheckpointError(
            f"{where}: its codes are {vocabulary.groups} a frame, up to {largest}; those of the model that is to make "
            f"them are {groups} a frame, up to {entries - 1}: not the one that belongs to it"
        )
