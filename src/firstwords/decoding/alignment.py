"""Forced alignment: which frames of a recording belong to which label of a text that is known (Viterbi).

The labels l1 ... lL become the states blank, l1, blank, ..., lL, blank of CTC (Graves et al. 2006, section 4.1). A path
stays, moves on by one state, or by two where that leaves out a blank between different labels; the best path is found
frame by frame, all states at once. With ASG the states are the labels alone, and staying and moving on have scores.
Wildcards are states that match whatever is said, a little worse than the best reading of it: they carry numbers and
symbols that no label spells, and speech before and after the text.

Memory: scores are kept every few hundred frames only, and back-pointers of one such stretch at a time, made again from
its first scores on the way back. Long texts are searched in a band of states around the best ones, which follows the
path: what is kept grows with the length of the recording, not with its square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firstwords.errors import AlignmentError
from firstwords.losses.ctc import BLANK, frames_needed

WILDCARD = -1
"""In place of a label: anything that may be said there."""

EXACT_CELLS = 1_000_000_000
"""Frames times states up to which every state is searched (about half a minute on one core)."""


@dataclass(frozen=True)
class AlignmentConfig:
    """How a text is laid over a recording."""

    extra_speech: bool = True
    """Whether the recording may hold speech before and after the text."""
    extra_penalty: float = 0.5
    """Nats for each frame of such speech, beside the best label there. Ours: above what a text that was said costs a
    frame, below what it costs to take one sentence for another (docs/alignment.md)."""
    wildcard_penalty: float = 0.1
    """The same for what no label spells, within the text: enough for a pause beside it to stay a pause."""
    beam: float | None = 2000.0
    """Nats below the best state within which states are searched where the whole is too large; None searches all.
    Widened by itself where the end of the text is missed."""


@dataclass(frozen=True)
class Path:
    """The best path of labels through frames."""

    starts: np.ndarray
    """(L,) int64, first frame of each label."""
    ends: np.ndarray
    """(L,) int64, the frame after its last."""
    scores: np.ndarray
    """(L,) float64, mean log probability over its frames, nats; for a wildcard NaN."""
    score: float
    """Sum over all frames, wildcards with their penalty, nats."""

    def frames(self, labels: Sequence[int], count: int) -> np.ndarray:
        """(count,) int64: the label of every frame; blanks and wildcards at the ends are blanks."""
        path = np.full(count, BLANK, dtype=np.int64)
        for label, start, end in zip(labels, self.starts, self.ends, strict=True):
            path[start:end] = label
        return path


def align_labels(
    log_probabilities: np.ndarray,
    labels: Sequence[int],
    config: AlignmentConfig | None = None,
    transitions: np.ndarray | None = None,
) -> Path:
    """The most probable frames of each label.

    Args:
        log_probabilities: (T, V), index 0 is the blank unless there are transitions.
        labels: L indices in the order of the text, `WILDCARD` among them; repeats get their blank.
        config: None: no extra speech, every state searched (plain CTC or ASG).
        transitions: (V, V) of a recogniser trained with ASG, entry [i, j] for the step from j to i.

    Raises:
        AlignmentError: no labels, no frames, or more labels than the frames can hold.
    """
    config = config or AlignmentConfig(extra_speech=False, beam=None)
    frames = len(log_probabilities)
    if not len(labels):
        raise AlignmentError("there is no text to align")
    if not np.isfinite(log_probabilities).all():
        log_probabilities = np.maximum(log_probabilities, -1e4)
    trellis = _Trellis(log_probabilities, labels, config, transitions)
    if (needed := frames_needed(list(labels)) if transitions is None else len(labels)) > frames:
        raise AlignmentError(
            f"the text does not fit the recording: {len(labels)} labels need {needed} frames, there are {frames}"
        )
    beam = config.beam if config.beam is not None and frames * trellis.size > EXACT_CELLS else math.inf
    while (path := trellis.search(beam)) is None:
        if beam == math.inf:
            raise AlignmentError(f"no path of {len(labels)} labels through {frames} frames")
        beam = 4 * beam if beam < 1e6 else math.inf
    return path


class _Trellis:
    """States by frames. Scores stand relative to the best state of their frame, so that no digits are lost."""

    staying: np.ndarray | None = None
    moving: np.ndarray | None = None
    """(states,) with ASG: scores of staying in a state, and of coming to it from the one before."""

    def __init__(
        self,
        log_probabilities: np.ndarray,
        labels: Sequence[int],
        config: AlignmentConfig,
        transitions: np.ndarray | None,
    ) -> None:
        self.frames = len(log_probabilities)
        best = log_probabilities.max(1, keepdims=True)
        free = [best - config.wildcard_penalty, best - config.extra_penalty]
        self.emissions = np.ascontiguousarray(np.concatenate([log_probabilities, *free], 1))
        wildcard = log_probabilities.shape[1]
        self.labels = np.asarray(labels, dtype=np.int64)
        chosen = np.where(self.labels == WILDCARD, wildcard, self.labels)
        if transitions is None:
            columns, skips = self._with_blanks(chosen, config.extra_speech, wildcard + 1)
        else:
            columns = self._without_blanks(chosen, config.extra_speech, wildcard, transitions)
            skips = np.zeros(len(columns), dtype=bool)
        self.columns, self.size = columns, len(columns)
        self.bars = np.where(skips, 0.0, -np.inf).astype(self.emissions.dtype)
        """Added to the score that comes from two states back."""
        self.stretch = max(64, round(math.sqrt(4 * self.frames)))

    def _with_blanks(self, chosen: np.ndarray, extra: bool, anything: int) -> tuple[np.ndarray, np.ndarray]:
        """CTC's states: the column of each, and whether it may be reached from two before."""
        columns = np.full(2 * len(chosen) + 1, BLANK, dtype=np.int64)
        columns[1::2] = chosen
        skips = np.zeros(len(columns), dtype=bool)
        skips[3::2] = chosen[1:] != chosen[:-1]
        self.pace, self.before = 2, 1  # states for a label; and before that of the first one: a blank
        if extra:
            columns = np.concatenate([[anything], columns, [anything]])
            skips = np.concatenate([[False], skips, [True]])
            skips[2] = True
            self.before = 2
        return columns, skips

    def _without_blanks(self, chosen: np.ndarray, extra: bool, wildcard: int, transitions: np.ndarray) -> np.ndarray:
        """ASG's: the column of each, with `staying` and `moving`. Anything goes on as the best of labels would."""
        self.pace, self.before = 1, int(extra)
        columns = np.concatenate([[wildcard + 1], chosen, [wildcard + 1]]) if extra else chosen
        steps = np.full((wildcard + 2, wildcard + 2), transitions.max(), dtype=self.emissions.dtype)
        steps[:wildcard, :wildcard] = transitions
        self.staying = steps[columns, columns]
        self.moving = np.concatenate([[0.0], steps[columns[1:], columns[:-1]]]).astype(self.emissions.dtype)
        return columns

    def search(self, beam: float) -> Path | None:
        """The best path among states within `beam` of the best; None where the end of the text is not among them."""
        first, scores, total = 0, self.emissions[0, self.columns[: self.before + 1]], 0.0
        kept = []
        for frame in range(self.frames):
            if frame:
                first, scores, _, best = self._step(frame, first, scores, beam)
                if not math.isfinite(best):
                    return None
                total += best
            if frame % self.stretch == 0:
                kept.append((first, scores))
        ends = [state - first for state in range(self.size - self.before - 1, self.size) if first <= state]
        ends = [end for end in ends if end < len(scores) and math.isfinite(scores[end])]
        if not ends:
            return None
        end = max(ends, key=lambda place: float(scores[place]))
        return self._path(self._trace(kept, first + end, beam), total + float(scores[end]))

    def _trace(self, kept: list[tuple[int, np.ndarray]], state: int, beam: float) -> np.ndarray:
        """The state of every frame, (T,), of the path that ends in `state`."""
        states = np.empty(self.frames, dtype=np.int64)
        for number in reversed(range(len(kept))):
            begin = number * self.stretch
            stop = min(begin + self.stretch, self.frames - 1)  # the next stretch's first frame, or the last of all
            first, scores = kept[number]
            pointers = []
            for frame in range(begin + 1, stop + 1):
                origin = first
                first, scores, moves, _ = self._step(frame, first, scores, beam, trace=True)
                pointers.append((origin, moves))
            for frame in range(stop, begin, -1):
                states[frame] = state
                origin, moves = pointers[frame - begin - 1]
                state -= int(moves[state - origin])
            states[begin] = state
        return states

    def _step(
        self, frame: int, first: int, scores: np.ndarray, beam: float, trace: bool = False
    ) -> tuple[int, np.ndarray, np.ndarray, float]:
        """From one frame to the next: first state, its and the following scores, moves by state from the old first
        state on, and the best score, which is then 0."""
        last = min(first + len(scores) + self.pace, self.size)
        padded = np.full(last - first + 2, -np.inf, dtype=scores.dtype)
        padded[2 : 2 + len(scores)] = scores
        stay, one = padded[2:], padded[1:-1]
        if self.staying is not None and self.moving is not None:
            stay, one = stay + self.staying[first:last], one + self.moving[first:last]
        two = padded[:-2] + self.bars[first:last]
        following = np.maximum(stay, one)
        moves = np.empty(0, dtype=np.uint8)
        if trace:
            moves = (one > stay).astype(np.uint8)
            moves[two > following] = 2
        np.maximum(following, two, out=following)
        following += self.emissions[frame].take(self.columns[first:last])
        # States from which the rest of the text no longer fits the rest of the frames lead nowhere.
        late = self.size - self.before - 1 - self.pace * (self.frames - 1 - frame) - first
        low, high = max(late, 0), len(following)
        if low >= high:
            return first, following, moves, -math.inf
        best = float(following[low:].max())
        if best == -math.inf:
            return first, following, moves, best
        following -= best
        if beam < math.inf:
            near = np.flatnonzero(following[low:] >= -beam)
            if len(near):
                low, high = low + int(near[0]), low + int(near[-1]) + 1
        return first + low, following[low:high], moves, best

    def _path(self, states: np.ndarray, score: float) -> Path:
        wanted = self.before + self.pace * np.arange(len(self.labels))
        starts = np.searchsorted(states, wanted, side="left")
        ends = np.searchsorted(states, wanted, side="right")
        picked = self.emissions[np.arange(self.frames), self.columns[states]].astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(picked)])
        means = (sums[ends] - sums[starts]) / (ends - starts)
        return Path(starts, ends, np.where(self.labels == WILDCARD, np.nan, means), score)
