"""Lexica and vocabularies: what the alphabet can spell is used, what it cannot is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from beams import letters, letters_arpa, words_arpa

from firstwords.decoding.lexicon import PrefixTree, read_lexicon, spell_words
from firstwords.decoding.vocabulary import kind_of, read_vocabulary
from firstwords.errors import LanguageModelError, TextError
from firstwords.text.alphabet import Alphabet


def test_words_are_spelt_as_transcripts_are() -> None:
    """A model in capitals serves an alphabet in lower case."""
    found = spell_words(["BAD", "a"], letters(), "lm.arpa")
    assert found.words == ("BAD", "a")
    assert found.spellings == ((3, 2, 5), (2,))


def test_too_many_unspellable_words_are_an_error_that_names_the_symbols() -> None:
    with pytest.raises(TextError, match=r"2 of 3 words.*'zoo'.*'z' \(1\).*a b c d.*--unspellable skip"):
        spell_words(["bad", "zoo", "naïve"], letters(), "lm.arpa")
    assert spell_words(["bad", "zoo", "naïve"], letters(), "lm.arpa", "skip").words == ("bad",)
    with pytest.raises(TextError, match="2 of 2"):
        spell_words(["zoo", "fee"], letters(), "lm.arpa", "skip")


def test_a_few_are_left_out_with_a_note() -> None:
    words = ["a" * n for n in range(1, 40)] + ["café"]
    found = spell_words(words, letters(), "lm.arpa")
    assert len(found) == 39
    assert "café" in found.left_out and "'é' (1)" in found.left_out
    with pytest.raises(TextError):
        spell_words(words, letters(), "lm.arpa", "error")


@pytest.mark.parametrize("name", ["lexicon.txt", "lexicon.txt.gz"])
def test_lexicon_files_with_and_without_spelling(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = "bad\nDAB\td a b |\nDAB d a b b |\n\ncab c a b\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = read_lexicon(path, letters())
    spelt = set(zip(found.words, found.spellings, strict=True))
    assert spelt == {("bad", (3, 2, 5)), ("DAB", (5, 2, 3)), ("DAB", (5, 2, 3, 3)), ("cab", (4, 2, 3))}


@pytest.mark.parametrize(("text", "complaint"), [("", "empty"), ("dog d o g |", "'o'"), (None, "cannot be read")])
def test_bad_lexica(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "lexicon.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TextError, match=complaint):
        read_lexicon(path, letters())


def test_words_for_phonemes_need_their_spelling(tmp_path: Path) -> None:
    phones = Alphabet(("<blank>", "|", "AA", "B"), units="phonemes")
    path = tmp_path / "lexicon.txt"
    path.write_text("bah B AA\n")
    assert read_lexicon(path, phones).spellings == ((3, 2),)
    path.write_text("bah\n")
    with pytest.raises(TextError, match="phonemes"):
        read_lexicon(path, phones)


def test_prefix_tree_against_words_one_by_one() -> None:
    random = np.random.default_rng(0)
    spellings = [tuple(random.integers(1, 5, random.integers(1, 7)).tolist()) for _ in range(200)]
    values = random.standard_normal(200)
    tree = PrefixTree(spellings)
    best = tree.best(values)
    beginnings = {one[:n] for one in spellings for n in range(len(one) + 1)}
    assert len(tree.parent) == len(beginnings)
    for beginning in beginnings:
        node = 0
        for label in beginning:
            node = int(tree.children[node, label])
        ahead = [value for one, value in zip(spellings, values, strict=True) if one[: len(beginning)] == beginning]
        assert best[node] == max(ahead)
        ending = [n for n, one in enumerate(spellings) if one == beginning]
        assert tree.words.get(node, []) == ending


def test_kinds_of_model(tmp_path: Path) -> None:
    assert kind_of(read_vocabulary(words_arpa(tmp_path)), letters(), "x") == "words"
    assert kind_of(read_vocabulary(letters_arpa(tmp_path)), letters(), "x") == "symbols"
    with pytest.raises(LanguageModelError, match=r"lacks x y z.*has a b c d"):
        kind_of(read_vocabulary(letters_arpa(tmp_path)), letters("xyz"), "letters.arpa")


@pytest.mark.parametrize("text", ["hello\n", "\\data\\\nngram 1=2\n\n\\1-grams:\n-1 a\n", "", "\\data\\\n"])
def test_files_that_are_no_model(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(text)
    with pytest.raises(LanguageModelError, match=r"lm\.arpa"):
        read_vocabulary(path)
    with pytest.raises(LanguageModelError, match="No such file"):
        read_vocabulary(tmp_path / "none.arpa")
