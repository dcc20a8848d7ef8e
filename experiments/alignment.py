"""Are word times true? Forced alignment and CTC peaks against the times that espeak-ng reports of its own words.

    python experiments/alignment.py WORK [--text english.txt]

Everything is written under WORK and goes on where it was stopped. The stages:

corpus    sentences read by synthetic voices; the tests' sentences are unseen, their voices known
train     a small recogniser, on log-mel features, from random weights
measure   the error of word starts and ends, for peaks and forced alignment; table and JSON
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from firstwords.commands import finetune
from firstwords.config import from_dict
from firstwords.corpus.synthetic import demo_sentences, make_corpus, voices
from firstwords.recipes import load_recipe
from firstwords.training.finetune import FinetuneConfig


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
    pass


if __name__ == "__main__":
    main()
