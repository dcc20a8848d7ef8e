"""firstwords tune RUN CORPUS --split dev --lm lm.arpa"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.cli.options import DecoderOptions, decoder_config, parse, several
from firstwords.decoding.options import DecoderConfig
from firstwords.decoding.tuned import remember
from firstwords.errors import AudioError
from firstwords.evaluation import in_splits
from firstwords.listening import listen
from firstwords.recognizer import Recognizer
from firstwords.report.tuning import print_tuning
from firstwords.training.data import read_corpora
from firstwords.tuning import TuneConfig, at_edges, tune


@dataclass
class Arguments:
    """Language-model weight and word score (and beam) that make the fewest word errors.

    They are kept in the recogniser's folder and used wherever it is given the same language model again.
    """

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run, or a checkpoint."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests with transcripts."""
    split: str = "dev"
    """Which utterances; "all" takes every one. Never the ones that are tested on."""
    decoder: DecoderOptions = field(default_factory=DecoderConfig)
    search: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    json: Path | None = None
    """Write all trials here too."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""


def run(arguments: list[str]) -> None:
    """Listens once, tries, prints, remembers."""
    chosen = parse(Arguments, arguments, "tune", flags=True)
    wanted = in_splits(
        read_corpora(chosen.corpus), None if chosen.split == "all" else chosen.split, ", ".join(map(str, chosen.corpus))
    )
    config = decoder_config(chosen.decoder)
    recognizer = Recognizer.load(chosen.recognizer, chosen.device)

    def skip(name: str, error: AudioError) -> None:
        print(f"left out: {error}", file=sys.stderr)

    heard = listen(recognizer, wanted, skip)
    found = tune(heard, recognizer.alphabet, config, chosen.search, recognizer.transitions)
    print_tuning(found, Console(highlight=False))
    best, calibration = found.best, found.calibration
    for advice in at_edges(best.settings, chosen.search):
        print(advice)
    temperature = calibration.temperature if calibration else 1.0
    place = remember(chosen.recognizer, config, best.settings, best.errors.rate, len(heard), temperature)
    print(f"wrote {place}; used from now on with {config.lm}")
    if chosen.json is not None:
        values = [asdict(trial) | {"error_rate": trial.errors.rate} for trial in found.trials]
        chosen.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
