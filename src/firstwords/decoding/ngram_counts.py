"""Counting n-grams by sorting: every n-gram of a text, how often it occurs, and its parts one order below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from firstwords.corpus.parallel import track
from firstwords.decoding.ngram import END, START, UNKNOWN
from firstwords.errors import LanguageModelError

SPECIAL_IDS = {UNKNOWN: 0, START: 1, END: 2}
"""The first ids, in the order of KenLM's files."""
_BLOCK = 20_000
"""Sentences that become ids at once."""


@dataclass(frozen=True, eq=False)
class Counts:
    """The n-grams of one order, sorted by context, then by last word."""

    context: np.ndarray
    """(m,) int32: where the first n - 1 words stand, one order below."""
    suffix: np.ndarray
    """(m,) int32: where the last n - 1 words stand, one order below."""
    word: np.ndarray
    """(m,) int32: the last word's id."""
    occurrences: np.ndarray
    """(m,) int64: how often the n-gram occurs."""
    initial: np.ndarray
    """(m,) bool: whether it begins with <s>."""


def count_ngrams(sentences: Iterable[str], order: int) -> tuple[list[str], list[Counts]]:
    """Words by id, and the n-grams of orders 1 to `order` (fewer where no sentence is long enough).

    A sentence of k words counts as k + 2: <s>, the words, </s>. No n-gram but the unigram ends in <s>.

    The text is held as one 32-bit number a word, and an order's n-grams are found by sorting the positions by
    (the n-gram one order below that ends one word earlier, the word): no n-gram is ever written out. Memory does not
    grow with the length of words or lines; docs/language-models.md has the figures.

    Args:
        sentences: words separated by spaces; blank ones do not count.
        order: words of the longest n-grams.

    Raises:
        LanguageModelError: an order below 1, no sentences, or one of <s>, </s> and <unk> used as a word.
    """
    if order < 1:
        raise LanguageModelError(f"the order of an n-gram model must be at least 1, found {order}")
    words, tokens = _numbered(sentences)
    size = len(words)
    occurrences = np.bincount(tokens, minlength=size)
    nothing = np.zeros(size, np.int32)
    initial = np.arange(size) == SPECIAL_IDS[START]
    orders = [Counts(nothing, nothing, np.arange(size, dtype=np.int32), occurrences, initial)]
    grams = tokens  # at each position the n-gram of the last order that ends there, -1: it would begin before <s>
    for number in track(range(2, order + 1), order - 1, "counting n-grams"):
        ends = np.flatnonzero((grams[:-1] >= 0) & (tokens[1:] != SPECIAL_IDS[START])) + 1
        if not len(ends):
            break
        keys = grams[ends - 1].astype(np.int64) * size
        keys += tokens[ends]
        places = np.argsort(keys)
        keys, ends = keys[places], ends[places]
        del places
        new = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        first = np.flatnonzero(new)
        context, word = np.divmod(keys[first], size)
        del keys
        orders.append(
            Counts(
                context.astype(np.int32),
                grams[ends[first]],
                word.astype(np.int32),
                np.diff(first, append=len(new)),
                orders[-1].initial[context],
            )
        )
        if number < order:
            grams = np.full(len(tokens), -1, np.int32)
            grams[ends] = np.cumsum(new, dtype=np.int32) - 1
    return words, orders


def _numbered(sentences: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Words by id, and the whole text as ids (int32), <s> before and </s> after each sentence."""
    numbers: defaultdict[bytes, int] = defaultdict(count().__next__)
    for special in SPECIAL_IDS:
        numbers[special.encode()]
    blocks = []
    before = 0
    for block in _blocks(sentences):
        # Bytes, since str.split takes characters for spaces that ARPA files allow inside a word.
        text = ("\n".join(block) + "\n").encode("utf-8", "surrogatepass")
        tokens = text.replace(b"\n", b" </s> ").split()
        ids = np.fromiter(map(numbers.__getitem__, tokens), np.int32, len(tokens))
        _check_specials(block, ids, before)
        last = ids == SPECIAL_IDS[END]
        starts = np.concatenate(([0], np.flatnonzero(last[:-1]) + 1))
        blocks.append(np.insert(ids, starts, SPECIAL_IDS[START]))
        before += len(block)
    if not blocks:
        raise LanguageModelError("the text is empty: no sentence to learn from")
    return [word.decode("utf-8", "surrogatepass") for word in numbers], np.concatenate(blocks)


def _blocks(sentences: Iterable[str]) -> Iterator[list[str]]:
    there = (sentence for sentence in sentences if sentence and not sentence.isspace())
    while block := list(islice(there, _BLOCK)):
        yield block


def _check_specials(block: list[str], ids: np.ndarray, before: int) -> None:
    """Raises LanguageModelError where a sentence holds a word that only models write."""
    if (ids > SPECIAL_IDS[START]).all() and np.count_nonzero(ids == SPECIAL_IDS[END]) == len(block):
        return
    for number, sentence in enumerate(block, before + 1):
        for special in SPECIAL_IDS:
            if special in sentence.split():
                raise LanguageModelError(
                    f"sentence {number} holds {special}, which language models keep for themselves; take it out"
                )
        if "\n" in sentence:
            raise LanguageModelError(f"sentence {number} holds a line break; give each line by itself")
