"""How sure a transcript is, word by word, and whether that can be believed.

A label's confidence is its probability at its peak, after the emissions were flattened (or sharpened) by a temperature;
a word's is the product over its labels. Networks trained with CTC are surer than they are right; a single temperature,
fitted on utterances with references, mends most of it (Guo et al. 2017, "On Calibration of Modern Neural Networks",
section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.words import Label, spans
from firstwords.errors import CorpusError
from firstwords.scoring import align
from firstwords.text.alphabet import Alphabet

BINS = 10
LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that are tried."""


def label_probabilities(log_probabilities: Tensor, hypothesis: Hypothesis, temperature: float = 1.0) -> list[float]:
    """The probability of each label at its peak.

    Args:
        log_probabilities: (T, V) of the utterance.
        hypothesis: a reading of it.
        temperature: above 1 less sure, below 1 surer.
    """
    if not hypothesis.labels:
        return []
    rows = log_probabilities[torch.tensor(hypothesis.frames)]
    chosen = (rows / temperature).log_softmax(-1).gather(1, torch.tensor(hypothesis.labels)[:, None])
    return [min(1.0, probability) for probability in chosen[:, 0].exp().tolist()]


@dataclass(frozen=True)
class Calibration:
    """What `fit_temperature` found."""

    temperature: float
    error: float
    """Expected calibration error of word confidences with it, 0 to 1."""
    error_before: float
    """With temperature 1."""
    words: int
    """Words that it was fitted on."""


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> float:
    """How far confidence and truth lie apart, on average (Guo et al. 2017, equation 3); 0 without words.

    Words are sorted into bins of equal width by confidence; a bin counts the difference between its mean confidence
    and its share of right words, weighted with its words.
    """
    totals = [[0.0, 0, 0] for _ in range(bins)]
    for confidence, right in zip(confidences, correct, strict=True):
        bin_ = totals[min(int(confidence * bins), bins - 1)]
        bin_[0] += confidence
        bin_[1] += bool(right)
        bin_[2] += 1
    return sum(abs(sure - right) for sure, right, _ in totals) / max(1, len(confidences))


def fit_temperature(
    emissions: Sequence[Tensor], hypotheses: Sequence[Hypothesis], references: Sequence[str], alphabet: Alphabet
) -> Calibration:
    """The temperature under which word confidences tell best which words are right (least cross-entropy).

    Args:
        emissions: log probabilities (T, V) of each utterance.
        hypotheses: how each was read.
        references: what was said, in any spelling that the alphabet normalises.
        alphabet: of the recogniser.

    Raises:
        CorpusError: not a single word was recognised.
    """
    evidence = _Evidence.gather(emissions, hypotheses, references, alphabet)
    truth = torch.tensor(evidence.correct, dtype=torch.double)

    def cross_entropy(logarithm: float) -> float:
        sure = evidence.confidences(math.exp(logarithm)).clamp(1e-9, 1 - 1e-9)
        return -float((truth * sure.log() + (1 - truth) * (1 - sure).log()).mean())

    temperature = math.exp(_lowest(cross_entropy, math.log(LOWEST), math.log(HIGHEST)))
    return Calibration(temperature, evidence.error(temperature), evidence.error(1.0), len(evidence.correct))


def calibration_error(
    emissions: Sequence[Tensor],
    hypotheses: Sequence[Hypothesis],
    references: Sequence[str],
    alphabet: Alphabet,
    temperature: float = 1.0,
) -> float:
    """The expected calibration error of word confidences; the arguments are those of `fit_temperature`."""
    return _Evidence.gather(emissions, hypotheses, references, alphabet).error(temperature)


@dataclass(frozen=True)
class _Evidence:
    """Recognised words, whether they are right, and the emissions that speak for them; N labels in all."""

    rows: Tensor
    """(N, V) log probabilities at the labels' peaks."""
    labels: Tensor
    """(N, 1)."""
    words: Tensor
    """(N,) the word that a label belongs to."""
    correct: list[bool]

    @classmethod
    def gather(
        cls,
        emissions: Sequence[Tensor],
        hypotheses: Sequence[Hypothesis],
        references: Sequence[str],
        alphabet: Alphabet,
    ) -> _Evidence:
        rows: list[Tensor] = []
        chosen: list[int] = []
        words: list[int] = []
        correct: list[bool] = []
        for log_probabilities, hypothesis, reference in zip(emissions, hypotheses, references, strict=True):
            peaks = zip(hypothesis.labels, hypothesis.frames, strict=True)
            found = spans([Label(index, frame, frame + 1, None) for index, frame in peaks], alphabet)
            texts = ["".join(alphabet.texts([label.index for label in span.labels])).replace(" ", "") for span in found]
            for span, right in zip(found, _right(texts, reference, alphabet), strict=True):
                for label in span.labels:
                    rows.append(log_probabilities[label.start])
                    chosen.append(label.index)
                    words.append(len(correct))
                correct.append(right)
        if not correct:
            raise CorpusError("no word was recognised in any of the utterances, so no confidence can be checked")
        return cls(torch.stack(rows).double(), torch.tensor(chosen)[:, None], torch.tensor(words), correct)

    def confidences(self, temperature: float) -> Tensor:
        """(words,) products over their labels."""
        sure = (self.rows / temperature).log_softmax(-1).gather(1, self.labels)[:, 0]
        return torch.zeros(len(self.correct), dtype=torch.double).index_add_(0, self.words, sure).exp()

    def error(self, temperature: float) -> float:
        return expected_calibration_error(self.confidences(temperature).clamp(0, 1).tolist(), self.correct)


def _right(words: list[str], reference: str, alphabet: Alphabet) -> list[bool]:
    """Which of the recognised words stand in the reference, in an alignment with the fewest errors."""
    if alphabet.units == "characters":
        expected = alphabet.normalize(reference).split()
    else:
        expected = ["".join(word.split()) for word in alphabet.normalize(reference).split("|")]
    pairs = align(" ".join(expected), " ".join(words))
    return [left == right for left, right in pairs if right is not None]


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one variable is lowest: the best of a grid, then golden section around it."""
    grid = [low + (high - low) * step / 24 for step in range(25)]
    best = min(range(25), key=lambda step: function(grid[step]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 24)]
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if function(left) < function(right):
            high = right
        else:
            low = left
    return (low + high) / 2
