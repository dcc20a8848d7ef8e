"""Features of many recordings on disk: written as they come, taken up again after a stop, found by id.

A folder holds `embed.json` (what was asked for, and whether it is complete), `index.jsonl` (a line a recording: its
id, its file, its rows), and the features. Rows are appended to one file, `features.part`, and a line of the index
follows them: what has no line was never written. That file becomes one of the chosen format when a recording ends
(npy), when it is large enough (safetensors, Parquet), or at the end (memmap).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from torch import Tensor

from firstwords.corpus.shards import member_key
from firstwords.errors import FirstwordsError
from firstwords.feature_formats import (
    NPY_HEADER,
    npy_header,
    read_parquet_features,
    require_parquet,
    write_parquet,
    write_safetensors,
)
from firstwords.pooling import Level

FileFormat = Literal["npy", "memmap", "safetensors", "parquet"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
Precision = Literal["float32", "float16"]

SETTINGS = "embed.json"
INDEX = "index.jsonl"
PART = "features.part"
MEMMAP = "features.npy"
MOST_TENSORS = 100_000
"""In one safetensors file: beyond, its header grows too large for its readers."""


class FeatureFileError(FirstwordsError):
    """Features that cannot be written or read."""


@dataclass(frozen=True)
class Entry:
    """Where a recording's features are."""

    id: str
    file: str
    """Within the folder."""
    first: int
    """Its first row there."""
    rows: int
    """How many."""
    seconds: float
    """Of audio."""


class FeatureWriter:
    """Writes features into a folder, or goes on where a stop left it.

    `with FeatureWriter(...) as writer: writer.write(id, seconds, rows)`; without an error the folder is complete then.
    """

    def __init__(
        self,
        folder: Path,
        format: FileFormat,
        settings: Mapping[str, Any],
        dtype: Precision = "float32",
        shard_bytes: int = 1_000_000_000,
        columns: Callable[[Entry], Mapping[str, Any]] | None = None,
        level: Level = "frame",
    ) -> None:
        """
        Args:
            folder: made if it is not there; an unfinished one must have the same settings.
            format: of the files.
            settings: what the features depend on, fit for JSON.
            dtype: of the values.
            shard_bytes: a safetensors or Parquet file ends after the recording that makes it this large.
            columns: Parquet's other columns for a recording, see `write_parquet`.
            level: what a row is; that of an utterance is (D,) in safetensors, not (1, D).

        Raises:
            FeatureFileError: the folder holds something else, or features made with other settings.
            MissingExtraError: Parquet without pyarrow.
        """
        if format not in FORMATS:
            raise FeatureFileError(f"no format {format!r}; there are: {', '.join(FORMATS)}")
        if format == "parquet":
            require_parquet()
        self.folder, self.format, self.dtype = folder, format, np.dtype(dtype)
        self.shard_bytes, self.columns, self.level = shard_bytes, columns, level
        self.settings = json.loads(json.dumps({**settings, "level": level, "format": format, "dtype": dtype}))
        self.header = NPY_HEADER if format in ("npy", "memmap") else 0
        self.entries: dict[str, Entry] = {}
        self.dim = 0
        self.shard = 0
        with self._errors():
            self.complete = self._take_up()

    def __enter__(self) -> FeatureWriter:
        with self._errors():
            if not self.complete:
                self._data: BinaryIO = open(self.folder / PART, "r+b")
                self._data.seek(0, os.SEEK_END)
                self._index = open(self.folder / INDEX, "a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.complete:
            return
        try:
            if kind is None:
                with self._errors():
                    self._finish()
        finally:
            with contextlib.suppress(OSError):
                self._data.close()
                self._index.close()

    def write(self, name: str, seconds: float, rows: Iterable[Tensor]) -> Entry:
        """Appends a recording's features, parts (n, D) of them in order.

        An exception in `rows` comes out again, and nothing of the recording is kept.

        Raises:
            FeatureFileError: the disk is full or cannot be written; values that are too large for float16.
        """
        begin = self._data.tell()
        count = 0
        try:
            for part in rows:
                values = part.detach().cpu().numpy()
                with np.errstate(over="ignore"):
                    stored = np.ascontiguousarray(values, dtype=self.dtype)
                if not np.isfinite(stored).all():
                    small = self.dtype == np.float16 and np.isfinite(values).all()
                    raise FeatureFileError(
                        f"{name}: values up to {np.abs(values).max():g} do not fit in float16; take float32"
                        if small
                        else f"{name}: features that are not numbers (NaN or infinity); is the model whole?"
                    )
                self.dim = self.dim or stored.shape[1]
                with self._errors():
                    self._data.write(stored.data)
                count += len(stored)
            with self._errors():
                self._data.flush()
                return self._commit(Entry(name, self._file(name), self._first(begin), count, round(seconds, 4)))
        except BaseException:
            with contextlib.suppress(OSError, ValueError):  # ValueError: it failed between two files
                self._data.seek(begin)
                self._data.truncate()
            raise

    def _first(self, begin: int) -> int:
        return 0 if self.format == "npy" or not self.dim else (begin - self.header) // (self.dim * self.dtype.itemsize)

    def _file(self, name: str) -> str:
        if self.format == "npy":
            return f"{member_key(name)}.npy"
        return MEMMAP if self.format == "memmap" else f"features-{self.shard:05}.{self.format}"

    def _commit(self, entry: Entry) -> Entry:
        if self.format == "npy":
            self._seal_npy(entry.file, entry.rows)
            self._new_part()
        line = json.dumps(asdict(entry) | {"dim": self.dim})
        self._index.write(line + "\n")
        self._index.flush()
        self.entries[entry.id] = entry
        if self.format in ("safetensors", "parquet"):
            here = sum(1 for _ in self._of(entry.file)) if self.format == "safetensors" else 0
            if self._data.tell() >= self.shard_bytes or here >= MOST_TENSORS:
                self._seal_shard()
        return entry

    def _of(self, file: str) -> Iterator[Entry]:
        """The recordings of one file, in order."""
        return (entry for entry in self.entries.values() if entry.file == file)

    def _seal_npy(self, file: str, rows: int) -> None:
        self._data.seek(0)
        self._data.write(npy_header((rows, self.dim), self.dtype))
        self._data.flush()
        if self.format == "memmap":
            os.fsync(self._data.fileno())
        self._data.close()
        os.replace(self.folder / PART, self.folder / file)

    def _seal_shard(self) -> None:
        name = self._file("")
        part = self.folder / f"{name}.part"
        entries = list(self._of(name))
        if self.format == "safetensors":
            tensors = [(entry.id, entry.first, entry.rows) for entry in entries]
            single = self.level == "utterance"
            write_safetensors(part, self.folder / PART, self.dtype, self.dim, tensors, single)
        else:
            values = np.memmap(self.folder / PART, self.dtype, "r").reshape(-1, self.dim)
            columns = [self.columns(entry) if self.columns else {} for entry in entries]
            recordings = [(entry.id, entry.first, entry.rows, entry.seconds) for entry in entries]
            write_parquet(part, values, recordings, columns, by_row=self.level != "frame")
            del values
        os.replace(part, self.folder / name)
        self._data.close()
        self._new_part()
        self.shard += 1

    def _new_part(self) -> None:
        with open(self.folder / PART, "wb") as part:
            part.write(b"\0" * self.header)
        self._data = open(self.folder / PART, "r+b")  # noqa: SIM115
        self._data.seek(0, os.SEEK_END)

    def _finish(self) -> None:
        if self.format == "memmap":
            rows = sum(entry.rows for entry in self.entries.values())
            _write_lines(self.folder / "features.lengths", (str(entry.rows) for entry in self.entries.values()))
            _write_lines(self.folder / "features.ids", self.entries)
            self._seal_npy(MEMMAP, rows)
        elif self.format != "npy" and self._data.tell():
            self._seal_shard()
        self._write_settings(complete=True)
        (self.folder / PART).unlink(missing_ok=True)
        self.complete = True

    def _write_settings(self, complete: bool) -> None:
        _write_lines(self.folder / SETTINGS, [json.dumps({"complete": complete, "settings": self.settings}, indent=1)])

    def _take_up(self) -> bool:
        """Makes the folder ready; whether it is complete already."""
        if not (self.folder / SETTINGS).is_file():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise FeatureFileError(f"{self.folder}: holds something else already; name another folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_settings(complete=False)
        found = _read_settings(self.folder)
        for key in {**found["settings"], **self.settings}:
            was, now = found["settings"].get(key), self.settings.get(key)
            if was != now:
                raise FeatureFileError(
                    f"{self.folder}: was begun with {key} {was}, now {key} is {now}; name another folder, or remove it"
                )
        lines = _read_index(self.folder)
        if found["complete"]:
            self.entries = {entry.id: entry for entry, _ in lines}
            return True
        self._recover(lines)
        return False

    def _recover(self, lines: list[tuple[Entry, int]]) -> None:
        """Keeps the recordings whose rows are whole, and cuts off what a stop left after them."""
        if lines:
            self.dim = lines[-1][1]
        row_bytes = self.dim * self.dtype.itemsize
        part = self.folder / PART
        kept = [entry for entry, _ in lines]
        end = self.header
        if self.format == "npy":
            kept = [entry for entry in kept if (self.folder / entry.file).is_file()]
        elif kept:
            self.shard = int(kept[-1].file[9:14]) if self.format != "memmap" else 0
            if self.format != "memmap" and (self.folder / kept[-1].file).is_file():  # whole; what is in the part is old
                self.shard += 1
            else:
                if self.format == "memmap" and not part.is_file() and (self.folder / MEMMAP).is_file():
                    os.replace(self.folder / MEMMAP, part)  # stopped between the last two steps
                size = part.stat().st_size if part.is_file() else 0
                open_file = kept[-1].file
                while kept and kept[-1].file == open_file and _end(kept[-1], self.header, row_bytes) > size:
                    kept.pop()  # after a power cut the index may be ahead of the rows
                if kept and kept[-1].file == open_file:
                    end = _end(kept[-1], self.header, row_bytes)
        self.entries = {entry.id: entry for entry in kept}
        if len(kept) != len(lines) or not (self.folder / INDEX).is_file() or _torn(self.folder / INDEX):
            _write_lines(self.folder / INDEX, (json.dumps(asdict(entry) | {"dim": self.dim}) for entry in kept))
        with open(part, "r+b" if part.is_file() else "w+b") as data:
            data.truncate(end)  # longer where it is new: room for the header

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f" {len(self.entries)} recordings are kept; start the same command again." if self.entries else ""
            raise FeatureFileError(f"{self.folder}: cannot be written ({error.strerror or error}).{kept}") from error


def _end(entry: Entry, header: int, row_bytes: int) -> int:
    return header + (entry.first + entry.rows) * row_bytes


class Embeddings(Mapping[str, np.ndarray]):
    """Features that `FeatureWriter` wrote, by id: (T, D), or (D,) of utterances as a whole. Read when asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises FeatureFileError: nothing there, or not complete."""
        found = _read_settings(folder)
        if not found["complete"]:
            raise FeatureFileError(f"{folder}: not complete; start the command that made it again")
        self.folder, self.settings = folder, found["settings"]
        self.entries = {entry.id: entry for entry, _ in _read_index(folder)}
        self._tables: dict[str, np.ndarray] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        try:
            rows = self._rows(entry)
        except (OSError, ValueError) as error:
            raise FeatureFileError(f"{self.folder / entry.file}: cannot be read ({error})") from error
        return rows[0] if self.settings["level"] == "utterance" and rows.ndim == 2 else rows

    @property
    def together(self) -> np.ndarray:
        """All rows (N, D), memory-mapped. Of the format "memmap" only; raises ValueError of others."""
        if self.settings["format"] != "memmap":
            raise ValueError(f"features of format {self.settings['format']} are not in one file")
        rows: np.ndarray = np.load(self.folder / MEMMAP, mmap_mode="r")
        return rows

    def _rows(self, entry: Entry) -> np.ndarray:
        path = self.folder / entry.file
        if path.suffix == ".npy":
            own: np.ndarray = np.load(path, mmap_mode="r")
            return own[entry.first : entry.first + entry.rows]
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                found: np.ndarray = file.get_tensor(entry.id)
                return found
        if entry.file not in self._tables:  # the last file is kept: recordings are mostly read in their order
            require_parquet()
            self._tables = {entry.file: read_parquet_features(path, self.settings["level"] != "frame")}
        return self._tables[entry.file][entry.first : entry.first + entry.rows]


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {"complete": bool(found["complete"]), "settings": dict(found["settings"])}
    except FileNotFoundError as error:
        raise FeatureFileError(f"{folder}: no features here (a folder with {SETTINGS})") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FeatureFileError(f"{folder / SETTINGS}: cannot be read ({error})") from error


def _read_index(folder: Path) -> list[tuple[Entry, int]]:
    """Recordings and their width D; a last line that a stop cut short is left out."""
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise FeatureFileError(f"{folder / INDEX}: cannot be read ({error})") from error
    found = []
    for line in text.split("\n")[:-1]:
        try:
            values = json.loads(line)
            dim = int(values.pop("dim"))
            found.append((replace(Entry("", "", 0, 0, 0.0), **values), dim))
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureFileError(f"{folder / INDEX}: broken ({error}): {line[:80]}") from error
    return found


def _torn(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """A text file, whole or not at all."""
    part = path.with_name(path.name + ".new")
    with open(part, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
