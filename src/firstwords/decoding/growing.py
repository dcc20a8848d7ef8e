"""Chains that grow at their ends and share their beginnings: the histories of a beam search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 2_000_000
"""Links after which those that no hypothesis needs any more are thrown away."""


class Chains:
    """A tree of links, each with a value and the link before it. Link 0 is before all chains."""

    def __init__(self) -> None:
        self.parent = np.zeros(1024, dtype=np.int64)
        self.value = np.zeros(1024, dtype=np.int64)
        self.count = 1
        self._slot = np.full(1024, -1, dtype=np.int64)
        self._known: dict[tuple[int, int], int] = {}
        self._most = MOST

    @property
    def full(self) -> bool:
        """Whether `compact` is due."""
        return self.count > self._most

    def add(self, parents: np.ndarray, values: np.ndarray) -> np.ndarray:
        """New links (n,)."""
        begin, self.count = self.count, self.count + len(parents)
        while self.count > len(self.parent):
            self.parent = np.concatenate([self.parent, np.zeros_like(self.parent)])
            self.value = np.concatenate([self.value, np.zeros_like(self.value)])
            self._slot = np.concatenate([self._slot, np.full_like(self._slot, -1)])
        self.parent[begin : self.count] = parents
        self.value[begin : self.count] = values
        return np.arange(begin, self.count)

    def add_one(self, parent: int, value: int) -> int:
        """A new link."""
        return int(self.add(np.array([parent]), np.array([value]))[0])

    def find(self, parents: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Links (n,) with these parents and values: the ones found before, or new ones. The pairs are distinct."""
        pairs = list(zip(parents.tolist(), values.tolist(), strict=True))
        found = np.array([self._known.get(pair, -1) for pair in pairs], dtype=np.int64)
        new = np.flatnonzero(found < 0)
        found[new] = self.add(parents[new], values[new])
        self._known.update((pairs[n], int(found[n])) for n in new.tolist())
        return found

    def slots(self, links: np.ndarray) -> np.ndarray:
        """(links,) where in `links` each link of the tree stands, -1 for nowhere; until `clear(links)`."""
        self._slot[links] = np.arange(len(links))
        return self._slot

    def clear(self, links: np.ndarray) -> None:
        """Undoes `slots`."""
        self._slot[links] = -1

    def chain(self, link: int) -> list[int]:
        """The values from the first link to this one."""
        values: list[int] = []
        while link > 0:
            values.append(int(self.value[link]))
            link = int(self.parent[link])
        return values[::-1]

    def compact(self, ends: np.ndarray) -> np.ndarray:
        """Keeps only the chains that lead to `ends` (n,); returns the ends' new numbers."""
        keep = np.zeros(self.count, dtype=bool)
        keep[0] = True
        front: Sequence[int] | np.ndarray = np.unique(ends)
        while len(front):
            keep[front] = True
            above = np.unique(self.parent[front])
            front = above[~keep[above]]
        kept = np.flatnonzero(keep)
        number = np.cumsum(keep) - 1
        self.parent[: len(kept)] = number[self.parent[kept]]
        self.value[: len(kept)] = self.value[kept]
        self.count = len(kept)
        self._most = max(MOST, 2 * self.count)
        self._known = {
            (int(number[parent]), value): int(number[link])
            for (parent, value), link in self._known.items()
            if keep[link]
        }
        return number[ends]
