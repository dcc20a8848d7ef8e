"""Repeated symbols written as a count: "a n n" as "a n 1" (wav2letter's `replabel`).

ASG has no blank, so that the same label twice in a row sounds like the same label once. A symbol for "the last one once
more", one for "twice more", and so on, tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

Symbol = TypeVar("Symbol")


def repetition_symbols(most: int) -> tuple[str, ...]:
    """The symbols "1" to `most`."""
    return tuple(map(str, range(1, most + 1)))


def pack(labels: Iterable[Symbol], repetitions: Sequence[Symbol]) -> list[Symbol]:
    """Labels with their repeats counted: x x x as x and the second of `repetitions`.

    A longer run goes on with the label again: five of x with two symbols are x 2 x 1. Without symbols nothing changes.
    """
    packed: list[Symbol] = []
    for label, run in groupby(labels):
        left = sum(1 for _ in run)
        while left:
            taken = min(left, len(repetitions) + 1)
            packed.append(label)
            if taken > 1:
                packed.append(repetitions[taken - 2])
            left -= taken
    return packed


def unpack(labels: Iterable[Symbol], repetitions: Sequence[Symbol]) -> list[Symbol]:
    """Each symbol of `repetitions` replaced by what it repeats; one with nothing to repeat before it is dropped."""
    return [label for part in spelt(labels, repetitions) for label in part]


def spelt(labels: Iterable[Symbol], repetitions: Sequence[Symbol]) -> list[list[Symbol]]:
    """For each label what it stands for: itself, or what it repeats, as often as it says."""
    count = {symbol: number for number, symbol in enumerate(repetitions, 1)}
    parts: list[list[Symbol]] = []
    before: list[Symbol] = []
    for label in labels:
        if label in count:
            parts.append(before * count[label])
            before = []  # a count repeats a label, not a count
        else:
            before = [label]
            parts.append(before)
    return parts
