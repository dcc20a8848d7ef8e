"""n-gram models of a large text: time and memory to estimate, write, read and ask.

python benchmarks/language_model.py --words 10000000 --source english.txt

Each step runs in a process of its own, so that its peak memory is its own. The text is made first: "pieces" joins
pieces of the source of 2 to 6 words, with a rare word between them now and then, so that it has a language's short
n-grams and never repeats a long one; "zipf" draws each word by itself from 300,000, which has as many different
n-grams as a text can have.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.text.normalization import normalize_text
from firstwords.text.sentences import Spelling, read_sentences

RARE_WORDS = 300_000


@dataclass
class Settings:
    """Which text, which model."""

    source: Path
    """A text with a sentence a line."""
    kinds: tuple[Literal["pieces", "zipf"], ...] = ("pieces", "zipf")
    """Which texts to make of it."""
    words: int = 10_000_000
    """How long."""
    order: int = 4
    """Of the model."""
    asked: int = 200_000
    """Words to score."""
    out: Path | None = None
    """Write the figures here as JSON, too."""


def main(settings: Settings) -> None:
    table = Table("text", "step", "wall s", "processor s", "peak GB", "", title=f"{settings.words:,} words")
    figures = []
    for kind in settings.kinds:
        with tempfile.TemporaryDirectory() as folder:
            text, arpa = Path(folder) / f"{kind}.txt", Path(folder) / "lm.arpa"
            write_text(text, kind, settings)
            for step, name in ((make, "estimate and write"), (ask, "read and ask")):
                one = measured(step, text, arpa, settings)
                figures.append({"text": kind, "step": name} | one)
                cells = (f"{one[key]:.1f}" for key in ("wall", "processor", "peak_gb"))
                table.add_row(kind, name, *cells, one["said"])
    Console().print(table)
    if settings.out is not None:
        settings.out.write_text(json.dumps(figures, indent=1) + "\n")


def write_text(path: Path, kind: str, settings: Settings) -> None:
    """The text of so many words, the same every time."""
    random = np.random.default_rng(1)
    chances = np.cumsum(1 / np.arange(1, RARE_WORDS + 1) ** 1.05)
    chances /= chances[-1]
    source = [word for line in settings.source.read_text(encoding="utf-8").splitlines() for word in spelt(line)]

    def sentences() -> Iterator[list[str]]:
        while True:
            if kind == "zipf":
                drawn = np.searchsorted(chances, random.random(int(random.integers(5, 25))))
                yield [f"w{number}" for number in drawn]
                continue
            sentence: list[str] = []
            for _ in range(int(random.integers(2, 6))):
                first = int(random.integers(0, len(source) - 9))
                sentence += source[first : first + int(random.integers(2, 7))]
                if random.random() < 0.15:
                    sentence.append(f"w{np.searchsorted(chances, random.random())}")
            yield sentence

    left = settings.words
    with open(path, "w", encoding="utf-8") as lines:
        for sentence in sentences():
            if left <= 0:
                return
            lines.write(" ".join(sentence[:left]) + "\n")
            left -= len(sentence)


def spelt(line: str) -> list[str]:
    return normalize_text(line).split()


def make(text: Path, arpa: Path, settings: Settings) -> str:
    model, summaries = estimate(Spelling()(read_sentences([text])), settings.order)
    model.save(arpa)
    return f"{sum(one.kept for one in summaries):,} n-grams, {arpa.stat().st_size / 1e6:.0f} MB"


def ask(text: Path, arpa: Path, settings: Settings) -> str:
    begun = time.process_time()
    model = NgramModel.load(arpa)
    read = time.process_time() - begun
    words: list[str] = []
    with open(text, encoding="utf-8") as lines:
        for line in lines:
            words += line.split()
            if len(words) >= settings.asked:
                break
    ids = [model.id(word) for word in words]
    begun, state = time.process_time(), model.start
    for word in ids:
        _, state = model.score(state, word)
    each = (time.process_time() - begun) / len(ids)
    return f"read in {read:.0f} s, {1e6 * each:.1f} us a word (processor)"


def measured(step: Any, *arguments: Any) -> dict[str, Any]:
    """What a step says, its seconds and its peak memory, from a process of its own."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_member, args=(there, step, *arguments))
    process.start()
    there.close()
    result: dict[str, Any] = here.recv()
    process.join()
    return result


def _member(answer: Connection, step: Any, *arguments: Any) -> None:
    begun = time.perf_counter()
    said = step(*arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1e9 if sys.platform == "darwin" else 1e6
    answer.send(
        {
            "said": said,
            "wall": time.perf_counter() - begun,
            "processor": used.ru_utime + used.ru_stime,
            "peak_gb": used.ru_maxrss / unit,
        }
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
