"""Manifests: JSON Lines, one utterance a line, audio paths relative to the file."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

MANIFEST_NAME = "manifest.jsonl"

FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "audio": str,
    "start": (int, float),
    "duration": (int, float),
    "text": str,
    "speaker": str,
    "language": str,
    "split": str,
    "offset": int,
    "size": int,
}
"""Keys of a manifest line that an Utterance knows by name, with the kind of their values."""


def manifest_path(corpus: Path) -> Path:
    """The manifest of a corpus given as its folder or as the manifest itself.

    Raises:
        CorpusError: nothing there, or a folder without a manifest.
    """
    if corpus.is_dir():
        manifest = corpus / MANIFEST_NAME
        if not manifest.is_file():
            raise CorpusError(
                f"{corpus}: no {MANIFEST_NAME} in this folder; make one: firstwords prepare {corpus} CORPUS"
            )
        return manifest
    if not corpus.is_file():
        raise CorpusError(f"{corpus}: no such corpus (a folder with {MANIFEST_NAME}, or a manifest file)")
    return corpus


def read_manifest(corpus: Path, splits: Iterable[str] | None = None) -> list[Utterance]:
    """The utterances of a manifest file, or of a corpus folder that holds one.

    Args:
        corpus: a folder with manifest.jsonl, or a manifest.
        splits: keep only these; None keeps all.

    Raises:
        CorpusError: a broken line (with its number), an id that comes twice, or no such file.
    """
    path = manifest_path(corpus)
    wanted = None if splits is None else set(splits)
    seen: dict[str, int] = {}
    utterances = []
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                utterance = _parse(line, path, number)
                if utterance.id in seen:
                    first = seen[utterance.id]
                    raise CorpusError(f"{path}, line {number}: id {utterance.id!r} stands in line {first} already")
                seen[utterance.id] = number
                if wanted is None or utterance.split in wanted:
                    utterances.append(utterance)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text ({error})") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    return utterances


def write_manifest(utterances: Iterable[Utterance], path: Path) -> None:
    """Writes a manifest whole or not at all, with audio paths relative to it.

    Raises:
        CorpusError: it cannot be written (a full disk, no permission); what was there before is unharmed.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as lines:
            for utterance in utterances:
                lines.write(format_line(manifest_line(utterance, path.parent)) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        os.replace(temporary, path)
    except OSError as error:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error


def format_line(line: dict[str, Any]) -> str:
    """One line of JSON; readable letters, except where a file name is not valid Unicode (then escaped)."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(line)
    return text


def manifest_line(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """The mapping that a manifest in `folder` holds for an utterance; empty fields are left out."""
    line: dict[str, Any] = {"id": utterance.id, "audio": _relative(utterance.audio, folder)}
    if utterance.start:
        line["start"] = utterance.start
    for name in ("duration", "text", "speaker", "language", "split", "offset", "size"):
        if (value := getattr(utterance, name)) is not None:
            line[name] = value
    return line | utterance.extras


def _relative(audio: Path, folder: Path) -> str:
    """The way from `folder` to `audio`, right even where a symbolic link lies between them."""
    inside = os.path.relpath(audio, folder)
    if not inside.startswith(".."):
        return Path(inside).as_posix()
    return Path(os.path.relpath(os.path.join(_real(audio.parent), audio.name), _real(folder))).as_posix()


@functools.lru_cache(maxsize=1024)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def _parse(line: str, path: Path, number: int) -> Utterance:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise CorpusError(f"{path}, line {number}: expected keys and values, found {line.strip()[:60]}")
    known: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        value = values.pop(name, None)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CorpusError(f"{path}, line {number}: {name!r} holds {value!r}, expected {_kind_name(kind)}")
        known[name] = value
    if "audio" not in known:
        raise CorpusError(f"{path}, line {number}: no 'audio' key")
    for name in ("start", "duration", "offset", "size"):
        if not (known.get(name, 0) >= 0 and math.isfinite(known.get(name, 0))):
            raise CorpusError(f"{path}, line {number}: {name!r} is {known[name]}, expected zero or more")
    if ("offset" in known) != ("size" in known):
        raise CorpusError(f"{path}, line {number}: 'offset' and 'size' belong together, one is missing")
    known["audio"] = path.parent / known["audio"]
    known.setdefault("id", f"{known['audio'].stem}-{number}")
    return Utterance(**known, extras=values)


def _kind_name(kind: type | tuple[type, ...]) -> str:
    return "text" if kind is str else "a whole number" if kind is int else "a number"
