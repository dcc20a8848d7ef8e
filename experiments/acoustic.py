"""Acoustic models on features: the wav2vec paper's tables at our scale.

    python experiments/acoustic.py WORK --encoders wav2vec=runs/wav2vec w2v2=runs/listen:2 --lm words4.arpa.gz

The same network and the same labels (10 minutes, an hour, all) on 80 log-mel bands and on the features of each
encoder; label and word error on dev and test, of the best path and of the 4-gram model's reading. Every run is kept
under WORK and the same command goes on where it was stopped. Corpora are those of labels.py, under WORK/corpora.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from trials import SENTENCES, Job, percent, report, side_by_side, table

from firstwords.commands import LOG_MEL, train_acoustic
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest
from firstwords.decoding.options import DecoderConfig
from firstwords.decoding.tuned import remember
from firstwords.evaluation import evaluate, in_splits
from firstwords.listening import listen
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.report.curves import plot_curves
from firstwords.training.acoustic_config import AcousticRecipe
from firstwords.training.run import read_log
from firstwords.tuning import TuneConfig, tune

HOURS = {"10min": 1 / 6, "1h": 1.0, "all": 0.0}
STEPS = {"10min": 1000, "1h": 2000, "all": 4000}
TESTS = tuple((corpus, split) for corpus in SENTENCES[:3] for split in ("dev", "test"))
TUNED_ON = 40
"""Dev utterances, or a few more, on which the language model's weights are tuned."""
WORD_SCORES = (-3.0, 12.0)
"""Bonuses for a word that are tried: a model that is unsure says little, and wants a large one."""


@dataclass
class Settings:
    """Where, on what, how long."""

    work: tyro.conf.Positional[Path]
    """Where everything is written, with the prepared corpora in WORK/corpora (as experiments/labels.py leaves them)."""
    encoders: tuple[str, ...] = ()
    """NAME=RUN, or NAME=RUN:LAYER for the output of a block, each; log-mel bands are always there."""
    only: tuple[str, ...] = ()
    """Of all features these, by name ("log-mel" is the bands'); none: all. So several machines can share the work."""
    lm: Path | None = None
    """4-gram model, for choosing checkpoints and for the second half of the table."""
    labels: tuple[str, ...] = ("10min", "1h", "all")
    """How much transcribed speech."""
    criteria: tuple[str, ...] = ("asg",)
    """"asg", "ctc", or both."""
    recipe: str = "asg-small"
    """Of the acoustic model."""
    steps: tuple[str, ...] = ()
    """LABELS=UPDATES each, in place of 1,000 for 10 minutes, 2,000 for an hour, 4,000 for all."""
    seeds: tuple[int, ...] = (1,)
    """Of new weights and choice of labels."""
    tests: tuple[str, ...] = tuple(f"{corpus}/{split}" for corpus, split in TESTS)
    """CORPUS/SPLIT each, to score on."""
    trials: int = 16
    """Language-model weights that are tried on the dev splits of `tests`."""
    at_once: int = 2
    """Trainings side by side, a core each."""


@dataclass(frozen=True)
class Run:
    """One training."""

    features: str
    source: str
    layer: int | None
    labels: str
    criterion: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.criterion}-{self.labels}-{self.features}-{self.seed}"


def main() -> None:
    settings = tyro.cli(Settings)
    sources = [("log-mel", LOG_MEL, None), *map(encoder, settings.encoders)]
    sources = [source for source in sources if source[0] in settings.only or not settings.only]
    runs = [
        Run(*source, labels, criterion, seed)
        for labels in settings.labels for criterion in settings.criteria for seed in settings.seeds
        for source in sources
    ]  # fmt: skip
    waiting = [run for run in runs if not scores_path(settings, run).exists()]
    side_by_side([Job(run.name, work, (run, settings)) for run in waiting], settings.at_once)
    rows = []
    for run in runs:
        found = json.loads(scores_path(settings, run).read_text(encoding="utf-8"))
        for place in settings.tests:
            one = found["tests"][place]
            cells = [percent(one[kind], what) for kind in one for what in ("cer", "wer")]
            rows.append((run.labels, run.criterion, run.features, run.seed, place, *cells))
    header = ["labels", "criterion", "features", "seed", "utterances of", "label error % (95 %)", "word error %"]
    header += ["label error %, 4-gram", "word error %, 4-gram"] if settings.lm else []
    report(settings.work / "acoustic.md", table(header, rows))
    curves = {run.name: read_log(folder(settings, run)) for run in runs if run.seed == settings.seeds[0]}
    plot_curves(settings.work / "acoustic.png", words=curves, title="acoustic models")


def encoder(text: str) -> tuple[str, str, int | None]:
    """Name, run and layer of NAME=RUN:LAYER."""
    name, _, place = text.partition("=")
    run, _, layer = place.rpartition(":")
    return (name, run, int(layer)) if run and layer.isdigit() else (name, place, None)


def folder(settings: Settings, run: Run) -> Path:
    return settings.work / "runs" / run.name


def scores_path(settings: Settings, run: Run) -> Path:
    return settings.work / "scores" / f"{run.name}.json"


def work(run: Run, settings: Settings) -> None:
    """One run and its scores, in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    for name in ("logs", "scores"):
        (settings.work / name).mkdir(parents=True, exist_ok=True)
    log_path = settings.work / "logs" / f"{run.name}.log"
    with open(log_path, "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        begun = time.perf_counter()
        config = recipe(run, settings)
        corpora = [settings.work / "corpora" / name for name in SENTENCES]
        if code := train_acoustic(corpora, run.source, folder(settings, run), config):
            raise SystemExit(code)
        minutes = (time.perf_counter() - begun) / 60
        values = {"minutes": round(minutes, 1), "tests": scored(folder(settings, run), settings)}
        scores_path(settings, run).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def recipe(run: Run, settings: Settings) -> AcousticRecipe:
    steps = STEPS | {name: int(value) for name, _, value in (one.partition("=") for one in settings.steps)}
    count = steps[run.labels]
    changes = {
        "steps": count, "seed": run.seed, "criterion": run.criterion, "layer": run.layer,
        "data": {"hours": HOURS[run.labels], "valid_utterances": 120}, "text": {"unknown": "drop"},
        "training": {"validate_every": max(1, count // 5), "save_every": max(1, count // 20)},
    }  # fmt: skip
    if settings.lm is not None:
        changes = merged(changes, {"validation": {"lm": str(settings.lm)}})
    base = load_recipe(settings.recipe, "acoustic", AcousticRecipe)
    return from_dict(AcousticRecipe, changes, run.name, base)


def scored(place: Path, settings: Settings) -> dict[str, Any]:
    """For each test the figures of the best path, and with the language model, tuned on the dev splits among them."""
    pairs = [tuple(one.split("/")) for one in settings.tests]
    decoders: dict[str, DecoderConfig | None] = {"best path": None}
    if settings.lm is not None:
        lm = DecoderConfig(lm=settings.lm, processes=0)
        recognizer = Recognizer.load(place)
        dev = [u for corpus, split in pairs if split == "dev" for u in utterances(settings, corpus, split)]
        dev = dev[:: max(1, len(dev) // TUNED_ON)]
        heard = listen(recognizer, dev, lambda name, error: None)
        search = TuneConfig(settings.trials, word_scores=WORD_SCORES)
        best = tune(heard, recognizer.alphabet, lm, search, recognizer.transitions).best
        remember(place, lm, best.settings, best.errors.rate, len(heard))
        decoders["4-gram"] = lm
    results: dict[str, Any] = {f"{corpus}/{split}": {} for corpus, split in pairs}
    for name, decoder in decoders.items():
        recognizer = Recognizer.load(place, lm=decoder)
        for corpus, split in pairs:
            found = evaluate(recognizer, utterances(settings, corpus, split), unknown="count").score
            words, letters = found.interval, found.character_interval
            assert words is not None and letters is not None and found.characters is not None
            results[f"{corpus}/{split}"][name] = {
                "wer": found.tokens.rate, "wer_low": words.low, "wer_high": words.high,
                "cer": found.characters.rate, "cer_low": letters.low, "cer_high": letters.high,
            }  # fmt: skip
    return results


def utterances(settings: Settings, corpus: str, split: str) -> list[Any]:
    place = settings.work / "corpora" / corpus
    return in_splits(read_manifest(place), split, place)


if __name__ == "__main__":
    main()
