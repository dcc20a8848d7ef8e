"""The text side: which sentences are kept, where pauses stand, and that dictionary, lexicon and models agree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from firstwords.corpus.prepared import read_phone_counts
from firstwords.decoding.ngram import NgramModel
from firstwords.errors import ConfigError, TextError
from firstwords.unsupervised.text import TextConfig, prepare_text, pronunciations, with_silence

LEXICON = "so s oʊ\nit ɪ t\nwas w ɑ z\ncold k oʊ l d\nzoo z u\n"


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    return tmp_path / "lexicon.txt"


def test_files_of_a_text_agree(tmp_path: Path, lexicon: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("So it was.\nIt was so cold!\nIt was the zoo.\nSo.\n" * 10 + "So it was zoo\n")
    config = TextConfig(lexicon=lexicon, min_phone_count=2)
    found = prepare_text([text], tmp_path / "out", config)
    assert (found.sentences, found.short_or_long, found.unpronounced, found.rare) == (20, 10, 10, 1)
    assert found.dropped_phones == ("u",)
    lines = (tmp_path / "out" / "phones.txt").read_text().splitlines()
    phones, counts = read_phone_counts(tmp_path / "out" / "dict.txt")
    assert tuple(phones) == found.inventory
    assert dict(zip(phones, counts, strict=True)) == Counter(" ".join(lines).split())
    assert counts[:-1] == sorted(counts[:-1], reverse=True)
    spoken = [line.replace("<SIL>", "").split() for line in lines]
    assert spoken[0] == "s oʊ ɪ t w ɑ z".split() and spoken[1] == "ɪ t w ɑ z s oʊ k oʊ l d".split()  # noqa: SIM905
    entries = (tmp_path / "out" / "lexicon.txt").read_text().splitlines()
    assert entries == ["cold k oʊ l d", "it ɪ t", "so s oʊ", "was w ɑ z"]
    words = NgramModel.load(tmp_path / "out" / "words.arpa.gz")
    assert {"cold", "it", "so", "was"} <= set(words.vocabulary) and "zoo" not in words.vocabulary
    for order in (4, 6):
        assert set(phones) <= set(NgramModel.load(tmp_path / "out" / f"phones.{order}.arpa.gz").vocabulary)


def test_pauses_stand_at_both_ends_and_between_words_as_often_as_asked() -> None:
    words = [("a",), ("b", "c"), ("d",)]
    lines = list(with_silence([words] * 4000, 0.25, seed=1))
    assert all(line.startswith("<SIL> a") and line.endswith("d <SIL>") and "b c" in line for line in lines)
    inner = sum(line.count("<SIL>") - 2 for line in lines) / (2 * len(lines))
    assert inner == pytest.approx(0.25, abs=0.02)
    assert lines == list(with_silence([words] * 4000, 0.25, seed=1))
    assert list(with_silence([words], 0.0, 0)) == ["<SIL> a b c d <SIL>"]
    assert list(with_silence([words], 1.0, 0)) == ["<SIL> a <SIL> b c <SIL> d <SIL>"]


def test_a_word_keeps_the_pronunciations_that_matter() -> None:
    sentences = [[("the", ("ð", "ə"))]] * 20 + [[("the", ("ð", "ɪ"))]] * 6 + [[("the", ("θ",))], [("so", ("s",))]]
    assert pronunciations(sentences) == [("so", ("s",)), ("the", ("ð", "ə")), ("the", ("ð", "ɪ"))]
    assert [word for word, _ in pronunciations(sentences, 2)] == ["the", "the"]


def test_text_that_cannot_be_used_is_told(tmp_path: Path, lexicon: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Это было так.\n" * 5 + "So it was.\n")
    with pytest.raises(TextError, match=r"written in Cyrillic \(5 of 6 sentences\), but en-us is written in Latin"):
        prepare_text([text], tmp_path / "out", TextConfig(lexicon=lexicon))
    text.write_text("No word known.\n")
    with pytest.raises(TextError, match="1 could not be pronounced"):
        prepare_text([text], tmp_path / "out", TextConfig(lexicon=lexicon))
    with pytest.raises(ConfigError, match=r"silence-probability 1\.5"):
        prepare_text([text], tmp_path / "out", TextConfig(silence_probability=1.5))
