"""Greedy CTC decoding: the best label of each frame, repeats collapsed, blanks dropped."""

from __future__ import annotations

from torch import Tensor

from firstwords.decoding.hypothesis import BLANK, Hypothesis, hypothesis_of_path


def greedy(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """Label indices of each utterance, from logits (B, T, V) over `lengths` (B,) valid frames."""
    best = logits.argmax(-1).cpu()
    results = []
    for row, length in zip(best, lengths.tolist(), strict=True):
        path = row[:length].unique_consecutive()
        results.append(path[path != BLANK].tolist())
    return results


def blank_share(logits: Tensor, lengths: Tensor) -> float:
    """Share of valid frames whose best label is the blank; near 1 in a model that has not learnt to speak yet."""
    best = logits.argmax(-1).cpu()
    blanks = sum(int((row[:length] == BLANK).sum()) for row, length in zip(best, lengths.tolist(), strict=True))
    return blanks / max(1, int(lengths.sum()))


class GreedyDecoder:
    """The likeliest label of each frame, as a `Decoder`: one hypothesis an utterance."""

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """One hypothesis for each utterance's log probabilities (T, V)."""
        return [[self._read(one)] for one in emissions]

    def _read(self, emissions: Tensor) -> Hypothesis:
        best, path = emissions.max(-1)
        return hypothesis_of_path(path.tolist(), best.tolist())
