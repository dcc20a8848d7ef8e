"""n-gram language models: how they lie in memory, and what a search asks of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstwords.errors import LanguageModelError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
"""Before the first word, after the last, and every word that the model does not know."""

State = tuple[int, ...]
"""The words that the next one's probability depends on, oldest first: at most order - 1 of them."""

_MOST_REMEMBERED = 1_000_000
"""States whose places in the tables are kept at hand."""


@dataclass(frozen=True, eq=False)
class Ngrams:
    """The n-grams of one order, sorted by context, then by last word."""

    context: np.ndarray
    """(m,) int32: where the first n - 1 words stand among the n-grams one order below; 0 for unigrams."""
    word: np.ndarray
    """(m,) int32: the last word. Unigrams stand at their own id."""
    log10: np.ndarray
    """(m,) float32: log10 of the probability; NaN where the n-gram is only there as the context of longer ones."""
    backoff: np.ndarray
    """(m,) float32: log10 of the back-off weight; 0 where there is none."""

    def __len__(self) -> int:
        return len(self.word)


@dataclass(frozen=True)
class Perplexity:
    """How well a model foresees a text."""

    sentences: int
    words: int
    """Without sentence ends."""
    unknown: int
    """Words that the model does not know."""
    log10: float
    """Of the whole text's probability, sentence ends and unknown words included."""
    log10_known: float
    """The same without the unknown words' own probabilities."""
    characters: int
    """Letters, spaces between words, and one for each sentence's end: a measure that all models share."""

    @property
    def including_unknown(self) -> float:
        """Perplexity of words and sentence ends; unknown words count with the probability of <unk>."""
        return float(10 ** (-self.log10 / max(1, self.words + self.sentences)))

    @property
    def excluding_unknown(self) -> float:
        """Perplexity of known words and sentence ends; unknown words are only context."""
        return float(10 ** (-self.log10_known / max(1, self.words + self.sentences - self.unknown)))

    @property
    def bits_per_character(self) -> float:
        """Bits that the text costs for each character; unknown words cost what <unk> does, not their spelling."""
        return -self.log10 / math.log10(2) / max(1, self.characters)

    @property
    def unknown_rate(self) -> float:
        """Out-of-vocabulary rate: the share of words that the model does not know."""
        return self.unknown / max(1, self.words)


class NgramModel:
    """A back-off n-gram model.

    p(word | context) is the probability of the longest n-gram that the model has, times the back-off weights of the
    contexts that had to be given up for it.

    Args:
        words: all words, among them <s>, </s> and <unk>; a word's place is its id.
        orders: n-grams of order 1, 2, ...; every context stands in the order below.
    """

    def __init__(self, words: Sequence[str], orders: Sequence[Ngrams]) -> None:
        self.words = list(words)
        self.orders = list(orders)
        self.vocabulary = {word: number for number, word in enumerate(self.words)}
        """Each word's id."""
        self.unknown = self.vocabulary[UNKNOWN]
        self.end = self.vocabulary[END]
        # Views that give plain numbers: a numpy scalar costs several times as much in a search.
        self._word = [np.ascontiguousarray(part.word).data for part in self.orders]
        self._log10 = [np.ascontiguousarray(part.log10).data for part in self.orders]
        self._backoff = [np.ascontiguousarray(part.backoff).data for part in self.orders]
        self._first = [
            _first_children(longer.context, len(shorter)).data
            for shorter, longer in zip(self.orders, self.orders[1:], strict=False)
        ]
        self._places: dict[State, tuple[int, ...]] = {(): ()}
        beginning = self.vocabulary[START]
        self.start: State = self._shortened((beginning,), (beginning,))
        """The state before a sentence's first word."""

    @classmethod
    def load(cls, path: Path | str) -> NgramModel:
        """Reads an ARPA file (.gz too).

        Raises:
            LanguageModelError: missing, cut short, malformed (with the line), or a KenLM binary.
        """
        from firstwords.decoding.arpa import read_arpa

        return cls(*read_arpa(Path(path)))

    def save(self, path: Path | str) -> None:
        """Writes an ARPA file (compressed where it ends in .gz), whole or not at all.

        Raises:
            LanguageModelError: it cannot be written; what was there before is unharmed.
        """
        from firstwords.decoding.arpa import write_arpa

        write_arpa(Path(path), self.words, self.orders)

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.orders)

    def id(self, word: str) -> int:
        """A word's id; that of <unk> for words that the model does not know."""
        return self.vocabulary.get(word, self.unknown)

    def score(self, state: State, word: int) -> tuple[float, State]:
        """log10 of the probability of `word` (an id) after `state`, and the state after it.

        States that foresee alike are equal: words that no n-gram goes on from are left away.
        """
        places = self._places_of(state)
        total, longest = 0.0, -1
        for length in range(len(state), -1, -1):
            place = self._child(length, places[length - 1], word) if length else word
            if place >= 0:
                longest = max(longest, length)
                if (own := self._log10[length][place]) == own:  # NaN: only a context of longer ones
                    return total + own, self._next(state, places, word, longest)
            if length and (before := places[length - 1]) >= 0:
                total += self._backoff[length - 1][before]
        raise AssertionError("every word is a unigram")

    def scores(self, state: State) -> np.ndarray:
        """(words,) log10 of every word's probability after `state`: for models over few words, such as phones."""
        row = np.array(self.orders[0].log10, dtype=np.float64)
        for length, place in enumerate(self._places_of(state), 1):
            if place < 0:
                continue
            row += self._backoff[length - 1][place]
            if length < self.order:
                begin, end = self._first[length - 1][place : place + 2]
                own = np.asarray(self._log10[length][begin:end])
                there = own == own  # NaN: only a context of longer ones
                row[np.asarray(self._word[length][begin:end])[there]] = own[there]
        return row

    def finish(self, state: State) -> float:
        """log10 of the probability that the sentence ends after `state`."""
        return self.score(state, self.end)[0]

    def score_sentence(self, words: Sequence[str]) -> float:
        """log10 of the probability of a whole sentence, its end included."""
        total, state = 0.0, self.start
        for word in words:
            one, state = self.score(state, self.id(word))
            total += one
        return total + self.finish(state)

    def score_sentences(self, sentences: Sequence[str]) -> list[float]:
        """log10 of the probability of each sentence, words separated by spaces; what rescoring asks."""
        return [self.score_sentence(sentence.split()) for sentence in sentences]

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> Perplexity:
        """Over sentences, each given by its words.

        Raises:
            LanguageModelError: there are none.
        """
        count = words = unknown = characters = 0
        everything = known = 0.0
        for sentence in sentences:
            state = self.start
            for word in sentence:
                number = self.id(word)
                one, state = self.score(state, number)
                everything += one
                if number == self.unknown:
                    unknown += 1
                else:
                    known += one
            last = self.finish(state)
            everything, known = everything + last, known + last
            count, words = count + 1, words + len(sentence)
            characters += sum(map(len, sentence)) + max(1, len(sentence))
        if not count:
            raise LanguageModelError("no sentence to evaluate on")
        return Perplexity(count, words, unknown, everything, known, characters)

    def _child(self, length: int, place: int, word: int) -> int:
        """Where the n-gram stands that adds `word` to the one of `length` words at `place`; -1: nowhere."""
        if place < 0:
            return -1
        first, words = self._first[length - 1], self._word[length]
        last = first[place + 1]
        found = bisect_left(words, word, first[place], last)
        return found if found < last and words[found] == word else -1

    def _places_of(self, state: State) -> tuple[int, ...]:
        """Where the last 1, 2, ... words of a state stand among the n-grams of that order."""
        places = self._places.get(state)
        if places is None:
            walked = []
            for begin in range(len(state) - 1, -1, -1):
                place = state[begin]
                for length, word in enumerate(state[begin + 1 :], 1):
                    place = self._child(length, place, word)
                walked.append(place)
            places = self._remember(state, tuple(walked))
        return places

    def _next(self, state: State, places: tuple[int, ...], word: int, length: int) -> State:
        """The state after `word`; the longest n-gram that ends in it begins `length` words earlier."""
        length = min(length, self.order - 2)
        if length < 0:
            return ()
        new = (*state[len(state) - length :], word)
        if new in self._places:
            return self._shortened(new, self._places[new])
        longer = (word, *(self._child(n, places[n - 1], word) for n in range(1, length + 1)))
        return self._shortened(new, self._remember(new, longer))

    def _shortened(self, state: State, places: tuple[int, ...]) -> State:
        """Without oldest words that change nothing: no n-gram goes on from there, no back-off weight."""
        keep = min(len(state), self.order - 1)
        while keep:
            place = places[keep - 1]
            if place >= 0:
                first = self._first[keep - 1]
                if first[place] < first[place + 1] or self._backoff[keep - 1][place] != 0.0:
                    break
            keep -= 1
        return state[len(state) - keep :]

    def _remember(self, state: State, places: tuple[int, ...]) -> tuple[int, ...]:
        if len(self._places) >= _MOST_REMEMBERED:
            self._places.clear()
            self._places[()] = ()
        self._places[state] = places
        return places


def _first_children(context: np.ndarray, contexts: int) -> np.ndarray:
    """(contexts + 1,) int64: where each context's n-grams begin; the last entry is their number."""
    first = np.zeros(contexts + 1, dtype=np.int64)
    np.cumsum(np.bincount(context, minlength=contexts), out=first[1:])
    return first
