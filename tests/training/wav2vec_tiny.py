"""A wav2vec (2019) of a few channels, for whole runs in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import TRAINING, write_recipe

from firstwords.cli import main
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest
from firstwords.training.data import Skipped
from firstwords.training.processes import Processes
from firstwords.training.wav2vec import Wav2VecPretrainConfig, Wav2VecPretraining

WAV2VEC: dict[str, Any] = {
    "kind": "pretrain", "objective": "wav2vec", "steps": 20, "seed": 3,
    "model": {
        "encoder": {
            "latent_encoder": {"channels": [8, 8, 8, 8, 8]},
            "context_network": {"channels": [8, 8, 8], "kernels": [2, 3, 4]},
        },
        "steps": 4,
        "contrast": {"distractors": 5},
    },
    "data": {"min_seconds": 0.2, "crop_seconds": 0.7, "held_out": 0.0},
    "training": TRAINING | {"schedule": {"kind": "cosine", "peak": 1e-3}},
}  # fmt: skip


def wav2vec_arguments(corpus: Path, out: Path, *more: object, changes: dict[str, Any] | None = None) -> list[str]:
    recipe = write_recipe(corpus, WAV2VEC, changes)
    return ["pretrain", str(corpus), "--recipe", str(recipe), "--out", str(out), *map(str, more)]


def wav2vec(corpus: Path, out: Path, *more: object, changes: dict[str, Any] | None = None) -> int:
    return main(wav2vec_arguments(corpus, out, *more, changes=changes))


def wav2vec_task(corpus: Path, changes: dict[str, Any] | None = None) -> Wav2VecPretraining:
    """The task alone, without a run."""
    values = merged(WAV2VEC, changes or {})
    del values["kind"], values["objective"]
    config = from_dict(Wav2VecPretrainConfig, values, "test")
    return Wav2VecPretraining(config, read_manifest(corpus), [], Processes("cpu"), Skipped())
