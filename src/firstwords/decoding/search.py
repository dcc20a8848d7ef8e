"""Beam search over CTC emissions in numpy: hypotheses are prefixes of labels, and all of them take a step at once.

A prefix is there once, with the best way to it that ends in a blank and the best that ends in its last label
(Graves 2006; Hannun et al. 2014): that is all that a repeated label needs to know. What may follow a prefix and what
it costs is asked of a `Scorer` when the prefix enters the beam, so that lexicon and language model are no business of
the search. Scores are those of fairseq's decoders: log p(emissions) + weight x log10 p(words) + word score x words +
silence score x frames of the word boundary, over the best path, or over all paths with `log_add`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from firstwords.decoding.growing import Chains
from firstwords.decoding.hypothesis import BLANK
from firstwords.decoding.settings import SearchSettings

NEVER = -np.inf
LEAST = -1e4
"""Log probabilities are no lower than this, so that even impossible frames leave something in the beam."""
BLANK_END, LABEL_END = 0, 1
"""Rows of the arrays (2, B): ways to a prefix that end in a blank, and in its last label."""


class Scorer(Protocol):
    """What may follow a prefix, and what it is worth. Its states are what it remembers of a prefix."""

    columns: np.ndarray
    """(W,) the label of each column of `gains`: first all labels of the emissions, column v being label v; then further
    ways to take a label (homophones end alike)."""

    def start(self) -> Any:
        """The state of the empty prefix."""
        ...

    def extend(self, states: Sequence[Any], columns: Sequence[int]) -> list[Any]:
        """The states after taking one column each."""
        ...

    def gains(self, states: Sequence[Any]) -> np.ndarray:
        """(n, W) what each column adds to the score besides its emission; -inf where it may not follow."""
        ...

    def idle(self, state: Any) -> bool:
        """Whether frames of the word boundary leave this state as it is, like blanks: between words."""
        ...

    def endings(self, state: Any) -> list[tuple[int | None, float, Any]]:
        """Ways to end the utterance: the column that is taken unheard, if any, what is added to the score, and the
        state; none where a word is unfinished."""
        ...

    def language(self, state: Any) -> float:
        """log10 of the probability of the words and of the end after them, unweighted."""
        ...

    def words(self, state: Any) -> tuple[str, ...] | None:
        """The lexicon's words so far; None where there is no lexicon."""
        ...


@dataclass(frozen=True)
class Found:
    """A complete hypothesis."""

    labels: list[int]
    frames: list[int]
    emission: float
    score: float
    state: Any


@dataclass
class _Beam:
    """Prefixes side by side."""

    prefix: np.ndarray
    """(B,) their numbers in the tree of prefixes."""
    column: np.ndarray
    """(B,) the column that each ends with, the blank for none."""
    label: np.ndarray
    """(B,) its label."""
    score: np.ndarray
    """(2, B)"""
    emission: np.ndarray
    """(2, B) what of the score are emissions."""
    trace: np.ndarray
    """(2, B) the peaks of all labels but the last, as a chain."""
    peak: np.ndarray
    """(2, B) highest emission of the last label."""
    frame: np.ndarray
    """(2, B) and where it was."""
    gains: np.ndarray
    """(B, W)"""
    idle: np.ndarray
    """(B,) whether boundaries count as blanks."""
    states: list[Any]


class BeamSearch:
    """Finds the readings of highest score.

    Args:
        scorer: lexicon and language model.
        settings: how widely to search; the scorer has its weights already.
        boundary: index of the word boundary.
    """

    def __init__(self, scorer: Scorer, settings: SearchSettings, boundary: int) -> None:
        self.scorer, self.limits = scorer, settings
        self.blank, self.boundary, self.silence_score = BLANK, boundary, settings.silence_score
        self._add: Callable[..., np.ndarray] = np.logaddexp if settings.log_add else np.maximum

    def __call__(self, emissions: np.ndarray, most: int = 1) -> list[Found]:
        """At most `most` readings, best first, at least one.

        Args:
            emissions: log probabilities (T, V); T may be 0.
        """
        emissions = np.maximum(emissions.astype(np.float64), LEAST)
        prefixes, traces = Chains(), Chains()
        beam = self._first(prefixes.add_one(0, self.blank))
        for frame, row in enumerate(emissions):
            beam = self._step(beam, frame, row, prefixes, traces)
            if prefixes.full:
                beam.prefix = prefixes.compact(beam.prefix)
            if traces.full:
                beam.trace = traces.compact(beam.trace.reshape(-1)).reshape(2, -1)
        return self._finish(beam, prefixes, traces, most)

    def _first(self, prefix: int) -> _Beam:
        state = self.scorer.start()
        idle = self.scorer.idle(state)
        # As in fairseq an utterance begins as if a boundary had been there: one at its very start is no label.
        label = self.blank if idle else self.boundary
        score = np.array([[0.0], [NEVER]] if idle else [[NEVER], [0.0]])
        zero = np.zeros((2, 1))
        none = np.zeros((2, 1), dtype=np.int64)
        one = np.array([label])
        gains = self.scorer.gains([state])
        only = np.array([prefix])
        return _Beam(only, one, one, score, zero, none, zero + NEVER, none, gains, np.array([idle]), [state])

    def _step(self, beam: _Beam, frame: int, row: np.ndarray, prefixes: Chains, traces: Chains) -> _Beam:
        """The beam after one more frame of log probabilities (V,)."""
        scored = row.copy()
        scored[self.boundary] += self.silence_score
        everyone = np.arange(len(beam.prefix))
        total = self._add(beam.score[BLANK_END], beam.score[LABEL_END])
        better_end = beam.score.argmax(0)

        # The same prefix with a blank more; between words a boundary does the same.
        rest = np.full(len(everyone), self.blank)
        if scored[self.boundary] > scored[self.blank]:
            rest[beam.idle] = self.boundary
        stay = scored[rest]
        if self.limits.log_add:
            stay = np.where(beam.idle, np.logaddexp(scored[self.blank], scored[self.boundary]), stay)
        score = np.empty_like(beam.score)
        score[BLANK_END] = total + stay
        # The same prefix with its last label repeated.
        repeated = row[beam.label]
        score[LABEL_END] = np.where(beam.idle, NEVER, beam.score[LABEL_END] + scored[beam.label])
        # A label more. One that repeats the last needs a blank between.
        allowed = self._likeliest(scored)[self.scorer.columns]
        longer = total[:, None] + beam.gains + allowed
        again = self.scorer.columns[beam.column]
        longer[everyone, again] = beam.score[BLANK_END] + beam.gains[everyone, again] + allowed[again]

        def held(values: np.ndarray) -> np.ndarray:
            return np.stack([values[better_end, everyone], values[LABEL_END]])

        emission = held(beam.emission)
        emission[BLANK_END] += row[rest]
        emission[LABEL_END] += repeated
        trace, peak, when = held(beam.trace), held(beam.peak), held(beam.frame)
        for end, heard in ((BLANK_END, np.where(rest == self.boundary, row[rest], NEVER)), (LABEL_END, repeated)):
            higher = heard > peak[end]
            peak[end, higher] = heard[higher]
            when[end, higher] = frame

        # A prefix of the beam may also be reached from the one that is a label shorter, where that is in the beam.
        slot = prefixes.slots(beam.prefix)
        source = slot[prefixes.parent[beam.prefix]]
        reached = np.flatnonzero(source >= 0)
        source, column = source[reached], beam.column[reached]
        arriving = longer[source, column]
        longer[source, column] = NEVER
        wins = arriving > score[LABEL_END, reached]
        score[LABEL_END, reached] = self._add(score[LABEL_END, reached], arriving)
        prefixes.clear(beam.prefix)

        # The best of all: prefixes that stay, and new ones.
        values = np.concatenate([self._add(score[BLANK_END], score[LABEL_END]), longer.reshape(-1)])
        kept = np.flatnonzero(values >= values.max() - self.limits.beam_threshold)
        if len(kept) > self.limits.beam:
            kept = np.sort(kept[np.argpartition(values[kept], -self.limits.beam)[-self.limits.beam :]])
        staying = kept[: np.searchsorted(kept, len(everyone))]
        from_row, new_column = np.divmod(kept[len(staying) :] - len(everyone), longer.shape[1])

        def enter(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
            """Emission, trace, peak and frame of ways that have just taken a column."""
            end = np.where(columns == self.scorer.columns[beam.column[rows]], BLANK_END, better_end[rows])
            taken = row[self.scorer.columns[columns]]
            chain = traces.add(beam.trace[end, rows], beam.frame[end, rows])
            return beam.emission[end, rows] + taken, chain, taken, np.full(len(rows), frame)

        winners = reached[wins]
        arrived = enter(source[wins], column[wins])
        for values_of, value in zip((emission, trace, peak, when), arrived, strict=True):
            values_of[LABEL_END, winners] = value
        entered = enter(from_row, new_column)

        def joined(old: np.ndarray, new: np.ndarray, blank: float = 0.0) -> np.ndarray:
            both = np.stack([np.full(len(new), blank, dtype=old.dtype), new])
            return np.concatenate([old[:, staying], both], axis=1)

        new_states = self.scorer.extend([beam.states[n] for n in from_row.tolist()], new_column.tolist())
        new_gains = self.scorer.gains(new_states) if new_states else beam.gains[:0]
        new_idle = np.array([self.scorer.idle(state) for state in new_states], dtype=bool)
        return _Beam(
            np.concatenate([beam.prefix[staying], prefixes.find(beam.prefix[from_row], new_column)]),
            np.concatenate([beam.column[staying], new_column]),
            np.concatenate([beam.label[staying], self.scorer.columns[new_column]]),
            joined(score, longer[from_row, new_column], NEVER),
            joined(emission, entered[0]),
            joined(trace, entered[1]),
            joined(peak, entered[2]),
            joined(when, entered[3]),
            np.concatenate([beam.gains[staying], new_gains]),
            np.concatenate([beam.idle[staying], new_idle]),
            [beam.states[n] for n in staying.tolist()] + new_states,
        )

    def _likeliest(self, row: np.ndarray) -> np.ndarray:
        """`row` (V,) with -inf for the labels that this frame may not begin."""
        count = self.limits.token_beam
        if not 0 < count < len(row):
            return row
        chosen = np.argpartition(row, -count)[-count:]
        limited = np.full_like(row, NEVER)
        limited[chosen] = row[chosen]
        return limited

    def _finish(self, beam: _Beam, prefixes: Chains, traces: Chains, most: int) -> list[Found]:
        """All prefixes that can end here; where none can, all as they are."""
        total = self._add(beam.score[BLANK_END], beam.score[LABEL_END])
        better_end = beam.score.argmax(0)
        ended: dict[tuple[int, int | None], tuple[float, float, int, Any]] = {}
        for n, before in enumerate(beam.states):
            for column, gain, state in self._endings(before):
                score = float(total[n]) + gain
                # A word that ends with the utterance is the same with its boundary and without.
                key = int(beam.prefix[n]), column
                if column is None and beam.idle[n]:
                    key = int(prefixes.parent[beam.prefix[n]]), int(beam.column[n])
                best, summed, *_ = ended.get(key, (NEVER, NEVER))
                summed = float(self._add(summed, score))
                ended[key] = (score, summed, n, state) if score > best else (best, summed, *ended[key][2:])
        found = list(ended.values()) or [(float(s), float(s), n, beam.states[n]) for n, s in enumerate(total)]
        found.sort(key=lambda one: -one[1])
        readings: dict[tuple[int, ...], Found] = {}
        for _, score, n, state in found:
            one = self._found(beam, n, int(better_end[n]), score, state, prefixes, traces)
            readings.setdefault(tuple(one.labels), one)  # homophones read alike
            if len(readings) == most:
                break
        return list(readings.values())

    def _endings(self, state: Any) -> list[tuple[int | None, float, Any]]:
        """Ways to end the utterance (see `Scorer.endings`)."""
        return self.scorer.endings(state)

    def _found(
        self, beam: _Beam, n: int, end: int, score: float, state: Any, prefixes: Chains, traces: Chains
    ) -> Found:
        labels = [int(self.scorer.columns[column]) for column in prefixes.chain(int(beam.prefix[n]))[1:]]
        frames = [*traces.chain(int(beam.trace[end, n]))[1:], int(beam.frame[end, n])] if labels else []
        return Found(labels, frames, float(beam.emission[end, n]), score, state)
