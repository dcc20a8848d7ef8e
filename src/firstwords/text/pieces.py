"""The symbols of a neural language model: characters, or word pieces learnt by byte-pair encoding."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from firstwords.config import from_dict, to_dict
from firstwords.errors import LanguageModelError
from firstwords.text.alphabet import BOUNDARY

ENDS, UNKNOWN = "</s>", "<unk>"
"""Symbol 0 stands before and after every sentence, symbol 1 for every character that the training text lacks."""


@dataclass(frozen=True)
class Pieces:
    """How a sentence, words separated by spaces, becomes symbols.

    Characters: the words' characters with `|` between words. Word pieces: each word is its characters after a `|`,
    and the merges join neighbours, in the order in which they were learnt (Sennrich et al. 2016).
    """

    symbols: tuple[str, ...]
    """`</s>`, `<unk>`, and the rest; a symbol's place is its id."""
    merges: tuple[str, ...] = ()
    """Pairs of symbols that become one, a space between the two; none: characters."""
    separated: bool = False
    """Sentences are symbols separated by spaces already: phonemes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {symbol: number for number, symbol in enumerate(self.symbols)})
        object.__setattr__(self, "_ranks", {merge: number for number, merge in enumerate(self.merges)})
        object.__setattr__(self, "_known", {})

    def __len__(self) -> int:
        return len(self.symbols)

    @classmethod
    def characters(cls, sentences: Iterable[str], separated: bool = False) -> Pieces:
        """All characters of the sentences (or all that spaces separate), the most frequent first.

        Raises:
            LanguageModelError: there are none.
        """
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(sentence.split() if separated else "".join(sentence.split()))
        if not counts:
            raise LanguageModelError("the text is empty: no sentence to learn from")
        counts.pop(BOUNDARY, None)
        return cls((ENDS, UNKNOWN, BOUNDARY, *sorted(counts, key=lambda one: (-counts[one], one))), (), separated)

    @classmethod
    def learn(cls, sentences: Iterable[str], count: int) -> Pieces:
        """Word pieces: the most frequent pair of neighbours within words is joined until there are `count` symbols.

        Fewer where all words are whole before. Equally frequent pairs: the one first in the order of code points.

        Raises:
            LanguageModelError: no sentences, or fewer symbols asked for than there are characters.
        """
        words = Counter(word for sentence in sentences for word in sentence.split())
        base = cls.characters(words)
        if count <= len(base):
            raise LanguageModelError(f"{count} word pieces are too few: the text has {len(base)} characters and marks")
        spelt = [[BOUNDARY, *word] for word in words]
        times = list(words.values())
        pairs: Counter[tuple[str, str]] = Counter()
        holders: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for number, parts in enumerate(spelt):
            for pair in pairwise(parts):
                pairs[pair] += times[number]
                holders[pair].add(number)
        symbols, merges = list(base.symbols), []
        while len(symbols) < count and pairs:
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            if pairs[best] < 2:
                break
            merges.append(" ".join(best))
            symbols.append("".join(best))
            for number in holders.pop(best):
                parts = spelt[number]
                for pair in pairwise(parts):
                    pairs[pair] -= times[number]
                    if not pairs[pair]:
                        del pairs[pair]
                parts = spelt[number] = _joined(parts, best)
                for pair in pairwise(parts):
                    pairs[pair] += times[number]
                    holders[pair].add(number)
            pairs.pop(best, None)
        return cls(tuple(symbols), tuple(merges))

    def encode(self, sentence: str) -> list[int]:
        """The sentence's symbols, without the marks at its ends."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        if self.separated:
            return [ids.get(symbol, 1) for symbol in sentence.split()]
        if not self.merges:
            return [ids.get(character, 1) for character in BOUNDARY.join(sentence.split())]
        known: dict[str, list[int]] = self._known  # type: ignore[attr-defined]
        symbols: list[int] = []
        for word in sentence.split():
            if word not in known:
                known[word] = [ids.get(part, 1) for part in self._parts(word)]
            symbols += known[word]
        return symbols

    def decode(self, symbols: Sequence[int]) -> str:
        """The sentence that symbols spell; marks are dropped."""
        texts = (self.symbols[one] for one in symbols if one > 1)
        return " ".join(texts) if self.separated else "".join(texts).replace(BOUNDARY, " ").strip()

    def lengths(self) -> list[int]:
        """Characters (or phonemes) that each symbol stands for; a sentence's end counts as one.

        Not with word pieces: the first word of a sentence has a `|` there that no space stands for.
        """
        if self.separated:
            return [1] * len(self)
        return [0 if self.merges else 1, 1, *(len(symbol) for symbol in self.symbols[2:])]

    def _parts(self, word: str) -> list[str]:
        ranks: dict[str, int] = self._ranks  # type: ignore[attr-defined]
        parts = [BOUNDARY, *word]
        while len(parts) > 1:
            pairs = [(ranks.get(f"{a} {b}", len(ranks)), (a, b)) for a, b in pairwise(parts)]
            rank, best = min(pairs)
            if rank == len(ranks):
                break
            parts = _joined(parts, best)
        return parts

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Pieces:
        """What `to_dict` described. Raises ConfigError."""
        return from_dict(cls, values, where)


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with every occurrence of the pair made one, from the left."""
    joined: list[str] = []
    number = 0
    while number < len(parts):
        if tuple(parts[number : number + 2]) == pair:
            joined.append(pair[0] + pair[1])
            number += 2
        else:
            joined.append(parts[number])
            number += 1
    return joined
