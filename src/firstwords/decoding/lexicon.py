"""The words that a search may write, how the alphabet spells them, and the prefix tree of the spellings."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from firstwords.errors import TextError
from firstwords.text.alphabet import BOUNDARY, SPECIALS, Alphabet

SHOWN = 8
"""Words and symbols that an error names."""

FEW = 0.05
"""Share of words that may be left out without asking: foreign letters and digits in a text."""

Unspellable = Literal["few", "error", "skip"]
"""What to do about words that the alphabet cannot spell: leave out a FEW and refuse more, refuse any, leave out all."""


@dataclass(frozen=True)
class Lexicon:
    """Words and spellings side by side; a word with several pronunciations stands there several times."""

    words: tuple[str, ...]
    spellings: tuple[tuple[int, ...], ...]
    """Label indices, without a word boundary at the end."""
    left_out: str = ""
    """What could not be spelt, in words; nothing if all could."""

    def __len__(self) -> int:
        return len(self.words)

    def with_words(self, words: Iterable[str], alphabet: Alphabet) -> Lexicon:
        """This one and those of `words` that it lacks.

        Raises:
            TextError: the alphabet cannot spell one.
        """
        known = set(self.words)
        added = spell_words([word for word in words if word not in known], alphabet, "hot words", "error")
        return Lexicon(self.words + added.words, self.spellings + added.spellings, self.left_out)

    @cached_property
    def tree(self) -> PrefixTree:
        """The prefix tree of the spellings."""
        return PrefixTree(self.spellings)


class PrefixTree:
    """All beginnings of spellings. Node 0 is the empty one; a child's number is higher than its parent's."""

    def __init__(self, spellings: Sequence[Sequence[int]]) -> None:
        """Level by level: the nodes of a level are the distinct pairs of a node above and a label."""
        lengths = np.array([len(one) for one in spellings], dtype=np.int64)
        longest = int(lengths.max(initial=0))
        labels = np.full((len(spellings), longest), -1, dtype=np.int64)
        for row, one in zip(labels, spellings, strict=True):
            row[: len(one)] = one
        width = int(labels.max(initial=0)) + 1
        at = np.zeros(len(spellings), dtype=np.int64)
        parents, incoming, count = [np.array([-1])], [np.array([-1])], 1
        self.levels = [0, 1]
        """Where each level's nodes begin, and where the last one's end."""
        for depth in range(longest):
            alive = np.flatnonzero(lengths > depth)
            pairs, which = np.unique(at[alive] * width + labels[alive, depth], return_inverse=True)
            at[alive] = count + which.reshape(-1)
            parents.append(pairs // width)
            incoming.append(pairs % width)
            count += len(pairs)
            self.levels.append(count)
        self.parent = np.concatenate(parents)
        """(nodes,)"""
        self.label = np.concatenate(incoming)
        """(nodes,) the label that leads there."""
        self.children = np.full((count, width), -1, dtype=np.int32)
        """(nodes, labels) the node that a label leads to, -1 for none."""
        self.children[self.parent[1:], self.label[1:]] = np.arange(1, count)
        self.node = at
        """(entries,) the node where each spelling ends."""
        self.words: dict[int, list[int]] = {}
        """Entries that end at a node."""
        for entry, node in enumerate(at.tolist()):
            self.words.setdefault(node, []).append(entry)

    def best(self, values: np.ndarray) -> np.ndarray:
        """(nodes,) the highest of `values` (entries,) that is still ahead of each node ("max smearing")."""
        best = np.full(len(self.parent), -np.inf)
        np.maximum.at(best, self.node, values)
        for begin, end in reversed(list(pairwise(self.levels[1:]))):  # the deepest level first
            np.maximum.at(best, self.parent[begin:end], best[begin:end])
        return best


def read_lexicon(path: Path, alphabet: Alphabet, unspellable: Unspellable = "few") -> Lexicon:
    """A text file, a word a line: the word alone, or with its spelling behind it ("word w o r d |", as in fairseq).

    A word alone is spelt as the alphabet spells transcripts. Several lines may spell the same word. May end in .gz.

    Raises:
        TextError: it cannot be read, is empty, or the alphabet lacks symbols, which are named.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
            entries = [parts for line in lines if (parts := line.split())]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: the lexicon cannot be read ({reason})") from error
    if not entries:
        raise TextError(f"{path}: the lexicon is empty; expected a word a line, with or without its spelling")
    alone = spell_words([one[0] for one in entries if len(one) == 1], alphabet, str(path), unspellable)
    ids = {symbol: index for index, symbol in enumerate(alphabet.symbols) if symbol not in SPECIALS}  # "n n" or "n 1"
    lacking: Counter[str] = Counter()
    wrong: list[str] = []
    words, spellings = [], []
    for word, *symbols in entries:
        if not symbols:
            continue
        if symbols[-1] == BOUNDARY:
            symbols = symbols[:-1]
        missing = {symbol for symbol in symbols if symbol not in ids or symbol == BOUNDARY}
        if missing or not symbols:
            lacking.update(missing)
            wrong.append(word)
        else:
            words.append(word)
            spellings.append(tuple(alphabet.pack(ids[symbol] for symbol in symbols)))
    left_out = _mismatch(str(path), wrong, lacking, len(entries), alphabet, unspellable)
    return Lexicon(alone.words + tuple(words), alone.spellings + tuple(spellings), left_out or alone.left_out)


def spell_words(words: Sequence[str], alphabet: Alphabet, where: str, unspellable: Unspellable = "few") -> Lexicon:
    """Words spelt as the alphabet spells transcripts: "WORD" is w o r d where transcripts are lower case.

    Raises:
        TextError: more words than may be left out have symbols that the alphabet lacks, or are not one word in its
            spelling; symbols and words are named.
    """
    if words and alphabet.units == "phonemes":
        raise TextError(f"{where}: the alphabet is phonemes; words need a lexicon with their phonemes (--lexicon)")
    ids = alphabet.letters
    spellings: list[tuple[int, ...]] = []
    kept: list[str] = []
    lacking: Counter[str] = Counter()
    wrong: list[str] = []
    for word in words:
        normal = alphabet.normalize(word)
        missing = {character for character in normal if character not in ids}
        if missing or not normal:
            lacking.update(missing or set(word))
            wrong.append(word)
        else:
            kept.append(word)
            spellings.append(tuple(alphabet.pack(ids[character] for character in normal)))
    return Lexicon(tuple(kept), tuple(spellings), _mismatch(where, wrong, lacking, len(words), alphabet, unspellable))


def _mismatch(
    where: str, wrong: list[str], lacking: Counter[str], total: int, alphabet: Alphabet, unspellable: Unspellable
) -> str:
    """What could not be spelt, where that may be left out; else raises TextError."""
    if not wrong:
        return ""
    symbols = ", ".join(f"{symbol!r} ({count})" for symbol, count in lacking.most_common(SHOWN))
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    own = " ".join(symbol for symbol in alphabet.symbols if symbol not in SPECIALS)
    examples = ", ".join(repr(word) for word in wrong[:3])
    what = (
        f"{where}: {len(wrong)} of {total} words cannot be spelt with the recogniser's alphabet, for instance "
        f"{examples}; it lacks {symbols}{more}"
    )
    if len(wrong) < total and (unspellable == "skip" or (unspellable == "few" and len(wrong) <= FEW * total)):
        return f"{what}; they were left out"
    raise TextError(
        f"{what}; it has {own}. Spell the text as the transcripts are spelt, or leave those words out with "
        "--unspellable skip"
    )
