"""What a beam search asks of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

UNKNOWN = "<unk>"
"""The word that stands for all words that the model has not seen."""
MARKS = frozenset({UNKNOWN, "<s>", "</s>", "<UNK>"})
"""Entries of a vocabulary that are no words."""


class WordModel(Protocol):
    """A language model that is asked word by word (or symbol by symbol, where its words are an alphabet's symbols)."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Words and their ids, `<unk>` among them."""
        ...

    @property
    def start(self) -> Any:
        """The state at the beginning of a sentence; states are hashable."""
        ...

    def score(self, state: Any, word: int) -> tuple[float, Any]:
        """log10 of the probability of a word after `state`, and the state after it."""
        ...

    def finish(self, state: Any) -> float:
        """log10 of the probability that the sentence ends after `state`."""
        ...


def word_id(model: WordModel, word: str) -> int:
    """The id of a word, or that of the unknown word."""
    found = model.vocabulary.get(word)
    return model.vocabulary[UNKNOWN] if found is None else found


def words_of(model: WordModel) -> list[str]:
    """The words of the vocabulary, without the marks."""
    return [word for word in model.vocabulary if word not in MARKS]
