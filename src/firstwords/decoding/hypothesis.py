"""What a decoder returns, and what a decoder is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:  # decoding processes start faster without torch
    from torch import Tensor

BLANK = 0
"""Index of the blank in every alphabet."""


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance, the labels as they follow one another and the frame where each one peaks."""

    labels: tuple[int, ...]
    """Indices into the alphabet: repeats collapsed, blanks dropped, word boundaries kept."""
    frames: tuple[int, ...]
    """For each label the frame of its highest probability among those that emit it."""
    emission_score: float
    """Natural logarithm of the best path's probability over the emissions."""
    language_score: float = 0.0
    """log10 of the language model's probability of the words, unweighted; 0 without a model."""
    score: float = 0.0
    """What hypotheses are ranked by: emissions, weighted language model, word scores, boosts."""
    words: tuple[str, ...] | None = None
    """The words as the lexicon has them, where one was used: with phonemes the labels do not say them."""


class Decoder(Protocol):
    """Reads emissions: greedy, beam search with or without a language model."""

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """For each utterance its readings, best first, never empty.

        Args:
            emissions: log probabilities (T, V) of each utterance, valid frames only, on the CPU.
        """
        ...


def hypothesis_of_path(
    path: Sequence[int], heard: Sequence[float], merged: int | None = None, first: int | None = None
) -> Hypothesis:
    """What a path of one label a frame says, without a language model.

    Args:
        path: (T,) labels, blanks among them.
        heard: (T,) their log probabilities.
        merged: a label that is there once where only blanks are between two of it, and not before all others.
        first: the label that is thought to stand before the first frame.
    """
    labels: list[int] = []
    frames: list[int] = []
    peaks: list[float] = []
    before = first
    for frame, (label, probability) in enumerate(zip(path, heard, strict=True)):
        if label == BLANK:
            before = label
            continue
        same = label == before or (label == merged and (not labels or labels[-1] == merged))
        before = label
        if not same:
            labels.append(label)
            frames.append(frame)
            peaks.append(probability)
        elif labels and labels[-1] == label and probability > peaks[-1]:
            frames[-1], peaks[-1] = frame, probability
    total = float(sum(heard))
    return Hypothesis(tuple(labels), tuple(frames), total, 0.0, total)


def asg_hypothesis(
    path: np.ndarray, emissions: np.ndarray, transitions: np.ndarray, first: int | None = None
) -> Hypothesis:
    """What a path (T,) through emissions (T, N) and transitions (N, N) says: every label is a run of frames.

    `first` is the label that is thought to stand before the first frame.
    """
    heard = emissions[np.arange(len(path)), path].astype(np.float64)
    score = float(heard.sum() + transitions[path[1:], path[:-1]].sum())
    starts = np.flatnonzero(np.concatenate([[True], path[1:] != path[:-1]]))
    ends = np.append(starts[1:], len(path))
    runs = [run for run in zip(starts.tolist(), ends.tolist(), strict=True) if run[0] or path[0] != first]
    frames = tuple(start + int(heard[start:end].argmax()) for start, end in runs)
    return Hypothesis(tuple(int(path[start]) for start, _ in runs), frames, score, score=score)
