"""Symbols of neural language models."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firstwords.errors import LanguageModelError
from firstwords.text.pieces import Pieces

TEXT = ["low lower lowest", "new newer newest", "the low the new", "wide wider the widest"]


def test_characters() -> None:
    pieces = Pieces.characters(TEXT)
    assert pieces.symbols[:3] == ("</s>", "<unk>", "|") and set(pieces.symbols[3:]) == set("lowernsthid")
    assert pieces.decode(pieces.encode("the  low one")) == "the low one"
    assert pieces.encode("éa low")[:3] == [1, 1, 2]
    assert sum(pieces.lengths()[one] for one in pieces.encode("the low")) + pieces.lengths()[0] == len("the low.")


def test_phonemes_are_symbols_of_their_own() -> None:
    pieces = Pieces.characters(["W IY0 | K AO0 L"], separated=True)
    assert pieces.decode(pieces.encode("K AO0 | W IY0")) == "K AO0 | W IY0"
    assert pieces.encode("K ZH") == [pieces.symbols.index("K"), 1]


def test_pieces_join_what_is_frequent() -> None:
    pieces = Pieces.learn(TEXT, 28)
    for sentence in [*TEXT, "lowest the wet"]:
        assert pieces.decode(pieces.encode(sentence)) == sentence
    assert len(pieces.encode("the")) == 1 and len(pieces.encode("lowest")) < len("lowest")
    assert sum(pieces.lengths()[one] for one in pieces.encode("the low")) + pieces.lengths()[0] == len("the low.")
    assert Pieces.from_dict(pieces.to_dict(), "test") == pieces


def test_pieces_equal_the_plain_procedure() -> None:
    """Counting all pairs anew before each merge gives the same merges."""
    words = [(["|", *word], sentence.split().count(word)) for sentence in TEXT for word in set(sentence.split())]
    merges = []
    for _ in range(10):
        pairs: dict[tuple[str, str], int] = {}
        for parts, times in words:
            for pair in pairwise(parts):
                pairs[pair] = pairs.get(pair, 0) + times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(" ".join(best))
        for parts, _ in words:
            place = 0
            while place + 1 < len(parts):
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    base = len(Pieces.characters(TEXT))
    assert list(Pieces.learn(TEXT, base + 10).merges) == merges


def test_texts_that_have_no_symbols() -> None:
    with pytest.raises(LanguageModelError, match="empty"):
        Pieces.characters(["", " "])
    with pytest.raises(LanguageModelError, match="4 word pieces are too few"):
        Pieces.learn(TEXT, 4)
    assert Pieces.learn(["a"], 100).symbols == ("</s>", "<unk>", "|", "a")
