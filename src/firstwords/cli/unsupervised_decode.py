"""firstwords unsupervised decode RUN CORPUS"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from firstwords.cli.options import parse, several
from firstwords.corpus.manifest import MANIFEST_NAME, write_manifest
from firstwords.errors import CorpusError
from firstwords.evaluation import in_splits
from firstwords.training.data import Skipped, read_corpora, with_durations
from firstwords.unsupervised.decode import (
    PhoneModel,
    ReadingConfig,
    check_reading,
    emissions_of,
    features_of,
    labelled,
    prepared_features,
    rates_of,
    read_emissions,
    write_decoded,
)


@dataclass
class Arguments:
    """What the chosen member of a sweep hears in recordings: words, or phones.

    Where a manifest has transcripts, error rates are printed at the end.
    """

    model: tyro.conf.Positional[Path]
    """A run of `firstwords unsupervised train`."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests."""
    split: str = "all"
    """Which utterances; "all" takes every one."""
    out: Path | None = None
    """A file to write to; ending in .jsonl it gets JSON Lines with words and phones, and a folder gets a corpus
    manifest with what was read as transcripts. Without it: text to the terminal."""
    format: Literal["text", "jsonl"] | None = None
    """Of the file or terminal; without it as the file's name says."""
    reading: tyro.conf.OmitArgPrefixes[ReadingConfig] = field(default_factory=ReadingConfig)
    prepared: Path | None = None
    """The prepared folder, where it is no longer where training found it."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""


def run(arguments: list[str]) -> int:
    chosen = parse(Arguments, arguments, "unsupervised decode", flags=True)
    check_reading(chosen.reading)
    model = PhoneModel(chosen.model, chosen.prepared, chosen.device)
    skipped = Skipped()
    split = None if chosen.split == "all" else chosen.split
    where = ", ".join(map(str, chosen.corpus))
    utterances = with_durations(in_splits(read_corpora(chosen.corpus), split, where), skipped)
    rate = model.rate(chosen.reading.read)
    with tempfile.TemporaryDirectory() as scratch:
        same = [str(place.resolve()) for place in chosen.corpus] == model.prepared.facts["corpora"]
        features = prepared_features(model.prepared, utterances, rate) if same else None
        if features is None:
            features = features_of(model.prepared, utterances, rate, Path(scratch), skipped, chosen.device)
        if not len(features):
            raise CorpusError(
                f"{where}: none of {len(utterances)} utterances has speech that could be found\n{skipped}"
            )
        emissions = emissions_of(model, features, chosen.reading.read)
        decoded = read_emissions(model.prepared, features.ids, emissions, chosen.reading)
    if chosen.out is not None and (chosen.out.is_dir() or not chosen.out.suffix):
        write_manifest(labelled(decoded, utterances), chosen.out / MANIFEST_NAME)
        print(f"written: {chosen.out / MANIFEST_NAME}", file=sys.stderr)
    else:
        kind = chosen.format or ("jsonl" if chosen.out is not None and chosen.out.suffix == ".jsonl" else "text")
        with nullcontext(sys.stdout) if chosen.out is None else open(chosen.out, "w", encoding="utf-8") as lines:
            write_decoded(decoded, utterances, lines, kind)
    if skipped:
        print(skipped, file=sys.stderr)
    if decoded.settings is not None:
        print(f"weights: --lm-weight {decoded.settings.lm_weight:g} --word-score {decoded.settings.word_score:g}",
              file=sys.stderr)  # fmt: skip
    rates = rates_of(model.prepared, utterances, decoded)
    for name, value in (("PER", rates.phones), ("WER", rates.words)):
        if value is not None:
            print(f"{name} {value:.1%}", file=sys.stderr)
    return 0
