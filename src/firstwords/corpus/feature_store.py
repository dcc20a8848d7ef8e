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

import numpy as np

from firstwords.errors import CorpusError

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
        ids = tuple((folder / f"{name}.ids").read_text(encoding="utf-8").splitlines())
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


class FeatureWriter:
    """Writes features utterance by utterance, whole or not at all: without an error the files are there at the end.

    `with FeatureWriter(folder, "train") as writer: writer.add("id", values)`.

    Args:
        folder: made if it is not there.
        name: of the three files.
        dtype: of the values.

    Raises:
        CorpusError: the files cannot be written (a full disk, no permission).
    """

    def __init__(self, folder: Path, name: str, dtype: str = "float32") -> None:
        self.folder, self.name, self.dtype = folder, name, np.dtype(dtype)
        self.shape: tuple[int, ...] | None = None
        self.frames = 0
        self.lengths: list[int] = []
        self.ids: list[str] = []
        self._part = folder / f"{name}.npy.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "wb")  # noqa: SIM115
            self._file.write(b"\0" * _HEADER)
        except OSError as error:
            raise CorpusError(f"{self._part}: cannot be written ({error.strerror})") from error

    def add(self, name: str, values: np.ndarray) -> None:
        """The features (T, D), or numbers (T,), of the next utterance."""
        if self.shape is None:
            self.shape = values.shape[1:]
        if values.shape[1:] != self.shape:
            raise ValueError(f"{name}: values of shape {values.shape}, those before had (T, {self.shape})")
        try:
            self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
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
            if kind is not None:
                self._part.unlink(missing_ok=True)
        if kind is None:
            write_lines(self.folder / f"{self.name}.lengths", map(str, self.lengths))
            write_lines(self.folder / f"{self.name}.ids", self.ids)
            os.replace(self._part, self.folder / f"{self.name}.npy")

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
        with open(part, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error
