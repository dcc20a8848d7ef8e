"""Rows of features as .npy, safetensors and Parquet files, without holding a file's worth of them in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.errors import MissingExtraError

NPY_HEADER = 128
"""Bytes of an .npy header here, with room for any number of rows."""
_COPIED = 1 << 24
"""Bytes copied at a time."""


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Version 1.0 of the .npy format, padded to a size that does not depend on the shape."""
    words = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    return (
        b"\x93NUMPY\x01\x00" + (NPY_HEADER - 10).to_bytes(2, "little") + words.ljust(NPY_HEADER - 11).encode() + b"\n"
    )


def write_safetensors(
    path: Path, rows: Path, dtype: np.dtype, dim: int, tensors: Sequence[tuple[str, int, int]], single: bool
) -> None:
    """A safetensors file of rows that lie in a plain file.

    Args:
        path: overwritten.
        rows: a file of nothing but rows (N, D).
        dtype: of their values, float32 or float16.
        dim: D.
        tensors: name, first row and number of rows of each, in order and without gaps.
        single: a tensor of one row is (D,), not (1, D).
    """
    size = dtype.itemsize * dim
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, first, count in tensors:
        header[name] = {
            "dtype": f"F{8 * dtype.itemsize}",
            "shape": [dim] if single else [count, dim],
            "data_offsets": [first * size, (first + count) * size],
        }
    words = json.dumps(header).encode("ascii")
    words += b" " * (-len(words) % 8)
    with open(path, "wb") as file, open(rows, "rb") as source:
        file.write(len(words).to_bytes(8, "little") + words)
        shutil.copyfileobj(source, file, _COPIED)
        file.flush()
        os.fsync(file.fileno())


def require_parquet() -> None:
    """Raises MissingExtraError without pyarrow."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Parquet", "pyarrow", "parquet") from error


def write_parquet(
    path: Path,
    values: np.ndarray,
    recordings: Sequence[tuple[str, int, int, float]],
    columns: Sequence[Mapping[str, Any]],
    by_row: bool,
) -> None:
    """A Parquet file with the columns id, seconds, those given, and features.

    Args:
        path: overwritten.
        values: (N, D) float32 or float16.
        recordings: id, first row, number of rows, and seconds of each, in order and without gaps.
        columns: other columns of each recording: text or None, or a list of numbers, one for each of its rows.
        by_row: each row of features is a row of the table, a list of D numbers; else each recording is, and its
            features are a list of such lists, counted in the column frames.
    """
    import pyarrow
    import pyarrow.parquet

    counts = [rows if by_row else 1 for _, _, rows, _ in recordings]

    def repeated(own: Iterable[Any]) -> list[Any]:
        return [value for one, count in zip(own, counts, strict=True) for value in [one] * count]

    table: dict[str, Any] = {
        "id": pyarrow.array(repeated(one[0] for one in recordings), pyarrow.string()),
        "seconds": pyarrow.array(repeated(one[3] for one in recordings), pyarrow.float64()),
    }
    for key in columns[0] if columns else ():
        if isinstance(columns[0][key], list):
            table[key] = pyarrow.array([value for held in columns for value in held[key]])
        else:
            table[key] = pyarrow.array(repeated(held[key] for held in columns), pyarrow.string())
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
    if by_row:
        table["features"] = flat
    else:
        frames = [rows for _, _, rows, _ in recordings]
        offsets = np.cumsum([0, *frames], dtype=np.int32)
        table["frames"] = pyarrow.array(frames, pyarrow.int64())
        table["features"] = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), flat)
    with open(path, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.table(table), file)
        file.flush()
        os.fsync(file.fileno())


def read_parquet_features(path: Path, by_row: bool) -> np.ndarray:
    """All rows (N, D) of a file that `write_parquet` wrote."""
    import pyarrow.parquet

    column = pyarrow.parquet.read_table(path, columns=["features"])["features"].combine_chunks()
    rows = column if by_row else column.flatten()
    found: np.ndarray = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return found
