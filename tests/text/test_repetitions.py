"""Repeated symbols counted and told again; alphabets without a blank."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from firstwords.errors import TextError
from firstwords.text.alphabet import Alphabet
from firstwords.text.repetitions import pack, spelt, unpack


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_unpacking_is_the_inverse(most: int) -> None:
    chance = random.Random(most)
    counts = [f"<{number}>" for number in range(1, most + 1)]
    for _ in range(300):
        word = [chance.choice("ab") for _ in range(chance.randint(0, 14))]
        packed = pack(word, counts)
        assert unpack(packed, counts) == word
        if most:
            assert all(left != right for left, right in pairwise(packed))


def test_counts_with_nothing_to_count_are_dropped() -> None:
    assert unpack(["1", "a", "1", "1", "b"], ["1"]) == ["a", "a", "b"]
    assert spelt(["a", "2", "b"], ["1", "2"]) == [["a"], ["a", "a"], ["b"]]


def test_alphabet_without_a_blank() -> None:
    alphabet = Alphabet.build(["anna goes", "a booook"], first_boundary=True, repetitions=2, blank=False)
    assert alphabet.symbols[0] == "|" and alphabet.symbols[-2:] == ("1", "2")
    assert not alphabet.has_blank and alphabet.boundary == 0
    labels = alphabet.encode("anna booook")
    assert [alphabet.symbols[label] for label in labels] == list("|an1a|bo2ok|")
    assert alphabet.texts(labels) == ["|", "a", "n", "n", "a", "|", "b", "o", "oo", "o", "k", "|"]
    assert alphabet.decode(labels) == "anna booook"
    assert Alphabet.from_dict(alphabet.to_dict()) == alphabet


def test_phones_too() -> None:
    alphabet = Alphabet.build(["sil sil aa b"], "phonemes", final_boundary=False, repetitions=1, blank=False)
    assert alphabet.decode(alphabet.encode("b b sil sil sil aa")) == "b b sil sil sil aa"


def test_digits_cannot_be_letters_and_counts() -> None:
    with pytest.raises(TextError, match="write numbers out"):
        Alphabet.build(["route 1"], repetitions=2, blank=False)
    alphabet = Alphabet.build(["route"], repetitions=2, blank=False)
    with pytest.raises(TextError, match="'1'"):
        alphabet.encode("rou1te")
    assert alphabet.missing(["2 routes"]) == {"2": 1, "s": 1}
