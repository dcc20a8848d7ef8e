"""firstwords evaluate RUN CORPUS --split test"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from firstwords.cli.options import parse, several
from firstwords.evaluation import evaluate, in_splits
from firstwords.recognizer import Recognizer
from firstwords.report.evaluation import print_score
from firstwords.training.data import read_corpora


@dataclass
class Arguments:
    """Word and character error rates of a recogniser, with intervals, commonest errors, and speakers."""

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests with transcripts."""
    split: str = "test"
    """Which utterances; "all" takes every one. A corpus without splits is taken whole."""
    unknown: Literal["error", "count"] = "error"
    """References with characters that the alphabet lacks: refuse, or count what cannot be written as errors."""
    json: Path | None = None
    """Write everything here too, every utterance with its texts."""
    worst: int = 5
    """Utterances to show word by word, those with the most errors."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""


def run(arguments: list[str]) -> None:
    """Transcribes, scores, prints."""
    chosen = parse(Arguments, arguments, "evaluate", flags=True)
    utterances = read_corpora(chosen.corpus)
    wanted = in_splits(utterances, None if chosen.split == "all" else chosen.split, ", ".join(map(str, chosen.corpus)))
    recognizer = Recognizer.load(chosen.recognizer, chosen.device, chosen.adapter)
    result = evaluate(recognizer, wanted, chosen.unknown, chosen.batch_seconds)
    print_score(result.score, Console(highlight=False), worst=chosen.worst)
    if result.untranscribed:
        print(f"{result.untranscribed} utterances without a transcript were left out", file=sys.stderr)
    for reason in result.skipped.values():
        print(f"left out: {reason}", file=sys.stderr)
    if chosen.json is not None:
        values = result.score.to_dict() | {"skipped": result.skipped, "untranscribed": result.untranscribed}
        chosen.json.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
