"""Greedy CTC decoding: the best label of each frame, repeats collapsed, blanks dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from firstwords.decoding.hypothesis import Hypothesis
from firstwords.losses.ctc import BLANK


def greedy(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """Label indices of each utterance, from logits (B, T, V) over `lengths` (B,) valid frames."""
    best = logits.argmax(-1).cpu()
    results = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        path = row[:length].unique_consecutive()
        results.append(path[path != BLANK].tolist())
    return results


class GreedyDecoder:
    """The labels of `greedy`, with the frame where each one peaks (see `Decoder`)."""

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """One reading of each utterance, from log probabilities (T, V)."""
        return [[self._read(log_probabilities)] for log_probabilities in emissions]

    def _read(self, log_probabilities: Tensor) -> Hypothesis:
        if not len(log_probabilities):
            return Hypothesis((), (), 0.0)
        values, best = log_probabilities.max(-1)
        runs, sizes = best.unique_consecutive(return_counts=True)
        labels, frames, start = [], [], 0
        for label, size in zip(runs.tolist(), sizes.tolist(), strict=True):
            if label != BLANK:
                labels.append(label)
                frames.append(start + int(values[start : start + size].argmax()))
            start += size
        score = float(values.sum(dtype=torch.double))
        return Hypothesis(tuple(labels), tuple(frames), score, score=score)


def blank_share(logits: Tensor, lengths: Tensor) -> float:
    """Share of valid frames whose best label is the blank; near 1 in a model that has not learnt to speak yet."""
    best = logits.argmax(-1).cpu()
    blanks = sum(int((row[:length] == BLANK).sum()) for row, length in zip(best, lengths.tolist(), strict=True))
    return blanks / max(1, int(lengths.sum()))
