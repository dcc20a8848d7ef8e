"""Beam search over ASG emissions: that of `search`, with transition scores and no blank.

A prefix has one way to it, that ends in its last label; a frame repeats that label or takes another. So there is no
need for a second row of everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from firstwords.decoding.growing import Chains
from firstwords.decoding.search import LABEL_END, NEVER, BeamSearch, Scorer, _Beam
from firstwords.decoding.settings import SearchSettings


class AsgSearch(BeamSearch):
    """Finds the readings of highest score.

    Args:
        scorer, settings, boundary: as in `BeamSearch`.
        transitions: (N, N), entry [i, j] for the step from j to i.
        repeats: whether a label may follow itself, where a lexicon spells so (an alphabet without repetitions).
        heard_ends: whether the boundary after the last word has to be heard, as it was in training.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: SearchSettings,
        boundary: int,
        transitions: np.ndarray,
        repeats: bool,
        heard_ends: bool,
    ) -> None:
        super().__init__(scorer, settings, boundary)
        self.repeats, self.heard_ends = repeats, heard_ends
        self.stays = np.diagonal(transitions).astype(np.float64)
        self.steps = transitions.astype(np.float64).T[:, scorer.columns]
        """(N, W) from each label to that of each column."""

    def _first(self, prefix: int) -> _Beam:
        """As if a boundary had been heard before; frames of it at the very start are no label."""
        beam = super()._first(prefix)
        beam.label = beam.column = np.array([self.boundary])
        beam.score = np.array([[NEVER], [0.0]])
        return beam

    def _endings(self, state: Any) -> list[tuple[int | None, float, Any]]:
        ends = super()._endings(state)
        return [one for one in ends if one[0] is None] if self.heard_ends else ends

    def _step(self, beam: _Beam, frame: int, row: np.ndarray, prefixes: Chains, traces: Chains) -> _Beam:
        """The beam after one more frame of emissions (N,)."""
        scored = row.copy()
        scored[self.boundary] += self.silence_score
        columns, everyone = self.scorer.columns, np.arange(len(beam.prefix))
        moves = self.steps[beam.label] if frame else np.zeros((1, len(columns)))
        stays = self.stays[beam.label] if frame else np.zeros(1)

        total = beam.score[LABEL_END]
        score = total + stays + scored[beam.label]
        longer = total[:, None] + beam.gains + moves + self._likeliest(scored)[columns]
        if not self.repeats:
            longer[everyone, columns[beam.column]] = NEVER

        emission = beam.emission[LABEL_END] + stays + row[beam.label]
        trace, peak, when = (part[LABEL_END].copy() for part in (beam.trace, beam.peak, beam.frame))
        higher = row[beam.label] > peak
        peak[higher], when[higher] = row[beam.label][higher], frame

        # A prefix of the beam may also be reached from the one that is a label shorter, where that is in the beam.
        source = prefixes.slots(beam.prefix)[prefixes.parent[beam.prefix]]
        reached = np.flatnonzero(source >= 0)
        source, column = source[reached], beam.column[reached]
        arriving = longer[source, column]
        longer[source, column] = NEVER
        wins = arriving > score[reached]
        score[reached] = self._add(score[reached], arriving)
        prefixes.clear(beam.prefix)

        values = np.concatenate([score, longer.reshape(-1)])
        kept = np.flatnonzero(values >= values.max() - self.limits.beam_threshold)
        if len(kept) > self.limits.beam:
            kept = np.sort(kept[np.argpartition(values[kept], -self.limits.beam)[-self.limits.beam :]])
        staying = kept[: np.searchsorted(kept, len(everyone))]
        rows, new_column = np.divmod(kept[len(staying) :] - len(everyone), longer.shape[1])

        def enter(rows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
            """Emission, trace, peak and frame of ways that have just taken a column."""
            taken = row[columns[chosen]]
            chain = traces.add(beam.trace[LABEL_END, rows], beam.frame[LABEL_END, rows])
            return beam.emission[LABEL_END, rows] + moves[rows, chosen] + taken, chain, taken, np.full(len(rows), frame)

        winners = reached[wins]
        arrived = enter(source[wins], column[wins])
        for values_of, value in zip((emission, trace, peak, when), arrived, strict=True):
            values_of[winners] = value
        entered = enter(rows, new_column)

        def joined(old: np.ndarray, new: np.ndarray, nothing: float = 0.0) -> np.ndarray:
            both = np.concatenate([old[staying], new])
            return np.stack([np.full_like(both, nothing), both])

        new_states = self.scorer.extend([beam.states[n] for n in rows.tolist()], new_column.tolist())
        new_gains = self.scorer.gains(new_states) if new_states else beam.gains[:0]
        new_idle = np.array([self.scorer.idle(state) for state in new_states], dtype=bool)
        return _Beam(
            np.concatenate([beam.prefix[staying], prefixes.find(beam.prefix[rows], new_column)]),
            np.concatenate([beam.column[staying], new_column]),
            np.concatenate([beam.label[staying], columns[new_column]]),
            joined(score, longer[rows, new_column], NEVER),
            joined(emission, entered[0]),
            joined(trace, entered[1]),
            joined(peak, entered[2]),
            joined(when, entered[3]),
            np.concatenate([beam.gains[staying], new_gains]),
            np.concatenate([beam.idle[staying], new_idle]),
            [beam.states[n] for n in staying.tolist()] + new_states,
        )
