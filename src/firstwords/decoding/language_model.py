"""What rescoring and shallow fusion ask of a language model.

Two ways in, both optional to a model:

- `SentenceModel`: whole sentences, for the n-best lists of a finished search. n-gram models, the Transformer and
  Hugging Face models all have it.
- `SymbolModel`: symbol by symbol inside a beam. It is asked like an n-gram model, one (state, symbol) at a time, but a
  network wants many at once: a beam calls `score_next` with all states that it is about to extend, and `score` then
  only looks numbers up. A beam that never calls `score_next` gets the same numbers, more slowly.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class SentenceModel(Protocol):
    """Says how probable whole sentences are."""

    def score_sentences(self, sentences: Sequence[str]) -> list[float]:
        """log10 of the probability of each sentence, its end included; words are separated by spaces."""
        ...


class SymbolModel(Protocol):
    """Says how probable each next symbol is."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Symbols and their ids: an alphabet's characters with `|` between words, `</s>`, and `<unk>`."""
        ...

    @property
    def start(self) -> Hashable:
        """The state before a sentence, to be asked for anew for each utterance.

        States that the same symbols lead to from there are equal.
        """
        ...

    def score_next(self, states: Sequence[Any]) -> np.ndarray:
        """(n, V) float32: log10 of the probability of every symbol after each state."""
        ...

    def score(self, state: Any, symbol: int) -> tuple[float, Any]:
        """log10 of the probability of `symbol` after `state`, and the state after it."""
        ...

    def finish(self, state: Any) -> float:
        """log10 of the probability that the sentence ends after `state`."""
        ...
