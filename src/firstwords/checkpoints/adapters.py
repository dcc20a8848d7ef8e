"""Recognisers that share one encoder: small weights of their own (adapters, low-rank changes, an output layer)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from firstwords.checkpoints.own import Checkpoint, checkpoint_path, read_checkpoint
from firstwords.errors import CheckpointError
from firstwords.nn.adapters import low_rank_change

ADAPTERS = "adapters"
"""Folder beside a model in which its adapters are looked for by name."""
KIND = "adapter"
"""Of checkpoints that hold the small weights only."""
START = "encoder."


def find_adapter(place: Path, name: str) -> Path | None:
    """The checkpoint that `name` means for the model at `place`: place/adapters/name, or a run or file of that path."""
    folder = place if place.is_dir() else place.parent
    for path in (folder / ADAPTERS / name, folder / ADAPTERS / f"{name}.safetensors", Path(name)):
        if path.is_file():
            return path
        if path.is_dir() and any((path / file).is_file() for file in ("best.safetensors", "last.safetensors")):
            return checkpoint_path(path)
    return None


def adapter_names(place: Path) -> list[str]:
    """Names under which `find_adapter` would find something beside a model."""
    folder = (place if place.is_dir() else place.parent) / ADAPTERS
    return sorted(path.stem for path in folder.iterdir()) if folder.is_dir() else []


def with_adapter(base: Checkpoint, path: Path, where: str) -> Checkpoint:
    """The recogniser that the small weights at `path` make of a model; low-rank changes become part of its weights.

    Raises:
        CheckpointError: no small weights there, or those of another model.
    """
    small = read_checkpoint(path)
    if small.kind != KIND:
        raise CheckpointError(
            f"{path}: a whole model of kind {small.kind!r}, not an adapter for {where}; use it as it is"
        )
    if fingerprint(base.weights) != small.state.get("base_fingerprint"):
        raise CheckpointError(
            f"{path}: an adapter that was trained on another model ({small.state.get('base')}) than {where}"
        )
    weights = {name: value for name, value in base.weights.items() if name.startswith(START)} | small.weights
    config: dict[str, Any] = small.config
    for name in [name for name in weights if name.endswith(".low_rank.up")]:
        block = name.removesuffix(".low_rank.up")
        change = low_rank_change(weights.pop(f"{block}.low_rank.down"), weights.pop(name))
        weights[f"{block}.attention_inputs.weight"] = weights[f"{block}.attention_inputs.weight"] + change
    config["encoder"]["transformer"]["low_rank"] = 0
    kept = {key: value for key, value in base.state.items() if key == "imported"}
    return Checkpoint("ctc", config, weights, state=kept | small.state)


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Tells models apart: a hash over names, shapes and the first values of the encoder's parameters.

    Adapters in it do not count: they are what is exchanged.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith(START) and ".adapter." not in name:
            first = weights[name].detach().flatten()[:64].float().cpu().numpy().tobytes()
            digest.update(f"{name} {tuple(weights[name].shape)} ".encode() + first)
    return digest.hexdigest()[:16]
