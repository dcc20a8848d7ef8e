"""Alphabets spell what they were built from, and say what they cannot spell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError, TextError
from firstwords.text.alphabet import Alphabet, transcript_of
from firstwords.text.normalization import NormalizationConfig

SENTENCES = ["It's a dog.", "Éclairs — “again”!", "  the   end  "]


def test_blank_boundary_then_frequency_then_code_point() -> None:
    alphabet = Alphabet.build(["bba", "bca", "éé"])
    assert alphabet.symbols == ("<blank>", "|", "b", "a", "é", "c")
    assert len(alphabet) == 6 and alphabet.boundary == 1


def test_encodes_words_with_boundaries_between_and_at_the_end() -> None:
    alphabet = Alphabet(("<blank>", "|", "a", "b"))
    assert alphabet.encode("Ab, a!") == [2, 3, 1, 2, 1]
    assert Alphabet(alphabet.symbols, final_boundary=False).encode("Ab, a!") == [2, 3, 1, 2]
    assert alphabet.encode(" ... ") == []


@pytest.mark.parametrize("final_boundary", [True, False])
@pytest.mark.parametrize("config", [NormalizationConfig(), NormalizationConfig(case="keep", punctuation="keep")])
def test_decoding_gives_back_the_normalised_text(config: NormalizationConfig, final_boundary: bool) -> None:
    alphabet = Alphabet.build(SENTENCES, normalization=config, final_boundary=final_boundary)
    for text in SENTENCES:
        assert alphabet.decode(alphabet.encode(text)) == alphabet.normalize(text) != ""


def test_phonemes_keep_case_and_words() -> None:
    text = "W IY0 |  k AO0  L |"
    alphabet = Alphabet.build([text], units="phonemes")
    assert set(alphabet.symbols[2:]) == {"W", "IY0", "k", "AO0", "L"}
    assert alphabet.decode(alphabet.encode(text)) == "W IY0 | k AO0 L"
    assert alphabet.encode(text).count(alphabet.boundary) == 2


def test_decoding_drops_special_symbols_and_folds_boundaries() -> None:
    alphabet = Alphabet(("<blank>", "<s>", "</s>", "<unk>", "|", "a", "b"))
    assert alphabet.decode([4, 1, 5, 3, 4, 0, 4, 6, 2, 4]) == "a b"


def test_names_what_is_missing() -> None:
    alphabet = Alphabet.build(["abc"])
    assert alphabet.missing(["Añ ñ", "d"]) == {"ñ": 2, "d": 1}
    assert alphabet.missing(["cab bac"]) == {}
    with pytest.raises(TextError, match=r"lacks 'd', 'ñ' \(U\+00F1\)"):
        alphabet.encode("dañ")


def test_special_symbols_cannot_be_spelt() -> None:
    with pytest.raises(TextError, match="<blank>"):
        Alphabet(("<blank>", "|", "A"), units="phonemes").encode("A <blank>")


@pytest.mark.parametrize("transcripts", [[], ["", " . "]])
def test_no_text_makes_no_alphabet(transcripts: list[str]) -> None:
    with pytest.raises(TextError, match="no characters"):
        Alphabet.build(transcripts)


@pytest.mark.parametrize("symbols", [(), ("a", "|"), ("<blank>", "a"), ("<blank>", "|", "a", "a")])
def test_refuses_symbols_that_make_no_alphabet(symbols: tuple[str, ...]) -> None:
    with pytest.raises(TextError):
        Alphabet(symbols)


def test_a_file_gives_back_the_same_alphabet(tmp_path: Path) -> None:
    config = NormalizationConfig(case="upper", punctuation="keep", unicode_form="NFKC")
    alphabet = Alphabet.build(SENTENCES, normalization=config, final_boundary=False)
    alphabet.save(tmp_path / "alphabet.json")
    assert Alphabet.load(tmp_path / "alphabet.json") == alphabet
    assert list(tmp_path.iterdir()) == [tmp_path / "alphabet.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"symbols": ["<blank>"]}',
        '{"symbols": ["<blank>", "|"], "unit": "characters"}',
        '"\udcff"',
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alphabet.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"alphabet\.json.*fine-tune again"):
        Alphabet.load(path)
    with pytest.raises(CheckpointError, match="No such file"):
        Alphabet.load(tmp_path / "other.json")


def test_a_misspelt_key_names_the_nearest() -> None:
    values = json.loads(json.dumps(Alphabet(("<blank>", "|")).to_dict())) | {"unitz": "characters"}
    with pytest.raises(ConfigError, match="'units'"):
        Alphabet.from_dict(values)


def test_transcripts_of_an_utterance() -> None:
    def utterance(**extras: object) -> Utterance:
        return Utterance("u", Path("u.wav"), text="We call", extras=extras)

    assert transcript_of(utterance(), "characters") == "We call"
    assert transcript_of(utterance(), "phonemes") is None
    assert transcript_of(utterance(phones=["W IY0", "K AO0 L"]), "phonemes") == "W IY0 | K AO0 L"
    assert transcript_of(utterance(phones="W IY0 K"), "phonemes") == "W IY0 K"
    with pytest.raises(TextError, match="utterance u"):
        transcript_of(utterance(phones=[["W"], ["K"]]), "phonemes")
