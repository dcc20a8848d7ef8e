"""What a decoder returns, and what a decoder is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # decoding processes start faster without torch
    from torch import Tensor


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
