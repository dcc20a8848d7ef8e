"""Are word times true? Forced alignment and CTC peaks against the times that espeak-ng reports of its own words.

    python experiments/alignment.py WORK [--text english.txt]

Everything is written under WORK and goes on where it was stopped. The stages:

corpus    sentences read by synthetic voices; the tests' sentences are unseen, their voices known
train     a small recogniser, on log-mel features, from random weights
measure   the error of word starts and ends, for peaks and forced alignment; table and JSON
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.commands import finetune
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.synthetic import demo_sentences, make_corpus, voices
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.confidence import calibration_error, fit_temperature
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.evaluation import evaluate, in_splits
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.recording import Recording
from firstwords.scoring import align
from firstwords.training.finetune_config import FinetuneConfig


@dataclass
class Settings:
    """Where, how long, which stage."""

    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    text: Path | None = None
    """More sentences to train on, one a line; the package brings 1,500."""
    sentences: int = 3000
    """Sentences to train on, at the most."""
    voices: int = 2
    """Voices that read them."""
    frontend: Literal["log_mel", "waveform"] = "log_mel"
    """What the network hears: log-mel learns from random weights in minutes."""
    steps: int = 2000
    """Updates."""
    seed: int = 1
    """Of everything."""
    stage: Literal["all", "corpus", "train", "measure"] = "all"
    """One stage, or all of them."""


def main() -> None:
    settings = tyro.cli(Settings)
    stages = ("corpus", "train", "measure") if settings.stage == "all" else (settings.stage,)
    for stage in stages:
        started = time.perf_counter()
        {"corpus": make, "train": train, "measure": measure}[stage](settings)
        print(f"{stage}: {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)


def make(settings: Settings) -> None:
    corpus = settings.work / "corpus"
    if (corpus / "manifest.jsonl").exists():
        return
    random = np.random.default_rng(settings.seed)
    sentences = [demo_sentences()[index] for index in random.permutation(len(demo_sentences()))]
    test, dev, training = sentences[:200], sentences[200:240], sentences[240:]
    if settings.text is not None:
        known = set(sentences)
        lines = [plain(line) for line in settings.text.read_text(encoding="utf-8").splitlines()]
        fit = sorted({line for line in lines if 3 <= len(line.split()) <= 12 and line not in known})
        training += [fit[index] for index in random.permutation(len(fit))]
    speakers = voices(settings.voices, settings.seed)
    for split, chosen in (("test", test), ("dev", dev), ("train", training[: settings.sentences])):
        make_corpus(corpus, chosen, speakers, split, seed=settings.seed)


def plain(line: str) -> str:
    """Lower case, letters and apostrophes; empty where the line has something else to say (digits)."""
    return "" if re.search(r"[^A-Za-z' .,;:!?\"-]", line) else " ".join(re.findall(r"[a-z']+", line.lower()))


def train(settings: Settings) -> None:
    every = max(1, settings.steps // 8)
    changes = {
        "steps": settings.steps,
        "seed": settings.seed,
        "frontend": settings.frontend,
        "mask": {"probability": 0.1},
        "training": {"processes": 1, "validate_every": every, "save_every": every},
    }
    config = from_dict(FinetuneConfig, changes, "experiment", load_recipe("ctc-small", "finetune", FinetuneConfig))
    if code := finetune([settings.work / "corpus"], "wav2vec2-tiny", settings.work / "words", config):
        raise SystemExit(code)


def measure(settings: Settings) -> None:
    corpus = settings.work / "corpus"
    utterances = read_manifest(corpus)
    test, dev = (in_splits(utterances, split, corpus) for split in ("test", "dev"))
    recognizer = Recognizer.load(settings.work / "words", "cpu")
    score = evaluate(recognizer, test).score
    assert score.characters is not None
    results: dict[str, Any] = {"wer": score.tokens.rate, "cer": score.characters.rate, "utterances": len(test)}
    results["boundaries"] = {
        "forced alignment of the true text": boundary_errors(aligned(recognizer, test)),
        "recognised words, forced alignment": boundary_errors(recognised(recognizer, test, "alignment")),
        "recognised words, peaks": boundary_errors(recognised(recognizer, test, "peaks")),
        "one recording, speech around, numbers": boundary_errors(one_recording(recognizer, test, dev)),
    }
    results["calibration"] = calibrated(recognizer, dev, test)
    table = Table("times by", "words", "start", "end", "both", "bias start", "bias end", "90 %", title="|error|, ms")
    for name, row in results["boundaries"].items():
        table.add_row(name, str(row["words"]), *(f"{row[key]:.0f}" for key in list(row)[1:]))
    console = Console(width=120)
    console.print(f"WER {score.tokens.rate:.1%}, CER {score.characters.rate:.1%} on {len(test)} unseen sentences")
    console.print(table)
    console.print(results["calibration"])
    (settings.work / "alignment.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


Times = tuple[float, float]


def truth(utterance: Utterance) -> list[tuple[str, float, float]]:
    """Each word with the time that espeak-ng reports."""
    return [(text, start, end) for text, start, end in utterance.extras["words"]]


def aligned(recognizer: Recognizer, test: list[Utterance]) -> Iterator[tuple[Times, Times]]:
    """Times found and true, of each word of the true text."""
    for utterance in test:
        text = "\n".join(word for word, _, _ in truth(utterance))
        found = recognizer.align(utterance, text).words
        words = [(start, end, len(word.split())) for word, start, end in truth(utterance)]
        place = 0
        for start, end, count in words:  # where espeak-ng runs words together they have one time
            yield (found[place].start, found[place + count - 1].end), (start, end)
            place += count


def recognised(
    recognizer: Recognizer, test: list[Utterance], times: Literal["alignment", "peaks"]
) -> Iterator[tuple[Times, Times]]:
    """Times found and true, of each word that was recognised rightly."""
    recognizer.settings = dataclasses.replace(recognizer.settings, times=times)
    for utterance, transcript in zip(test, recognizer.transcribe(list(test)), strict=True):
        true = truth(utterance)
        if any(" " in word for word, _, _ in true):
            continue
        left = right = 0
        for expected, found in align(" ".join(word for word, _, _ in true), transcript.text):
            if expected is not None and expected == found:
                word, (_, start, end) = transcript.words[right], true[left]
                yield (word.start, word.end), (start, end)
            left, right = left + (expected is not None), right + (found is not None)


def one_recording(
    recognizer: Recognizer, test: list[Utterance], around: list[Utterance]
) -> Iterator[tuple[Times, Times]]:
    """The same with all sentences in one recording, other speech before and after, each tenth word written "77"."""
    pieces = [*around[:5], *test, *around[5:10]]
    samples = [utterance.read() for utterance in pieces]
    starts = np.cumsum([0, *map(len, samples)]) / SAMPLE_RATE
    true, lines, number = [], [], 0
    for utterance, shift in list(zip(pieces, starts, strict=False))[5:-5]:
        words = []
        for word, start, end in truth(utterance):
            number += 1
            hidden = number % 10 == 0 and " " not in word
            words.append("77" if hidden else word)
            true.append((start + shift, end + shift, hidden, len(word.split())))
        lines.append(" ".join(words))
    found = recognizer.align(np.concatenate(samples), "\n".join(lines)).words
    place = 0
    for start, end, _, count in true:
        yield (found[place].start, found[place + count - 1].end), (start, end)
        place += count


def boundary_errors(pairs: Iterable[tuple[Times, Times]]) -> dict[str, float]:
    """Milliseconds: medians of the absolute error of starts, ends, both; median errors; the 90th percentile."""
    found, true = (np.array(part) for part in zip(*pairs, strict=True))
    error = 1000 * (found - true)
    return {
        "words": len(error),
        "start": float(np.median(np.abs(error[:, 0]))),
        "end": float(np.median(np.abs(error[:, 1]))),
        "both": float(np.median(np.abs(error))),
        "bias start": float(np.median(error[:, 0])),
        "bias end": float(np.median(error[:, 1])),
        "90 %": float(np.quantile(np.abs(error), 0.9)),
    }


def calibrated(recognizer: Recognizer, dev: list[Utterance], test: list[Utterance]) -> dict[str, float]:
    """The temperature fitted on one set, and the expected calibration error that it leaves on another."""

    def read(utterances: list[Utterance]) -> tuple[list[Tensor], list[Hypothesis], list[str]]:
        rows = [next(recognizer.log_probabilities(Recording.open(utterance))) for utterance in utterances]
        return rows, [readings[0] for readings in recognizer.decoder(rows)], [u.text or "" for u in utterances]

    found = fit_temperature(*read(dev), recognizer.alphabet)
    values = {"temperature": found.temperature, "dev before": found.error_before, "dev after": found.error}
    for name, temperature in (("test before", 1.0), ("test after", found.temperature)):
        values[name] = calibration_error(*read(test), recognizer.alphabet, temperature)
    return values


if __name__ == "__main__":
    main()
