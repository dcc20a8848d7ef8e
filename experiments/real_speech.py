"""Real speech: does listening first help? wav2vec 2.0 pre-trained on all English training audio, then few labels.

    python experiments/real_speech.py SPEECH WORK [--steps 4500 --finetune-steps 300 --stage all]

SPEECH is a folder of corpora with manifests (fsdd, kathleen, librispeech_sample, ...). Everything is written under WORK
and goes on where it was stopped. The stages:

prepare   Opus to WAV shards, once (decoding Opus would slow every epoch)
pretrain  the tiny model on the training audio of all English corpora; transcripts unused
finetune  10 minutes and 1 hour of transcribed speech, from the pre-trained weights and from random ones
evaluate  WER and CER on dev and test of each corpus; table and JSON
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.prepare import PrepareOptions, prepare
from firstwords.evaluation import evaluate, in_splits
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.training.commands import finetune, pretrain
from firstwords.training.finetune import FinetuneConfig
from firstwords.training.pretrain import PretrainConfig

ENGLISH = (
    "speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample", "fsdd", "yesno", "picovoice_barista",
)  # fmt: skip
LABELLED = ("speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample")
"""Corpora of sentences; digits and yes/no would be a task of their own."""
TESTED = ("speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample")
HOURS = {"10min": 1 / 6, "1h": 1.0}
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
    steps: int = 4500
    """Updates of pre-training."""
    batch_seconds: float = 32.0
    """Audio of a pre-training update."""
    crop_seconds: float = 2.0
    """Longest crop."""
    temperature_decay: float = 0.9995
    """Of the Gumbel softmax: reaches 0.5 after 2,772 updates."""
    finetune_steps: int = 300
    """Updates of each fine-tuning."""
    finetune_recipe: str = "ctc-small"
    """Fine-tuning recipe."""
    mask: float = 0.0
    """Time masking in fine-tuning; the recipe's 0.3 left both kinds of weights on a plateau for longer."""
    labels: tuple[Literal["10min", "1h"], ...] = ("10min", "1h")
    """How much transcribed speech to fine-tune on."""
    seed: int = 1
    """Of everything."""
    stage: Literal["all", "prepare", "pretrain", "finetune", "evaluate"] = "all"
    """One stage, or all of them."""


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
    config = load_recipe(settings.recipe, "pretrain", PretrainConfig)
    seconds = settings.batch_seconds
    config = dataclasses.replace(
        config,
        steps=settings.steps,
        seed=settings.seed,
        data=dataclasses.replace(config.data, crop_seconds=settings.crop_seconds),
        model=dataclasses.replace(
            config.model,
            quantizer=dataclasses.replace(config.model.quantizer, temperature_decay=settings.temperature_decay),
        ),
        training=dataclasses.replace(
            config.training, batch_seconds=seconds, bucket_seconds=seconds, micro_batch_seconds=seconds, log_every=50
        ),
    )
    stop_if_interrupted(pretrain([settings.work / "corpora" / name for name in ENGLISH], listened(settings), config))


def speak(settings: Settings) -> None:
    corpora = [settings.work / "corpora" / name for name in LABELLED]
    for label in settings.labels:
        for weights in ("pretrained", "random"):
            config = load_recipe(settings.finetune_recipe, "finetune", FinetuneConfig)
            config = dataclasses.replace(
                config,
                weights=weights,
                steps=settings.finetune_steps,
                seed=settings.seed,
                data=dataclasses.replace(config.data, hours=HOURS[label]),
                mask=dataclasses.replace(config.mask, probability=settings.mask, min_spans=0),
            )
            out = settings.work / "runs" / f"words-{label}-{weights}"
            stop_if_interrupted(finetune(corpora, str(listened(settings)), out, config))


def test(settings: Settings) -> None:
    results = []
    table = Table("labels", "weights", "corpus", "split", "utterances", "WER", "95 %", "CER")
    for label in settings.labels:
        for weights in ("pretrained", "random"):
            run = settings.work / "runs" / f"words-{label}-{weights}"
            recognizer = Recognizer.load(run)
            for corpus in TESTED:
                for split in ("dev", "test"):
                    place = settings.work / "corpora" / corpus
                    found = evaluate(recognizer, in_splits(read_manifest(place), split, place), unknown="count").score
                    interval = found.interval
                    assert found.characters is not None and interval is not None
                    results.append(
                        {"labels": label, "weights": weights, "corpus": corpus, "split": split}
                        | {"wer": found.tokens.rate, "cer": found.characters.rate, "utterances": len(found.utterances)}
                        | {"wer_low": interval.low, "wer_high": interval.high}
                    )
                    table.add_row(
                        label, weights, corpus, split, str(len(found.utterances)),
                        f"{found.tokens.rate:.1%}", f"{interval.low:.1%} - {interval.high:.1%}",
                        f"{found.characters.rate:.1%}",
                    )  # fmt: skip
            for one in found.utterances[:2]:
                print(f"{label} {weights}: {one.scored.reference}  ->  {one.scored.hypothesis}")
    Console(width=120).print(table)
    (settings.work / "real_speech.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def listened(settings: Settings) -> Path:
    return settings.work / "runs" / "listen"


def stop_if_interrupted(code: int) -> None:
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
