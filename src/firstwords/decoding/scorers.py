"""What may follow a prefix in the beam search, and what it is worth: words, symbols, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from firstwords.decoding.lexicon import Lexicon
from firstwords.decoding.search import NEVER, Scorer
from firstwords.decoding.word_model import UNKNOWN, WordModel, word_id
from firstwords.text.alphabet import SPECIALS, Alphabet

REMEMBERED = 1_000_000
"""Words after histories whose probabilities are kept at hand."""


class WordState(NamedTuple):
    """Where a prefix stands between words or inside of one."""

    node: int
    """In the prefix tree of the lexicon; `outside` where the word is in no lexicon."""
    history: Any
    """The language model's state before this word."""
    language: float
    """log10 of the probability of the words before this one."""
    words: tuple[Any, int] | None
    """The words before this one, as a chain from the last."""


class WordScorer:
    """Words of a lexicon, weighed by a word model when they end; inside a word the best that it can become counts.

    Args:
        lexicon: words and spellings.
        alphabet: of the emissions.
        model: a word model; None gives every word the same weight.
        weight, word_score: of log10 p(word), and of each word.
        unknown_score: makes the vocabulary open: what a word costs, besides p(<unk>), that is not in the lexicon.
            -inf keeps to the lexicon.
        boosts: added to the score of some words.
        strict: False lets boundaries be as they come, for a scorer that stands beside another.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        alphabet: Alphabet,
        model: WordModel | None,
        weight: float,
        word_score: float,
        unknown_score: float = NEVER,
        boosts: Mapping[str, float] | None = None,
        strict: bool = True,
    ) -> None:
        self.lexicon, self.tree, self.model = lexicon, lexicon.tree, model
        self.weight, self.word_score, self.unknown_score, self.strict = weight, word_score, unknown_score, strict
        self.boundary, self.labels = alphabet.boundary, len(alphabet)
        self.boosts = np.array([(boosts or {}).get(word, 0.0) for word in lexicon.words])
        self.ids = [word_id(model, word) for word in lexicon.words] if model else []
        self.best = self.tree.best(self._first_values())
        self.best[0] = 0.0  # no word is begun
        self.outside = len(self.best)
        """The node of words that are in no lexicon."""
        self.best = np.append(self.best, 0.0)
        width = self.tree.children.shape[1]
        self.free = np.array([v != self.boundary and s not in SPECIALS for v, s in enumerate(alphabet.symbols)])
        alike = max((len(entries) for entries in self.tree.words.values()), default=1)
        self.columns = np.concatenate([np.arange(self.labels), np.full(alike - 1, self.boundary)])
        self.children = np.full((self.outside + 1, self.labels), -1, dtype=np.int32)
        self.children[:-1, :width] = self.tree.children
        if unknown_score > NEVER:
            self.children[-1, self.free] = self.outside
        self._scores: dict[tuple[Any, int], tuple[float, Any]] = {}

    def _first_values(self) -> np.ndarray:
        """(entries,) what each word would add at the beginning of a sentence, without the word score."""
        if self.model is None:
            return self.boosts
        known: dict[int, float] = {}
        for number in self.ids:
            if number not in known:
                known[number] = self.model.score(self.model.start, number)[0]
        return self.weight * np.array([known[number] for number in self.ids]) + self.boosts

    def start(self) -> WordState:
        return WordState(0, self.model.start if self.model else (), 0.0, None)

    def idle(self, state: WordState) -> bool:
        return self.strict and state.node == 0

    def extend(self, states: Sequence[WordState], columns: Sequence[int]) -> list[WordState]:
        return [self._ended(state, column) if column == self.boundary or column >= self.labels
                else self._inside(state, column) for state, column in zip(states, columns, strict=True)]  # fmt: skip

    def _inside(self, state: WordState, label: int) -> WordState:
        node = int(self.children[state.node, label])
        return WordState(self.outside if node < 0 else node, *state[1:])

    def _ended(self, state: WordState, column: int) -> WordState:
        """The state after the word that ends here."""
        if state.node == 0:
            return state
        entries = self.tree.words.get(state.node)
        entry = entries[max(0, column - self.labels + 1)] if entries else -1
        log10, history = self._word(state.history, entry)
        return WordState(0, history, state.language + log10, (state.words, entry))

    def _word(self, history: Any, entry: int) -> tuple[float, Any]:
        """log10 of the probability of an entry of the lexicon (-1: an unknown word), and the history after it."""
        if self.model is None:
            return 0.0, history
        word = self.ids[entry] if entry >= 0 else self.model.vocabulary[UNKNOWN]
        found = self._scores.get((history, word))
        if found is None:
            if len(self._scores) >= REMEMBERED:
                self._scores.clear()
            found = self._scores[history, word] = self.model.score(history, word)
        return found

    def _unknown(self, history: Any) -> float:
        return self.weight * self._word(history, -1)[0] + self.unknown_score

    def gains(self, states: Sequence[WordState]) -> np.ndarray:
        nodes = np.array([state.node for state in states])
        children = self.children[nodes]
        ahead = self.best[nodes][:, None]
        gains = np.full((len(states), len(self.columns)), NEVER)
        gains[:, : self.labels] = np.where(children >= 0, self.best[children] - ahead, NEVER)
        if self.unknown_score > NEVER:
            costs = np.array([self._unknown(state.history) for state in states])[:, None] - ahead
            leaving = (children < 0) & self.free
            gains[:, : self.labels][leaving] = np.broadcast_to(costs, children.shape)[leaving]
        for row, state in zip(gains, states, strict=True):
            for column, gain in self._ends(state):
                row[column] = gain
        return gains

    def _ends(self, state: WordState) -> list[tuple[int, float]]:
        """For each word that may end here its column and what its end adds."""
        if state.node == 0:
            return [] if self.strict else [(self.boundary, 0.0)]
        if state.node == self.outside:
            return [(self.boundary, self.word_score)]
        ahead = float(self.best[state.node])
        entries = self.tree.words.get(state.node)
        if not entries:
            cost = self._unknown(state.history) if self.unknown_score > NEVER else NEVER
            return [(self.boundary, cost + self.word_score - ahead)]
        return [
            (
                self.labels + number - 1 if number else self.boundary,
                self.weight * self._word(state.history, entry)[0] + float(self.boosts[entry]) + self.word_score - ahead,
            )
            for number, entry in enumerate(entries)
        ]

    def endings(self, state: WordState) -> list[tuple[int | None, float, Any]]:
        """Between words, or after each word that may end here: its boundary need not be heard at the very end."""
        if state.node == 0:
            return [(None, self._finish(state), state)]
        ends = [(column, gain, self._ended(state, column)) for column, gain in self._ends(state) if gain > NEVER]
        return [(column, gain + self._finish(after), after) for column, gain, after in ends]

    def _finish(self, state: WordState) -> float:
        return self.weight * self.model.finish(state.history) if self.model else 0.0

    def language(self, state: WordState) -> float:
        return state.language + (self.model.finish(state.history) if self.model else 0.0)

    def words(self, state: WordState) -> tuple[str, ...] | None:
        found, link = [], state.words
        while link is not None:
            link, entry = link
            if entry < 0:
                return None
            found.append(self.lexicon.words[entry])
        return tuple(reversed(found))


class SymbolState(NamedTuple):
    """What a model over the alphabet's symbols remembers."""

    history: Any
    language: float
    last: int = -1
    """The label that a symbol for repetitions would repeat; -1 for none."""


class SymbolScorer:
    """Any sequence of symbols, weighed by an n-gram model over them (characters or phones), or by none.

    Symbols for repetitions are worth what the letters are that they stand for.

    Args:
        alphabet: of the emissions.
        model: its words are the alphabet's symbols, `|` among them; None weighs nothing.
        weight, word_score: of log10 p(symbol), and of each word boundary.
    """

    def __init__(self, alphabet: Alphabet, model: WordModel | None, weight: float, word_score: float = 0.0) -> None:
        self.model, self.weight = model, weight
        self.columns = np.arange(len(alphabet))
        first = len(alphabet) - alphabet.repetitions
        self.counts = range(first, len(alphabet)) if model else range(0)
        """Symbols for repetitions, the one for n more at place n - 1; without a model they are symbols like others."""
        symbols = alphabet.symbols[:first] if model else alphabet.symbols
        self.usable = [v for v, symbol in enumerate(symbols) if symbol not in SPECIALS]
        self.ids = {v: word_id(model, alphabet.symbols[v]) for v in self.usable} if model else {}
        self.word_score = np.zeros(len(alphabet))
        self.word_score[alphabet.boundary] = word_score
        self.nothing = np.full(len(alphabet), NEVER)
        self.nothing[self.usable] = self.word_score[self.usable]
        self.places = np.array([self.ids[v] for v in self.usable], dtype=np.int64) if model else np.zeros(0, np.int64)
        self._rows: dict[Any, np.ndarray] = {}

    def start(self) -> SymbolState:
        if hasattr(self.model, "score_next"):
            self._rows.clear()  # a network's states hold memory of their utterance
        return SymbolState(self.model.start if self.model else None, 0.0)

    def idle(self, state: SymbolState) -> bool:
        return False

    def extend(self, states: Sequence[SymbolState], columns: Sequence[int]) -> list[SymbolState]:
        if self.model is None:
            return list(states)
        after = []
        for state, column in zip(states, columns, strict=True):
            if column in self.counts:
                log10, history = self._repeated(state)[column - self.counts.start]
                after.append(SymbolState(history, state.language + log10))
                continue
            log10, history = self.model.score(state.history, self.ids[column])
            after.append(SymbolState(history, state.language + log10, column))
        return after

    def _repeated(self, state: SymbolState) -> list[tuple[float, Any]]:
        """For each symbol for repetitions log10 of the probability of what it stands for, and the history after it."""
        assert self.model is not None
        found, total, history = [], 0.0, state.history
        for _ in self.counts:
            if state.last < 0:
                return [(NEVER, history)] * len(self.counts)
            log10, history = self.model.score(history, self.ids[state.last])
            total += log10
            found.append((total, history))
        return found

    def gains(self, states: Sequence[SymbolState]) -> np.ndarray:
        if self.model is None:
            return np.broadcast_to(self.nothing, (len(states), len(self.nothing))).copy()
        self._ask([state.history for state in states])
        rows = np.stack([self._rows[state.history] for state in states])
        if self.counts:
            rows[:, self.counts.start :] = [[log10 for log10, _ in self._repeated(state)] for state in states]
        return np.where(rows > NEVER, self.weight * rows, NEVER) + self.word_score

    def _ask(self, histories: Sequence[Any]) -> None:
        """Fills `_rows` with (V,) log10 of each symbol's probability after histories; a network is asked once."""
        assert self.model is not None
        if len(self._rows) + len(histories) > REMEMBERED // len(self.columns):
            self._rows.clear()
        new = [history for history in dict.fromkeys(histories) if history not in self._rows]
        if not new:
            return
        rows = np.full((len(new), len(self.columns)), NEVER)
        if hasattr(self.model, "score_next"):
            rows[:, self.usable] = self.model.score_next(new)[:, self.places]
        else:
            for row, history in zip(rows, new, strict=True):
                row[self.usable] = [self.model.score(history, symbol)[0] for symbol in self.places.tolist()]
        self._rows.update(zip(new, rows, strict=True))

    def endings(self, state: SymbolState) -> list[tuple[int | None, float, Any]]:
        return [(None, self.weight * self.model.finish(state.history) if self.model else 0.0, state)]

    def language(self, state: SymbolState) -> float:
        return state.language + (self.model.finish(state.history) if self.model else 0.0)

    def words(self, state: SymbolState) -> tuple[str, ...] | None:
        return None


class SumScorer:
    """Two scorers side by side: what both allow, worth the sum. The first one knows words and probabilities."""

    def __init__(self, first: Scorer, second: Scorer) -> None:
        self.first, self.second = first, second
        self.columns = first.columns

    def start(self) -> Any:
        return self.first.start(), self.second.start()

    def idle(self, state: Any) -> bool:
        return self.first.idle(state[0]) and self.second.idle(state[1])

    def extend(self, states: Sequence[Any], columns: Sequence[int]) -> list[Any]:
        left = self.first.extend([state[0] for state in states], columns)
        right = self.second.extend([state[1] for state in states], columns)
        return list(zip(left, right, strict=True))

    def gains(self, states: Sequence[Any]) -> np.ndarray:
        return self.first.gains([state[0] for state in states]) + self.second.gains([state[1] for state in states])

    def endings(self, state: Any) -> list[tuple[int | None, float, Any]]:
        """The first one's: what ends there the second must allow."""
        rest = self.second.endings(state[1])
        gain = max((gain for _, gain, _ in rest), default=NEVER)
        return [(column, one + gain, (after, state[1])) for column, one, after in self.first.endings(state[0])]

    def language(self, state: Any) -> float:
        return self.first.language(state[0])

    def words(self, state: Any) -> tuple[str, ...] | None:
        return self.first.words(state[0])
