"""How often codes came together with phones, speakers or languages, and what the one tells of the other, in bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LABELS = 1 << 20
"""A pair is kept as one whole number, code * _LABELS + label."""
_WAITING = 1 << 20
"""Pairs gathered before they are added up."""


@dataclass(frozen=True, eq=False)
class Table:
    """Counts of pairs of a code and a label, only those above 0, by code and then by label."""

    codes: np.ndarray
    """(n,) int64."""
    labels: np.ndarray
    """(n,) int64, indices into `names`."""
    counts: np.ndarray
    """(n,) int64."""
    names: tuple[str, ...]
    """What the labels are called."""

    @property
    def total(self) -> int:
        """Frames counted."""
        return int(self.counts.sum())

    @property
    def used(self) -> np.ndarray:
        """(K,) int64, codes that occurred, rising."""
        return np.unique(self.codes)

    def code_counts(self) -> np.ndarray:
        """(K,) frames of each used code."""
        return np.bincount(np.searchsorted(self.used, self.codes), self.counts, len(self.used)).astype(np.int64)

    def label_counts(self) -> np.ndarray:
        """(L,) frames of each label."""
        return np.bincount(self.labels, self.counts, len(self.names)).astype(np.int64)

    def dense(self) -> np.ndarray:
        """(K, L) int64, a row for each used code."""
        matrix = np.zeros((len(self.used), len(self.names)), dtype=np.int64)
        matrix[np.searchsorted(self.used, self.codes), self.labels] = self.counts
        return matrix

    def code_information(self) -> np.ndarray:
        """(K,) bits that each used code tells of the label: the divergence of P(label | code) from P(label). Weighted
        by the codes' use they add up to the mutual information."""
        rows = np.searchsorted(self.used, self.codes)
        given = self.counts / self.code_counts()[rows]
        prior = self.label_counts()[self.labels] / max(self.total, 1)
        return np.bincount(rows, given * np.log2(given / prior), len(self.used))

    def without(self, name: str) -> Table:
        """The table without a label."""
        kept = self.labels != (self.names.index(name) if name in self.names else -1)
        names = tuple(other for other in self.names if other != name)
        renamed = np.array([names.index(other) if other != name else -1 for other in self.names], dtype=np.int64)
        return Table(self.codes[kept], renamed[self.labels[kept]], self.counts[kept], names)

    def taking(self, function: np.ndarray) -> Table:
        """The table of other codes: `function` (n,) int64 has the new code of each pair."""
        return _added_up(function * _LABELS + self.labels, self.counts, self.names)


class Cooccurrence:
    """Counts pairs as they come, in memory that grows with how many different pairs there are."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._keys = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)
        self._waiting: list[np.ndarray] = []

    def index(self, name: str) -> int:
        """The number of a label, a new one where it has not come before."""
        return self._names.setdefault(name, len(self._names))

    def add(self, codes: np.ndarray, labels: np.ndarray | int) -> None:
        """Counts (n,) codes with (n,) labels, or all of them with one; labels below 0 are left out."""
        keys = codes.astype(np.int64) * _LABELS + labels
        self._waiting.append(keys[np.broadcast_to(np.asarray(labels) >= 0, keys.shape)])
        if sum(map(len, self._waiting)) > _WAITING:
            self._add_up()

    def _add_up(self) -> None:
        keys, counts = np.unique(np.concatenate([np.empty(0, np.int64), *self._waiting]), return_counts=True)
        both = _summed(np.concatenate([self._keys, keys]), np.concatenate([self._counts, counts]))
        self._keys, self._counts = both
        self._waiting.clear()

    def table(self) -> Table:
        """What was counted so far."""
        self._add_up()
        return _added_up(self._keys, self._counts, tuple(self._names))


def _summed(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, places = np.unique(keys, return_inverse=True)
    return unique, np.bincount(places, counts, len(unique)).astype(np.int64)


def _added_up(keys: np.ndarray, counts: np.ndarray, names: tuple[str, ...]) -> Table:
    keys, counts = _summed(keys, counts)
    return Table(keys // _LABELS, keys % _LABELS, counts, names)


@dataclass(frozen=True)
class Information:
    """What codes tell of labels."""

    bits: float
    """Mutual information I(code; label)."""
    chance: float
    """About what so many frames would give if codes and labels had nothing to do with each other: a table with many
    cells never looks quite independent (Miller 1955). Frames in a row are alike, so the true figure is larger."""
    label_entropy: float
    """H(label), bits: the most that could be told."""
    code_entropy: float
    """H(code), bits."""

    @property
    def share(self) -> float:
        """I / H(label): PNMI where the labels are phones (HuBERT section 4.3). 0 where there is but one label."""
        return self.bits / self.label_entropy if self.label_entropy > 0 else 0.0


def information(table: Table) -> Information:
    """The mutual information of a table's codes and labels, from relative frequencies."""
    total = max(table.total, 1)
    codes, labels = entropy(table.code_counts()), entropy(table.label_counts())
    cells = len(table.counts) - len(table.used) - int((table.label_counts() > 0).sum()) + 1
    bits = max(codes + labels - entropy(table.counts), 0.0)
    return Information(bits, cells / (2 * total * np.log(2)), labels, codes)


def purity(table: Table) -> tuple[float, float]:
    """Phone purity, the share of frames whose label is their code's commonest, and cluster purity, the share whose code
    is their label's commonest (HuBERT section 4.3)."""
    best = np.zeros(len(table.used), dtype=np.int64)
    np.maximum.at(best, np.searchsorted(table.used, table.codes), table.counts)
    commonest = np.zeros(len(table.names), dtype=np.int64)
    np.maximum.at(commonest, table.labels, table.counts)
    return float(best.sum() / max(table.total, 1)), float(commonest.sum() / max(table.total, 1))


def entropy(counts: np.ndarray) -> float:
    """Bits, of counts of any shape."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum())


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two counts over the same things, in bits: 0 alike, 1 nothing in common."""
    one, other = (counts / max(counts.sum(), 1) for counts in (first, second))
    middle = (one + other) / 2

    def divergence(shares: np.ndarray) -> float:
        inside = shares > 0
        return float((shares[inside] * np.log2(shares[inside] / middle[inside])).sum())

    return min(max((divergence(one) + divergence(other)) / 2, 0.0), 1.0)


def similarities(halves: Sequence[Table]) -> np.ndarray:
    """(L, L) 1 - Jensen-Shannon divergence between the code use of labels, from two halves of the frames.

    Off the diagonal both halves of a label are taken together. On it one half is compared with the other: what two
    labels without any difference would reach with so many frames. NaN where a label lacks one.
    """
    names = halves[0].names
    used = np.union1d(halves[0].codes, halves[1].codes)
    counts = np.zeros((2, len(names), len(used)))
    for half, table in enumerate(halves):
        counts[half, table.labels, np.searchsorted(used, table.codes)] = table.counts
    both = counts.sum(0)
    matrix = np.full((len(names), len(names)), np.nan)
    for one in range(len(names)):
        if counts[:, one].any(1).all():
            matrix[one, one] = 1 - jensen_shannon(counts[0, one], counts[1, one])
        for other in range(one):
            if both[one].any() and both[other].any():
                matrix[one, other] = matrix[other, one] = 1 - jensen_shannon(both[one], both[other])
    return matrix
