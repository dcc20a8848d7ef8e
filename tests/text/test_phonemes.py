"""Texts to the phones of wav2vec-U: units, words in their sentence, scripts, pauses, languages that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstwords.errors import ConfigError, TextError
from firstwords.text.ipa import ipa_units
from firstwords.text.phonemes import look_up, pronounce, read_pronunciations
from firstwords.text.scripts import scripts_of_language, scripts_of_text


@pytest.mark.parametrize(
    ("phone", "units"),
    [
        ("ˈtʃ", "tʃ"), ("t͡s", "ts"), ("ɔːɹ", "ɔ ɹ"), ("əl", "ə l"), ("aɪɚ", "aɪ ɚ"), ("iə", "i ə"), ("ˌoʊ", "oʊ"),
        ("n̩", "n"), ("ɑ̃", "ɑ̃"), ("kʰ", "kʰ"), ("juː", "j u"), ("g", "ɡ"), ("_", ""), ("ɔø", "ɔø"), ("5", ""),
    ],
)  # fmt: skip
def test_units_of_phones(phone: str, units: str) -> None:
    assert " ".join(ipa_units(phone)) == units


def test_length_stays_where_it_is_asked_for() -> None:
    assert ipa_units("uː", keep_length=True) == ("uː",)
    assert ipa_units("uː") == ("u",)


def test_words_are_pronounced_as_in_their_sentence() -> None:
    pytest.importorskip("espeakng_loader")
    (said,) = pronounce(["a fox of the human kind"], "en-us")
    assert said is not None
    assert [word for word, _ in said] == ["a", "fox", "of", "the", "human", "kind"]
    assert dict(said)["a"] == ("ɐ",) and dict(said)["the"] == ("ð", "ə")  # weak, and each word by itself
    (number,) = pronounce(["in 1990 we"], "en-us")
    assert number is not None and [word for word, _ in number] == ["in", "1990", "we"] and len(number[1][1]) > 10
    german, again = pronounce(["die katze", "die katze"], "de")
    assert german == again == [("die", ("d", "i")), ("katze", ("k", "a", "ts", "ə"))]


def test_a_language_that_is_not_there_is_named() -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ConfigError, match="no language 'en-uk' in espeak-ng; near: en-us"):
        list(pronounce(["so"], "en-uk"))


def test_a_given_lexicon_speaks_only_its_words(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("so s oʊ\nso s ɔ\nit ɪ t\n")
    lexicon = read_pronunciations(tmp_path / "lexicon.txt")
    assert list(look_up(["so it", "so was it"], lexicon)) == [[("so", ("s", "oʊ")), ("it", ("ɪ", "t"))], None]
    (tmp_path / "lexicon.txt").write_text("so\n")
    with pytest.raises(TextError, match="line 1: 'so' has no phones"):
        read_pronunciations(tmp_path / "lexicon.txt")


def test_scripts() -> None:
    assert scripts_of_text("Да! Yes 12") == {"CYRILLIC": 2, "LATIN": 3}
    assert scripts_of_language("ru") == {"CYRILLIC"} and scripts_of_language("de") == {"LATIN"}
    assert scripts_of_language("ja") == {"CJK", "HIRAGANA", "KATAKANA"} and "LATIN" in scripts_of_language("sr")
