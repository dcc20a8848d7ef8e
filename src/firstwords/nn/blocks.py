"""Frames too many for the memory: blocks that can be gone through again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import ConfigError

Blocks: TypeAlias = "Iterable[np.ndarray | Tensor] | np.ndarray | Tensor"
"""Frames as one (N, D) array or tensor (memory-mapped, if it is large), or anything that gives such parts, of any
lengths, from the start each time it is iterated over: a list, or an object whose `__iter__` reads files. Not a
generator, which gives them only once."""

ROWS = 16384
"""Frames looked at together. Sums are made over parts of this length however the blocks were cut, so that results do
not depend on the cut."""


def rows(blocks: Blocks, size: int = ROWS, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """The frames as parts (size, D) of one length, the last one shorter, on the CPU.

    Raises:
        ConfigError: a part that is not (N, D), or of another D than the first, or with values that are not numbers.
    """
    held: list[Tensor] = []
    count = 0
    for part in _parts(blocks, size):
        if part.ndim != 2 or (held and part.shape[1] != held[0].shape[1]):
            expected = "(frames, dimensions)" if not held else f"(frames, {held[0].shape[1]})"
            raise ConfigError(f"features of shape {tuple(part.shape)}, expected {expected}")
        values = torch.as_tensor(np.array(part) if isinstance(part, np.ndarray) else part.detach().cpu()).to(dtype)
        if not bool(torch.isfinite(values).all()):
            raise ConfigError("features hold values that are not numbers (NaN or infinity)")
        while count + len(values) >= size:
            taken, values = values[: size - count], values[size - count :]
            yield torch.cat([*held, taken])
            held, count = [values[:0]], 0  # an empty part keeps the width
        if len(values) or not held:
            held.append(values)
            count += len(values)
    if count:
        yield torch.cat(held)


def _parts(blocks: Blocks, size: int) -> Iterator[np.ndarray | Tensor]:
    """Blocks, long ones cut, so that of a memory-mapped array only a part is read at a time."""
    if isinstance(blocks, Iterator):
        raise TypeError("blocks must be something that can be iterated over several times, not an iterator")
    for block in [blocks] if isinstance(blocks, (np.ndarray, Tensor)) else blocks:
        if block.ndim == 0 or len(block) <= size:
            yield block
            continue
        for first in range(0, len(block), size):
            yield block[first : first + size]
