"""Steps of long work that are done again only where something that they depend on has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from firstwords.corpus.feature_store import write_lines
from firstwords.errors import CorpusError

PATTERNS = ("*.safetensors", "*.pt", "*.bin", "config.*", "manifest.jsonl")
"""Files of a folder that say whether it is still the same model or corpus."""


class Steps:
    """Which steps are up to date.

    Args:
        folder: where they leave their files.
        facts: what is known about the folder; under "steps" each step's hash.
        write: keeps the facts on disk.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], write: Callable[[Path, dict[str, Any]], None]) -> None:
        self.folder, self.facts, self._write = folder, facts, write
        self.keys: dict[str, str] = facts.setdefault("steps", {})
        self.done: list[str] = []
        """Steps that had to be done."""
        self._key = ""

    def current(self, step: str, *depends_on: Any) -> bool:
        """Whether a step was done with the same inputs."""
        return self.keys.get(step) == digest(depends_on)

    def due(self, step: str, *depends_on: Any, there: bool = True) -> bool:
        """Whether a step has to be done, if only because its files are gone; the folder is unfinished then."""
        key = digest(depends_on)
        if self.keys.get(step) == key and there:
            return False
        self.keys.pop(step, None)
        self.facts["finished"] = False
        self._write(self.folder, self.facts)
        self.done.append(step)
        self._key = key
        return True

    def finish(self, step: str, **facts: Any) -> None:
        """A step is done."""
        self.keys[step] = self._key
        self.facts |= facts
        self._write(self.folder, self.facts)


def read_steps(folder: Path, name: str) -> Steps:
    """The steps of a folder that keeps its facts in a JSON file of that name. Raises CorpusError."""
    try:
        facts = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{folder / name}: cannot be read ({error}); remove it, and the steps are done again"
        ) from error
    return Steps(folder, facts, lambda place, facts: write_lines(place / name, [json.dumps(facts, indent=1)]))


def stamp(place: str | Path) -> Any:
    """What a file, run or model on disk is recognised by: names, sizes and times of its files; a name by itself."""
    path = Path(place)
    if not path.exists():
        return str(place)
    files = sorted(_telling(path)) if path.is_dir() else [path]
    return [str(path.resolve()), [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]]


def _telling(folder: Path) -> Iterator[Path]:
    for pattern in PATTERNS:
        yield from folder.glob(pattern)


def digest(values: Any) -> str:
    """A short hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
