"""Features of many utterances, one after another in one array that is read from disk as it is needed.

The layout is fairseq's for wav2vec-U: NAME.npy holds all frames (sum of frames, D), NAME.lengths the frames of each
utterance, one number a line; NAME.ids, which fairseq has not, names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from firstwords.errors import CorpusError

_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
"""How lists are written: ids come from file names, which need not be Unicode."""
_HEADER = 128
"""Bytes of an .npy header, with room for any number of frames."""


@dataclass(frozen=True, eq=False)
class Features:
    """Sequences of vectors, one for each utterance; `features[i]` is (T, D)."""

    values: np.ndarray
    """(sum of T, D), memory-mapped; (sum of T,) for one number a frame, as cluster ids are."""
    lengths: np.ndarray
    """(N,) int64: T of each utterance."""
    ids: tuple[str, ...]
    """(N,) utterance ids."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """(N + 1,) where each utterance begins, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of each utterance by its id."""
        return {name: number for number, name in enumerate(self.ids)}

    @property
    def dim(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> np.ndarray:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))


def read_features(folder: Path, name: str) -> Features:
    """What a `FeatureWriter` wrote; the values are mapped, not read.

    Raises:
        CorpusError: a file is missing, broken, or belongs to another one beside it.
    """
    path = folder / f"{name}.npy"
    mend = "prepare again into a new folder"
    try:
        values = np.load(path, mmap_mode="r")
        lengths = np.array([int(line) for line in (folder / f"{name}.lengths").read_text().split()], dtype=np.int64)
        ids = tuple((folder / f"{name}.ids").read_text("utf-8", "surrogateescape").split("\n")[:-1])
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"{path}: the features cannot be read ({reason}); {mend}") from error
    if len(lengths) != len(ids) or int(lengths.sum()) != len(values):
        raise CorpusError(
            f"{path}: {len(values)} frames, but {int(lengths.sum())} in {name}.lengths; {len(lengths)} lengths and "
            f"{len(ids)} ids; {mend}"
        )
    return Features(values, lengths, ids)


def have_features(folder: Path, name: str) -> bool:
    """Whether all three files are there."""
    return all((folder / f"{name}{suffix}").is_file() for suffix in (".npy", ".lengths", ".ids"))


def written_with(folder: Path, name: str) -> str | None:
    """The key of features that were written to the end; None where there are none."""
    try:
        return (folder / f"{name}.key").read_text(encoding="utf-8").strip() if have_features(folder, name) else None
    except OSError:
        return None


class FeatureWriter:
    """Writes features utterance by utterance; the files have their names only once all of them are there.

    `with FeatureWriter(folder, "train") as writer: writer.add("id", values)`. After one that was stopped or killed, a
    writer with the same `key` goes on behind the last utterance that was written: `writer.ids` says which those are.

    Args:
        folder: made if it is not there.
        name: of the three files.
        dtype: of the values.
        key: what the features depend on; unfinished files of another key are thrown away. None never goes on.

    Raises:
        CorpusError: the files cannot be written (a full disk, no permission).
    """

    def __init__(self, folder: Path, name: str, dtype: str = "float32", key: str | None = None) -> None:
        self.folder, self.name, self.dtype, self.key = folder, name, np.dtype(dtype), key
        self.shape: tuple[int, ...] | None = None
        self.frames = 0
        self.lengths: list[int] = []
        self.ids: list[str] = []
        self._part = folder / f"{name}.npy.part"
        self._journal_path = folder / f"{name}.journal"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = self._unfinished() if key is not None else 0
            self._file = open(self._part, "r+b" if kept else "wb")  # noqa: SIM115
            self._file.truncate(kept)
            self._file.seek(0, os.SEEK_END)
            if not kept:
                self._file.write(b"\0" * _HEADER)
            self._journal = open(self._journal_path, "a" if kept else "w", **_TEXT)  # noqa: SIM115
            if not kept:
                self._journal.write(f"{key}\n")
        except OSError as error:
            raise CorpusError(f"{self._part}: cannot be written ({error.strerror})") from error

    def _unfinished(self) -> int:
        """Bytes of an earlier, stopped writer that can be kept; takes over what it wrote."""
        try:
            size = self._part.stat().st_size
            first, *lines = self._journal_path.read_text("utf-8", "surrogateescape").split("\n")
        except OSError:
            return 0
        if first != self.key:
            return 0
        kept = _HEADER
        for line in lines[:-1]:  # what follows the last line break was cut
            length, shape, name = line.split("\t", 2)
            extent = tuple(int(one) for one in shape.split(",") if one)
            end = kept + int(length) * int(np.prod(extent)) * self.dtype.itemsize
            if end > size:
                break
            kept, self.shape = end, extent
            self.frames += int(length)
            self.lengths.append(int(length))
            self.ids.append(name)
        if self.ids:  # lines of utterances that are not there would count twice
            rows = (self._row(name, n) for name, n in zip(self.ids, self.lengths, strict=True))
            write_lines(self._journal_path, [first, *rows])
        return kept if self.ids else 0

    def _row(self, name: str, length: int) -> str:
        return f"{length}\t{','.join(map(str, self.shape or ()))}\t{name}"

    def add(self, name: str, values: np.ndarray) -> None:
        """The features (T, D), or numbers (T,), of the next utterance."""
        if self.shape is None:
            self.shape = values.shape[1:]
        if values.shape[1:] != self.shape:
            raise ValueError(f"{name}: values of shape {values.shape}, those before had (T, {self.shape})")
        try:
            self._file.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
            self._file.flush()
            self._journal.write(self._row(name, len(values)) + "\n")
            self._journal.flush()
        except OSError as error:
            raise CorpusError(f"{self._part}: cannot be written ({error.strerror})") from error
        self.frames += len(values)
        self.lengths.append(len(values))
        self.ids.append(name)

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as failure:
            raise CorpusError(f"{self._part}: cannot be written ({failure.strerror})") from failure
        finally:
            self._file.close()
            self._journal.close()
            if kind is not None and self.key is None:
                self._part.unlink(missing_ok=True)
                self._journal_path.unlink(missing_ok=True)
        if kind is None:
            write_lines(self.folder / f"{self.name}.lengths", map(str, self.lengths))
            write_lines(self.folder / f"{self.name}.ids", self.ids)
            os.replace(self._part, self.folder / f"{self.name}.npy")
            self._journal_path.unlink(missing_ok=True)
            if self.key is not None:
                write_lines(self.folder / f"{self.name}.key", [self.key])

    def _header(self) -> bytes:
        """Version 1.0 of the .npy format, padded to a size that does not depend on the number of frames."""
        shape = (self.frames, *(self.shape or ()))
        words = f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
        return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + words.ljust(_HEADER - 11).encode() + b"\n"


def write_lines(path: Path, lines: Iterable[str] | Sequence[str]) -> None:
    """A text file, written whole or not at all. Raises CorpusError where that fails."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", **_TEXT) as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error
