"""Sentences out of texts and corpora, spelt as a recogniser spells, without those that are tested on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from firstwords.errors import LanguageModelError
from firstwords.text import sentences as module
from firstwords.text.normalization import NormalizationConfig
from firstwords.text.sentences import Spelling, Withheld, as_characters, read_sentences


def corpus(folder: Path, *lines: tuple[str | None, str]) -> Path:
    folder.mkdir(parents=True)
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for number, (split, text) in enumerate(lines):
            line = {"id": str(number), "audio": "x.wav", "text": text, "phones": "A | B"}
            manifest.write(json.dumps(line | ({"split": split} if split else {})) + "\n")
    return folder


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_lines_of_files_however_they_are_stored(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows line ends, a mark of UTF-8, blank lines, no last line end, gzip in several parts."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    content = "\ufeffSo war es.\r\n\n \nGrüße, 漢字\u2028!".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(content[:20]) + gzip.compress(content[20:]))
    assert list(read_sentences([tmp_path / "a.txt"])) == ["So war es.", "Grüße, 漢字\u2028!"]
    both = list(read_sentences([tmp_path / "a.txt", tmp_path / "b.txt.gz"]))
    assert both == ["So war es.", "Grüße, 漢字\u2028!"] * 2


def test_transcripts_of_chosen_splits(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "c", ("train", "one"), ("dev", "two"), (None, "three  words"), ("test", " "))
    assert list(read_sentences([folder])) == ["one", "three words"]
    assert list(read_sentences([folder / "manifest.jsonl"], None)) == ["one", "two", "three words"]
    assert list(read_sentences([folder], ("dev",), "phonemes")) == ["A | B", "A | B"]


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"one\ntwo\nGr\xfc\xdfe\nthree\n")
    with pytest.raises(LanguageModelError, match=r"latin.txt, line 3: not UTF-8 text \(byte 0xfc\); .*iconv"):
        list(read_sentences([tmp_path / "latin.txt"]))
    (tmp_path / "short.gz").write_bytes(gzip.compress(b"word\n" * 5000)[:40])
    with pytest.raises(LanguageModelError, match="cut short"):
        list(read_sentences([tmp_path / "short.gz"]))
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    with pytest.raises(LanguageModelError, match="broken"):
        list(read_sentences([tmp_path / "broken.gz"]))
    with pytest.raises(LanguageModelError, match=r"none.txt: text cannot be read \(No such file"):
        list(read_sentences([tmp_path / "none.txt"]))
    with pytest.raises(LanguageModelError, match=r"a folder without manifest.jsonl"):
        list(read_sentences([tmp_path]))
    with pytest.raises(LanguageModelError, match="no text given"):
        list(read_sentences([]))


def test_spelling() -> None:
    lines = ["So it was -- “Well”!", "...", "O'Hara"]
    assert list(Spelling()(lines)) == ["so it was well", "o'hara"]
    assert list(Spelling(normalization=NormalizationConfig(case="upper"))(lines)) == ["SO IT WAS WELL", "O'HARA"]
    assert list(Spelling(normalization=None)(lines)) == lines
    assert list(Spelling("phonemes")(["W IY0 |  K AO0 L"])) == ["W IY0 | K AO0 L"]
    assert as_characters("so it was") == "s o | i t | w a s"


def test_what_is_tested_on_is_withheld(tmp_path: Path) -> None:
    """Whole transcripts, and pieces of eight words; spelling makes no difference, shorter pieces are common speech."""
    folder = corpus(
        tmp_path / "c",
        ("test", "It was a bright cold day in April and the clocks were striking thirteen"),
        ("dev", "Good morning."),
        ("train", "This may be learnt."),
        (None, "No split: tested on."),
    )
    withheld = Withheld([folder])
    kept = [
        "He said: good morning.",
        "This may be learnt.",
        "It was a bright cold day in London, and the clocks were striking thirteen.",
    ]
    lost = [
        "GOOD MORNING!",
        "No split - tested on",
        "Well, it was a bright, cold day in April (I think).",
    ]
    assert list(withheld.keep_from([kept[0], *lost, *kept[1:]])) == kept
    assert withheld.left_out == len(lost)
