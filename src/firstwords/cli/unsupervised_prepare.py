"""firstwords unsupervised prepare --audio CORPUS --text TEXT --encoder MODEL --layer N --out FOLDER"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from firstwords.cli.options import parse, several
from firstwords.report.preparation import print_preparation
from firstwords.unsupervised.audio import AudioConfig
from firstwords.unsupervised.prepare import PrepareConfig, prepare
from firstwords.unsupervised.text import TextConfig


@dataclass
class Arguments:
    """Recordings and a text that have nothing to do with each other, to what the adversarial model learns from.

    Steps whose inputs have not changed are skipped, so the same command goes on where it was stopped.
    """

    audio: Annotated[tuple[Path, ...], several("CORPUS")]
    """Corpus folders or manifests. Transcripts are not used, but to log error rates beside."""
    text: Annotated[tuple[Path, ...], several("TEXT")]
    """Text files with a sentence a line (.gz too), of the language that is spoken."""
    encoder: str
    """A run, a checkpoint, a Hugging Face folder or name, a fairseq .pt; or "mfcc": cepstra instead of a model."""
    layer: int
    """Which block's output is taken, from 1: the middle ones tell phones apart best. fairseq's layer 14 is 15 here.
    With mfcc: 0."""
    out: Path
    """The prepared folder."""
    kind: Literal["1.0", "2.0"] = "1.0"
    """wav2vec-U 1.0 (segments of principal components), or 2.0 (features as they are)."""
    text_config: tyro.conf.OmitArgPrefixes[TextConfig] = field(default_factory=TextConfig)
    audio_config: tyro.conf.OmitArgPrefixes[AudioConfig] = field(default_factory=AudioConfig)
    train: tuple[str, ...] = PrepareConfig.train
    """Splits that train; utterances without any split always do."""
    valid: tuple[str, ...] = PrepareConfig.valid
    """Splits that models are compared on, without labels."""
    held_out: float = PrepareConfig.held_out
    """Share of the training utterances held out for that where there is no such split."""
    keep_raw: bool = False
    """1.0: keep the encoder's own features (raw/), for another number of clusters or dimensions."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""


def run(arguments: list[str]) -> int:
    chosen = parse(Arguments, arguments, "unsupervised prepare", flags=True)
    config = PrepareConfig(
        chosen.encoder, chosen.layer, chosen.kind, chosen.text_config, chosen.audio_config, chosen.train, chosen.valid,
        chosen.held_out, chosen.keep_raw, chosen.device,
    )  # fmt: skip
    found = prepare(chosen.audio, chosen.text, chosen.out, config)
    print_preparation(found.prepared, found.done, Console(highlight=False, soft_wrap=True))
    if found.skipped:
        print(found.skipped, file=sys.stderr)
    for warning in found.warnings:
        print(f"note: {warning}", file=sys.stderr)
    return 0
