"""A run's folder: what was asked (config.yaml), what happened (log.jsonl, status.json), and its checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from firstwords import __version__
from firstwords.checkpoints.own import Checkpoint, read_checkpoint, write_checkpoint
from firstwords.config import from_dict, to_dict
from firstwords.errors import CheckpointError, ConfigError, MissingExtraError
from firstwords.recipes import OBJECTIVE
from firstwords.training.config import SPLITTING

CONFIG = "config.yaml"
LOG = "log.jsonl"
STATUS = "status.json"
LAST = "last.safetensors"
BEST = "best.safetensors"
SKIPPED = "skipped.tsv"
PART = ".part"
"""Ending of a file that is being written; what a killed run leaves of it means nothing."""


class Run:
    """The folder of one run, new or gone on with.

    Args:
        folder: made where it does not exist.
        kind: "pretrain", "finetune", "language", "unsupervised", ...
        config: the resolved configuration, a dataclass. Where an older version, which lacked some of its fields, began
            the run, they had their defaults.
        data: what the run trains on, in a few words and numbers (JSON); a run goes on with the same data only.
        write: does this process write? Others only read.
        tensorboard: write the log for TensorBoard too.
        objective: of pre-training, where it is not wav2vec 2.0.

    Raises:
        CheckpointError: the folder holds another run, naming what differs, or files that are no run.
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        config: Any,
        data: dict[str, Any],
        write: bool = True,
        tensorboard: bool = False,
        objective: str | None = None,
    ) -> None:
        self.folder = folder
        self.write = write
        self.status: dict[str, Any] = {}
        plain = to_dict(config) | ({} if objective is None else {OBJECTIVE: objective})
        asked = {"kind": kind, "firstwords": __version__, "config": plain, "data": data}
        if (folder / CONFIG).is_file():
            self._same(asked, type(config))
        elif write and folder.is_dir() and any(path.name != CONFIG + PART for path in folder.iterdir()):
            raise CheckpointError(f"{folder}: not empty and no run of Firstwords; choose another --out")
        if (folder / STATUS).is_file():
            with contextlib.suppress(json.JSONDecodeError):
                self.status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        if write:
            text = yaml.safe_dump(asked | {"command": shlex.join(sys.argv)}, sort_keys=False, allow_unicode=True)
            self._replace(CONFIG, text)
        self._board = _open_board(folder) if write and tensorboard else None

    def _same(self, asked: dict[str, Any], kind: type[Any]) -> None:
        try:
            found = yaml.safe_load((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{self.folder / CONFIG}: cannot be read ({error})") from error
        if isinstance(found, dict) and isinstance(found.get("config"), dict):
            found["config"] = _completed(found["config"], kind)
        differing = [
            f"{key}: {old!r} there, {new!r} asked"
            for key, old, new in _differences(found, {name: asked[name] for name in ("kind", "config", "data")})
            if key.rsplit(".", 1)[-1] not in SPLITTING
        ]
        if differing:
            shown = "; ".join(differing[:4]) + (f"; and {len(differing) - 4} more" if len(differing) > 4 else "")
            raise CheckpointError(
                f"{self.folder}: holds another run ({shown}); choose another --out, or ask for the same to go on"
            )

    def last(self) -> Checkpoint | None:
        """The checkpoint to go on from, with optimiser state; None in a new run."""
        path = self.folder / LAST
        return read_checkpoint(path, optimizer=True) if path.is_file() else None

    def save_last(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint to go on from."""
        if self.write:
            write_checkpoint(self.folder / LAST, checkpoint)

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Replaces the best checkpoint."""
        if self.write:
            write_checkpoint(self.folder / BEST, checkpoint)

    def log(self, record: dict[str, Any]) -> None:
        """Appends a line to log.jsonl; numbers keep five significant digits."""
        if self._board is not None:
            for key, value in record.items():
                if isinstance(value, int | float) and key != "update":
                    self._board.add_scalar(key, value, record["update"])
            self._board.flush()
        if self.write:
            rounded = {
                key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in record.items()
            }
            with self._told(LOG), open(self.folder / LOG, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(rounded, ensure_ascii=False) + "\n")

    def forget_after(self, update: int) -> None:
        """Drops log lines beyond `update`: a run that was killed writes them again."""
        path = self.folder / LOG
        if not self.write or not path.is_file():
            return
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _update_of(line) <= update]
        self._replace(LOG, "".join(line + "\n" for line in kept))

    def mark(self, **changes: Any) -> None:
        """Changes status.json (state, update, health, ...)."""
        self.status |= changes
        if self.write:
            self._replace(STATUS, json.dumps(self.status, indent=1, ensure_ascii=False) + "\n")

    def _replace(self, name: str, text: str) -> None:
        """Writes a file of the run whole or not at all."""
        temporary = self.folder / (name + PART)
        with self._told(name):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, self.folder / name)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Errors of the disk as errors for a person."""
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{self.folder / name}: cannot be written ({error.strerror}); free some space or choose another --out. "
                "What the run has saved is whole, and the same command goes on from there"
            ) from error


def _open_board(folder: Path) -> Any:
    """A writer of TensorBoard events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("training.tensorboard", "tensorboard", "tensorboard") from error
    return SummaryWriter(str(folder))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that was cut off is left out."""
    records = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def _update_of(line: str) -> float:
    try:
        return float(json.loads(line).get("update", 0))
    except json.JSONDecodeError:
        return float("inf")


def _completed(config: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """A configuration with the defaults of fields that it does not name, which are younger than it."""
    named = {key: value for key, value in config.items() if key != OBJECTIVE}
    try:
        return config | to_dict(from_dict(kind, named, CONFIG))
    except ConfigError:  # fields that are no more, or had other kinds of values: compared as they stand
        return config


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """(key, old, new) wherever two nested mappings differ, over the keys of the new one."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in new
            for difference in _differences(old.get(key), new[key], f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [(path, old, new)]
