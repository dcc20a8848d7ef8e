"""Words and characters with their times and confidence, from labels and the frames that they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from firstwords.text.alphabet import BOUNDARY, SPECIALS, Alphabet

REACH = 2.0
"""Frames by which a word may begin before its first label and end after its last (docs/alignment.md has the errors)."""


@dataclass(frozen=True)
class Character:
    """A character, or a phone, of a word."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    confidence: float | None
    """Its probability, 0 to 1; None where nothing was recognised (a wildcard of an alignment)."""


@dataclass(frozen=True)
class Word:
    """A word, when it is heard, and how sure that is."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds; a pause before the next word belongs to neither."""
    confidence: float | None
    """Transcripts: the probability that it is right (calibrated where a temperature was fitted). Alignments: the mean
    probability of its labels. 0 to 1; None where nothing of it can be spelt."""
    characters: tuple[Character, ...] = ()


@dataclass(frozen=True)
class FrameClock:
    """When frames are."""

    hop: float = 0.02
    """Seconds from one frame to the next."""
    offset: float = 0.0
    """Where frame 0 begins, if a frame is as long as the hop and lies in the middle of what the network sees for it."""

    def seconds(self, edge: float) -> float:
        """The time of an edge between frames; edge 0 is where frame 0 begins."""
        return edge * self.hop + self.offset


@dataclass(frozen=True)
class Label:
    """A label and the frames that it takes."""

    index: int
    """In the alphabet, or WILDCARD."""
    start: int
    """First frame."""
    end: int
    """The frame after its last."""
    probability: float | None
    """0 to 1."""
    text: str | None = None
    """What to show in place of the alphabet's symbol."""


@dataclass(frozen=True)
class Span:
    """Labels of one word, and where its surroundings leave it room: edges between frames."""

    labels: tuple[Label, ...]
    low: float
    high: float


def spans(labels: Sequence[Label], alphabet: Alphabet) -> list[Span]:
    """The words among labels: what stands between boundaries. Neighbours meet in the middle of a boundary's frames."""
    boundary = alphabet.boundary
    found: list[Span] = []
    waiting: list[Label] = []
    low = -math.inf
    for label in labels:
        if label.index == boundary:
            middle = (label.start + label.end) / 2
            if waiting:
                found.append(Span(tuple(waiting), low, middle))
            waiting, low = [], middle
        elif label.index < 0 or alphabet.symbols[label.index] not in SPECIALS:
            waiting.append(label)
    if waiting:
        found.append(Span(tuple(waiting), low, math.inf))
    return found


def timed_word(span: Span, alphabet: Alphabet, clock: FrameClock, duration: float, text: str | None = None) -> Word:
    """A word with its times in seconds, within a recording of `duration` seconds.

    A label's neighbours within the word share the frames between them with it. The word's own edges are those of
    `Span`, but no further than `REACH` from its labels: how long a sound goes on beside its label CTC does not tell.

    Args:
        text: what to show; None joins the labels' symbols.
    """
    labels = span.labels
    edges = [max(span.low, labels[0].start - REACH)]
    edges += [(left.end + right.start) / 2 for left, right in pairwise(labels)]
    edges.append(max(min(span.high, labels[-1].end + REACH), edges[0]))
    times = [min(max(clock.seconds(edge), 0.0), duration) for edge in edges]
    shown = [label.text if label.text is not None else alphabet.symbols[label.index] for label in labels]
    characters = tuple(
        Character(symbol, start, end, label.probability)
        for symbol, label, start, end in zip(shown, labels, times, times[1:], strict=False)
    )
    known = [label.probability for label in labels if label.probability is not None]
    joined = ("" if alphabet.units == "characters" else " ").join(shown)
    confidence = math.prod(known) if known else None
    return Word(joined if text is None else text, times[0], times[-1], confidence, characters)


def separator(alphabet: Alphabet) -> str:
    """What stands between words in a text of this alphabet."""
    return " " if alphabet.units == "characters" else f" {BOUNDARY} "
