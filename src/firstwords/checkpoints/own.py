"""Our checkpoint: one safetensors file with weights, optimiser state, and everything else as JSON in its header.

One file is one rename: it is written under a temporary name, synced, and moved over the old one, so that whatever
happens the last whole checkpoint stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from firstwords.errors import CheckpointError

FORMAT = 1
_WEIGHTS = "weights/"
_OPTIMIZER = "optimizer/"


@dataclass
class Checkpoint:
    """A model at one moment."""

    kind: str
    """"wav2vec2", "wav2vec" (pre-training models), "ctc" (recogniser), ..."""
    config: dict[str, Any]
    """The model's configuration, as `config.to_dict` has it."""
    weights: dict[str, Tensor]
    """Parameters and buffers by name."""
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """Optimiser state by "parameter name/state name"; empty where only weights are kept."""
    state: dict[str, Any] = field(default_factory=dict)
    """Whatever else JSON can hold: update, position in the data, scores, alphabet."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint whole or not at all.

    Raises:
        CheckpointError: the disk is full or the place cannot be written; what was there before is untouched.
    """
    header = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "config": checkpoint.config,
        "state": checkpoint.state,
    }
    tensors = {_WEIGHTS + name: value.detach().contiguous() for name, value in checkpoint.weights.items()}
    tensors |= {_OPTIMIZER + name: value.detach().contiguous() for name, value in checkpoint.optimizer.items()}
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"firstwords": json.dumps(header)})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        kept = " The one before it is whole." if path.exists() else ""
        raise CheckpointError(f"{path}: checkpoint could not be written ({error}).{kept} Free some space.") from error


def read_checkpoint(path: Path, device: str = "cpu", optimizer: bool = False) -> Checkpoint:
    """Reads a checkpoint; the optimiser state only if asked.

    Raises:
        CheckpointError: missing, cut short, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            header = (file.metadata() or {}).get("firstwords")
            if header is None:
                raise CheckpointError(f"{path}: a safetensors file, but not a Firstwords checkpoint")
            weights = {}
            moments = {}
            for key in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                if key.startswith(_WEIGHTS):
                    weights[key.removeprefix(_WEIGHTS)] = file.get_tensor(key)
                elif optimizer and key.startswith(_OPTIMIZER):
                    moments[key.removeprefix(_OPTIMIZER)] = file.get_tensor(key)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({error}); it may be cut short or another format"
        ) from error
    values = json.loads(header)
    if values["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer Firstwords (format {values['format']}); upgrade to read it")
    return Checkpoint(values["kind"], values["config"], weights, moments, values["state"])


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Puts weights into a module; every name and shape must fit.

    Raises:
        CheckpointError: naming the first parameters that are missing, unknown, or of another shape.
    """
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in own]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, the model has {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if wrong:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise CheckpointError(f"{where}: weights of another shape of model: {shown}")
    module.load_state_dict(dict(weights))


def checkpoint_path(place: Path) -> Path:
    """The checkpoint of a run folder (the best one, else the last), or the file itself.

    Raises:
        CheckpointError: nothing there.
    """
    if place.is_file():
        return place
    for name in ("best.safetensors", "last.safetensors"):
        if (place / name).is_file():
            return place / name
    raise CheckpointError(f"{place}: no run here (a folder with best.safetensors or last.safetensors, or such a file)")
