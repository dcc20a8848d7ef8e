"""Small files of what was fitted to features (centroids, principal components): safetensors, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from firstwords.errors import CheckpointError

_KEY = "firstwords_fitted"


def write_fitted(path: Path, kind: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes tensors and what is to be known about them (anything that JSON can hold).

    Raises:
        CheckpointError: the disk is full or the place cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(path.name + ".part")
    header = {_KEY: json.dumps({"kind": kind, **about})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, header)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def read_fitted(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_fitted` wrote for that kind.

    Raises:
        CheckpointError: missing, cut short, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file of a {kind}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as a {kind} ({error}); it may be cut short") from error
    about = json.loads(header) if header else {}
    if (found := about.pop("kind", "file of another program")) != kind:
        raise CheckpointError(f"{path}: holds a {found}, not a {kind}")
    return tensors, about
