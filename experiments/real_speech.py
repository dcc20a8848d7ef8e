"""Real speech: does listening first help? wav2vec 2.0 pre-trained on all English training audio, then few labels.

    python experiments/real_speech.py SPEECH WORK [--steps 14000 --stage all]

SPEECH is a folder of corpora with manifests (fsdd, kathleen, librispeech_sample, ...). Everything is written under WORK
and goes on where it was stopped. The stages:

prepare   Opus to WAV shards, once (decoding Opus would slow every epoch)
pretrain  the tiny model on the training audio of all English corpora; transcripts unused
finetune  10 minutes and 1 hour of transcribed speech, from the pre-trained weights and from random ones
evaluate  WER and CER on dev and test of each corpus; table and JSON
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from firstwords.commands import finetune, pretrain
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.prepare import PrepareOptions, prepare
from firstwords.evaluation import evaluate, in_splits
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.report.curves import plot_curves
from firstwords.training.finetune import FinetuneConfig
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log

ENGLISH = (
    "speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample", "fsdd", "yesno", "picovoice_barista",
)  # fmt: skip
LABELLED = ("speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample")
"""Corpora of sentences; digits and yes/no would be a task of their own."""
TESTED = ("speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample")
HOURS = {"10min": 1 / 6, "1h": 1.0}
STEPS = {"10min": 800, "1h": 1600}
Weights = Literal["pretrained", "random"]


@dataclass
class Settings:
    """Where, how long, which stage."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    recipe: str = "wav2vec2-tiny"
    """Pre-training recipe."""
    steps: int = 14_000
    """Updates of pre-training."""
    crop_seconds: float = 2.0
    """Longest crop."""
    warmup: float = 0.03
    """Share of the updates: as many as the recipe has in a shorter run."""
    finetune_steps: int = 0
    """Updates of each fine-tuning; 0 takes 800 for 10 minutes and 1,600 for an hour."""
    finetune_recipe: str = "ctc-small"
    """Fine-tuning recipe."""
    processes: int = 2
    """Processes that share the training, a core each."""
    labels: tuple[Literal["10min", "1h"], ...] = ("10min", "1h")
    """How much transcribed speech to fine-tune on."""
    seed: int = 1
    """Of everything."""
    stage: Literal["all", "prepare", "pretrain", "finetune", "evaluate"] = "all"
    """One stage, or all of them."""

    def runs(self) -> list[tuple[str, Weights]]:
        """The fine-tunings: how much is labelled, what it starts from."""
        return [(label, weights) for label in self.labels for weights in ("pretrained", "random")]


def main() -> None:
    settings = tyro.cli(Settings)
    stages = ("prepare", "pretrain", "finetune", "evaluate") if settings.stage == "all" else (settings.stage,)
    for stage in stages:
        started = time.perf_counter()
        {"prepare": prepare_corpora, "pretrain": listen, "finetune": speak, "evaluate": test}[stage](settings)
        print(f"{stage}: {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)


def prepare_corpora(settings: Settings) -> None:
    for name in ENGLISH:
        out = settings.work / "corpora" / name
        if not (out / "manifest.jsonl").exists():
            prepare(settings.speech / name, out, PrepareOptions(shards="wav"))


def listen(settings: Settings) -> None:
    changes = {
        "steps": settings.steps,
        "seed": settings.seed,
        "data": {"crop_seconds": settings.crop_seconds},
        "training": {
            "processes": settings.processes,
            "schedule": {"warmup": settings.warmup},
            "log_every": 100,
            "validate_every": 1000,
            "save_every": 1000,
        },
    }
    recipe = load_recipe(settings.recipe, "pretrain", PretrainConfig)
    config = from_dict(PretrainConfig, changes, "experiment", recipe)
    stop_if_interrupted(pretrain([settings.work / "corpora" / name for name in ENGLISH], listened(settings), config))


def speak(settings: Settings) -> None:
    corpora = [settings.work / "corpora" / name for name in LABELLED]
    for label, weights in settings.runs():
        changes = {
            "weights": weights,
            "steps": settings.finetune_steps or STEPS[label],
            "seed": settings.seed,
            "data": {"hours": HOURS[label]},
            "training": {"processes": settings.processes, "validate_every": 200, "save_every": 200},
        }
        recipe = load_recipe(settings.finetune_recipe, "finetune", FinetuneConfig)
        config = from_dict(FinetuneConfig, changes, "experiment", recipe)
        stop_if_interrupted(finetune(corpora, str(listened(settings)), spoken(settings, label, weights), config))


def test(settings: Settings) -> None:
    results = []
    table = Table("labels", "weights", "corpus", "split", "utterances", "WER", "95 %", "CER", "95 % ")
    for label, weights in settings.runs():
        recognizer = Recognizer.load(spoken(settings, label, weights))
        for corpus in TESTED:
            for split in ("dev", "test"):
                place = settings.work / "corpora" / corpus
                found = evaluate(recognizer, in_splits(read_manifest(place), split, place), unknown="count").score
                interval, letters = found.interval, found.character_interval
                assert found.characters is not None and interval is not None and letters is not None
                results.append(
                    {"labels": label, "weights": weights, "corpus": corpus, "split": split}
                    | {"utterances": len(found.utterances), "wer": found.tokens.rate, "cer": found.characters.rate}
                    | {"wer_low": interval.low, "wer_high": interval.high}
                    | {"cer_low": letters.low, "cer_high": letters.high}
                )
                table.add_row(
                    label, weights, corpus, split, str(len(found.utterances)),
                    f"{found.tokens.rate:.1%}", f"{interval.low:.1%} - {interval.high:.1%}",
                    f"{found.characters.rate:.1%}", f"{letters.low:.1%} - {letters.high:.1%}",
                )  # fmt: skip
            for one in found.utterances[:2]:
                print(f"{label} {weights}: {one.scored.reference}  ->  {one.scored.hypothesis}", flush=True)
    Console(width=120).print(table)
    (settings.work / "real_speech.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    curves = {f"{label}, {weights}": read_log(spoken(settings, label, weights)) for label, weights in settings.runs()}
    plot_curves(settings.work / "real_speech.png", read_log(listened(settings)), curves)


def listened(settings: Settings) -> Path:
    return settings.work / "runs" / "listen"


def spoken(settings: Settings, label: str, weights: str) -> Path:
    return settings.work / "runs" / f"words-{label}-{weights}"


def stop_if_interrupted(code: int) -> None:
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
