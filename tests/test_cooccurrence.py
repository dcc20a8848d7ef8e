"""Counts of pairs, and what they say in bits, against what follows from the definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from firstwords.cooccurrence import Cooccurrence, Table, information, jensen_shannon, purity, similarities


def counted(codes: np.ndarray, labels: np.ndarray, parts: int = 1) -> Table:
    counts = Cooccurrence()
    for name in "abcde":
        counts.index(name)
    for some, others in zip(np.array_split(codes, parts), np.array_split(labels, parts), strict=True):
        counts.add(some, others)
    return counts.table()


def pairs(seed: int, size: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Codes, some of them large numbers, that tell something of their label."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, size)
    codes = np.where(random.random(size) < 0.6, labels * 7, random.integers(0, 40, size)) * 1_000_003
    return codes, labels


def test_counts_are_those_of_every_pair_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, labels = pairs(0)
    expected = Counter(zip(codes.tolist(), labels.tolist(), strict=True))
    whole = counted(codes, labels)
    monkeypatch.setattr("firstwords.cooccurrence._WAITING", 100)
    for table in (whole, counted(codes, labels, parts=37)):
        found = zip(table.codes.tolist(), table.labels.tolist(), table.counts.tolist(), strict=True)
        assert {(code, label): count for code, label, count in found} == expected
        assert table.total == 3000 and table.dense().sum() == 3000 and table.names == tuple("abcde")
        assert (table.dense().sum(1) == table.code_counts()).all()
        assert (table.dense().sum(0) == table.label_counts()).all()


def test_labels_below_zero_are_left_out() -> None:
    counts = Cooccurrence()
    counts.add(np.array([1, 2, 3]), np.array([0, -1, 0]))
    counts.add(np.array([4, 4]), counts.index("a"))
    assert counts.table().codes.tolist() == [1, 3, 4] and counts.table().counts.tolist() == [1, 1, 2]


def test_without_a_label() -> None:
    codes, labels = pairs(3)
    rest = counted(codes, labels).without("b")
    assert rest.names == tuple("acde") and rest.total == (labels != 1).sum()
    assert (rest.dense() == np.delete(counted(codes, labels).dense(), 1, 1)[np.isin(np.unique(codes), rest.used)]).all()
    assert counted(codes, labels).without("none").total == 3000


def test_information_is_what_its_definition_says() -> None:
    codes, labels = pairs(1)
    table = counted(codes, labels)
    total = len(codes)
    joint = Counter(zip(codes.tolist(), labels.tolist(), strict=True))
    of_code, of_label = Counter(codes.tolist()), Counter(labels.tolist())
    bits = sum(n / total * math.log2(n * total / of_code[c] / of_label[p]) for (c, p), n in joint.items())
    found = information(table)
    assert found.bits == pytest.approx(bits)
    assert found.label_entropy == pytest.approx(-sum(n / total * math.log2(n / total) for n in of_label.values()))
    assert found.share == pytest.approx(bits / found.label_entropy)
    assert (table.code_information() * table.code_counts()).sum() / total == pytest.approx(bits)
    best = sum(max(n for (c, _), n in joint.items() if c == code) for code in of_code)
    commonest = sum(max(n for (_, p), n in joint.items() if p == label) for label in of_label)
    assert purity(table) == pytest.approx((best / total, commonest / total))


def test_information_between_nothing_and_everything() -> None:
    """Codes that are the labels tell all; codes that have nothing to do with them tell about what chance gives."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 5, 20_000)
    assert information(counted(labels, labels)).share == pytest.approx(1)
    independent = information(counted(random.integers(0, 300, 20_000), labels))
    assert independent.bits == pytest.approx(independent.chance, rel=0.1) and independent.chance > 0.02
    assert information(counted(labels, np.zeros(20_000, dtype=np.int64))).share == 0


def test_jensen_shannon() -> None:
    one, other = np.array([3, 1, 0]), np.array([1, 1, 2])
    p, q = one / 4, other / 4
    middle = (p + q) / 2
    expected = 0.5 * sum(a * math.log2(a / m) for a, m in zip(p, middle, strict=True) if a)
    expected += 0.5 * sum(a * math.log2(a / m) for a, m in zip(q, middle, strict=True) if a)
    assert jensen_shannon(one, other) == pytest.approx(expected) == jensen_shannon(10 * other, one)
    assert jensen_shannon(one, 7 * one) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([5, 0]), np.array([0, 2])) == pytest.approx(1)


def test_similarities() -> None:
    """Two labels that use codes alike, one that does not, one without a second half."""
    halves = []
    for half in range(2):
        counts = Cooccurrence()
        for name in "abcd":
            counts.index(name)
        random = np.random.default_rng(half)
        for label, low in ((0, 0), (1, 0), (2, 50), (3, 0)):
            if label < 3 or half == 0:
                counts.add(random.integers(low, low + 20, 4000), label)
        halves.append(counts.table())
    matrix = similarities(halves)
    assert matrix[0, 1] == matrix[1, 0] > 0.99 and matrix[0, 2] == pytest.approx(0, abs=1e-9)
    assert (np.diag(matrix)[:3] > 0.99).all() and np.isnan(matrix[3, 3]) and matrix[3, 0] > 0.99
