"""Corpora of seconds and models of a few channels: whole runs in a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import write_tone
from safetensors import safe_open

from firstwords.cli import main
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest
from firstwords.training.data import Skipped
from firstwords.training.finetune import Finetuning
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.loop import train
from firstwords.training.pretrain import PretrainConfig, Pretraining
from firstwords.training.processes import Processes
from firstwords.training.run import Run

ENCODER = {
    "feature_encoder": {"channels": [6, 6, 8, 8, 8, 8, 8]},
    "transformer": {
        "layers": 2, "dim": 16, "feed_forward_dim": 32, "heads": 2, "position_kernel": 8, "position_groups": 2,
        "dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0,
    },
    "input_dropout": 0.0,
}  # fmt: skip
TRAINING = {
    "batch_seconds": 4.0, "bucket_seconds": 2.0, "micro_batch_seconds": 2.0, "device": "cpu", "precision": "float32",
    "log_every": 5, "validate_every": 20, "save_every": 7,
}  # fmt: skip
PRETRAIN: dict[str, Any] = {
    "kind": "pretrain", "steps": 20, "seed": 3,
    "model": {
        "encoder": ENCODER,
        "quantizer": {"groups": 2, "entries": 6, "temperature_decay": 0.99},
        "final_dim": 8,
        "feature_dropout": 0.0,
        "mask": {"probability": 0.5, "length": 4},
        "contrast": {"distractors": 10},
    },
    "data": {"min_seconds": 0.2, "crop_seconds": 0.7, "held_out": 0.0},
    "training": TRAINING | {"schedule": {"peak": 1e-3}},
}  # fmt: skip
FINETUNE: dict[str, Any] = {
    "kind": "finetune", "steps": 20, "seed": 3, "frozen": 0.3,
    "adapt": {"activation_dropout": 0.0, "layerdrop": 0.0, "gradient_scale": 0.0},
    "mask": {"probability": 0.3, "length": 2},
    "channel_mask": {"probability": 0.2, "length": 3, "min_spans": 0},
    "data": {"held_out": 0.0},
    "training": TRAINING | {"schedule": {"kind": "tri-stage", "peak": 1e-3, "warmup": 0.1}},
}  # fmt: skip
WORDS = ["ba", "do", "gi", "ku", "la", "me", "no", "pi"]


def write_corpus(folder: Path, seconds: list[float] | None = None, **fields: Any) -> Path:
    """A manifest of made-up sounds with transcripts, durations from 0.3 to 1.2 s unless given."""
    random = np.random.default_rng(1)
    seconds = random.uniform(0.3, 1.2, 14).round(3).tolist() if seconds is None else seconds
    lines = []
    for number, duration in enumerate(seconds):
        write_tone(folder / f"{number}.wav", duration, number)
        text = " ".join(random.choice(WORDS, max(1, round(3 * duration))))
        lines.append({"id": f"u{number}", "audio": f"{number}.wav", "duration": duration, "text": text} | fields)
    return write_manifest(folder, lines)


def listened_to_five(folder: Path, changes: dict[str, Any]) -> tuple[Path, Path]:
    """A corpus of five utterances, and a pre-training that heard them."""
    corpus = write_corpus(folder / "corpus", [0.5, 0.6, 0.7, 0.8, 0.9], split="train")
    assert pretrain(corpus, folder / "base", changes=changes) == 0
    return corpus, folder / "base"


def write_manifest(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def add_lines(corpus: Path, *lines: dict[str, Any]) -> None:
    with open(corpus / "manifest.jsonl", "a") as manifest:
        manifest.writelines(json.dumps(line) + "\n" for line in lines)


def write_recipe(folder: Path, base: dict[str, Any], changes: dict[str, Any] | None = None) -> Path:
    """JSON is YAML."""
    path = folder / f"{base['kind']}.yaml"
    path.write_text(json.dumps(merged(base, changes or {})))
    return path


def pretrain_arguments(corpus: Path, out: Path, *more: object, changes: dict[str, Any] | None = None) -> list[str]:
    recipe = write_recipe(corpus, PRETRAIN, changes)
    return ["pretrain", str(corpus), "--recipe", str(recipe), "--out", str(out), *map(str, more)]


def finetune_arguments(
    corpus: Path, source: Path, out: Path, *more: object, changes: dict[str, Any] | None = None
) -> list[str]:
    recipe = write_recipe(corpus, FINETUNE, changes)
    return ["finetune", str(corpus), "--from", str(source), "--recipe", str(recipe), "--out", str(out), *map(str, more)]


def pretrain(corpus: Path, out: Path, *more: object, changes: dict[str, Any] | None = None) -> int:
    return main(pretrain_arguments(corpus, out, *more, changes=changes))


def finetune(corpus: Path, source: Path, out: Path, *more: object, changes: dict[str, Any] | None = None) -> int:
    return main(finetune_arguments(corpus, source, out, *more, changes=changes))


def command(arguments: list[str], processes: int = 1) -> list[str]:
    """The words that start `firstwords` anew, with several processes through torchrun."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return [*start, "firstwords", *arguments]


def start(arguments: list[str], processes: int = 1) -> subprocess.Popen[str]:
    """`firstwords` in a process of its own, one thread each."""
    return subprocess.Popen(
        command(arguments, processes),
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said."""
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def assert_bitwise_equal(run: Path, other: Path) -> None:
    """Weights and optimiser state of the last checkpoints, and weights of the best ones."""
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = tensors(run / name), tensors(other / name)
        assert ours.keys() == theirs.keys()
        different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
        assert not different, f"{name}: {different[:3]} and {len(different)} in all"


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())  # type: ignore[no-any-return]


def settings(base: dict[str, Any], changes: dict[str, Any] | None = None) -> Any:
    values = merged(base, changes or {})
    kind = PretrainConfig if values.pop("kind") == "pretrain" else FinetuneConfig
    return from_dict(kind, values, "test")


def pretraining(corpus: Path, changes: dict[str, Any] | None = None) -> Pretraining:
    """The task alone, without a run."""
    return Pretraining(settings(PRETRAIN, changes), read_manifest(corpus), [], Processes("cpu"), Skipped())


def finetuning(corpus: Path, changes: dict[str, Any] | None = None) -> Finetuning:
    """The task alone, from random weights of the tiny encoder's shape."""
    encoder = settings(PRETRAIN).model.encoder
    config = settings(FINETUNE, changes)
    return Finetuning(config, encoder, None, read_manifest(corpus), [], Processes("cpu"), Skipped(), "test")


def run_task(task: Any, out: Path) -> None:
    """The loop around a task."""
    run = Run(out, "test", task.settings, {})
    train(task, task.settings.training, task.settings.steps, task.settings.seed, run, task.processes)
