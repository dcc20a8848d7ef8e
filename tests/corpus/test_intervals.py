"""Alignments: the same out of every kind of file; those of other recordings are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from firstwords.corpus.intervals import (
    SILENCE,
    Interval,
    frame_labels,
    manifest_alignment,
    open_alignments,
)
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AlignmentError
from firstwords.formats import render
from firstwords.transcript import Character, Transcript, Word

LETTERS = (
    Word("ab", 0.1, 0.5, 0.9, (Character("a", 0.1, 0.3, 0.9), Character("b", 0.3, 0.5, 0.8))),
    Word('"3', 0.75, 1.0, None, (Character('"3', 0.75, 1.0, None),)),
)
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1.2
<exists>
2
"IntervalTier"
"words"
0
1.2
2
0
0.1
""
0.1
1.2
"say ""7"" [1]"
"IntervalTier"
"phones"
0
1.2
4
0
0.1
"sil"
0.1
0.3
"AH0"
0.3
0.5
"spn"
0.5
1.2
""
"""


def utterance(name: str = "u1", **more: object) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), duration=1.2, **more)  # type: ignore[arg-type]


def rounded(intervals: list[Interval] | None) -> list[tuple[str | None, float, float]]:
    assert intervals is not None
    return [(one.label, round(one.start, 3), round(one.end, 3)) for one in intervals if one.label != ""]


@pytest.mark.parametrize("ending", ["TextGrid", "json", "jsonl", "ctm"])
def test_what_firstwords_writes(ending: str, tmp_path: Path) -> None:
    """As `firstwords align` leaves it, alone and in a folder; what no letter spells is nobody's phone."""
    words = LETTERS
    if ending == "ctm":  # align --units characters
        words = tuple(Word(c.text, c.start, c.end, c.confidence, (c,)) for word in LETTERS for c in word.characters)
    path = tmp_path / "all" / f"u1.{ending}"
    path.parent.mkdir()
    path.write_text(render(Transcript("ab", 1.2, "there/u1.wav", words), ending.lower()))
    for place in (path, path.parent):
        found = rounded(open_alignments(place).of(utterance()))
        unspelt = '"3' if ending in ("TextGrid", "ctm") else None
        assert found == [("a", 0.1, 0.3), ("b", 0.3, 0.5), (unspelt, 0.75, 1.0)]
        assert open_alignments(place).of(utterance("other")) is None


def test_a_textgrid_of_others(tmp_path: Path) -> None:
    """Praat's short format, UTF-16; phones are taken where there are words too, silence and the unspelt known."""
    (tmp_path / "spk").mkdir()
    (tmp_path / "spk" / "u1.TextGrid").write_bytes(SHORT.encode("utf-16"))
    for name in ("u1", "spk/u1"):
        found = open_alignments(tmp_path).of(utterance(name))
        assert found == [
            Interval("", 0, 0.1),
            Interval("AH0", 0.1, 0.3),
            Interval(None, 0.3, 0.5),
            Interval("", 0.5, 1.2),
        ]
    assert open_alignments(tmp_path, "words").of(utterance()) == [
        Interval("", 0, 0.1),
        Interval('say "7" [1]', 0.1, 1.2),
    ]
    with pytest.raises(AlignmentError, match="no tier 'sounds'; it has: words, phones"):
        open_alignments(tmp_path, "sounds").of(utterance())


def test_timit(tmp_path: Path) -> None:
    (tmp_path / "SA1.PHN").write_text("0 3200 h#\n3200 4800 sh\n4800 8000 iy\n")
    found = open_alignments(tmp_path).of(utterance("dr1/fcjf0/SA1"))
    assert found == [Interval("", 0, 0.2), Interval("sh", 0.2, 0.3), Interval("iy", 0.3, 0.5)]


def test_a_stretch_of_a_longer_recording(tmp_path: Path) -> None:
    (tmp_path / "book.ctm").write_text("book 1 9.8 0.4 a\nbook 1 10.5 0.5 b 0.9\nbook 1 11.1 0.4 c\n")
    part = Utterance("book-00001", Path("audio/book.mp3"), start=10.0, duration=1.2)
    assert rounded(open_alignments(tmp_path).of(part)) == [("a", 0.0, 0.2), ("b", 0.5, 1.0), ("c", 1.1, 1.2)]


def test_manifest() -> None:
    one = utterance(extras={"segments": [["W", 0.5, 0.6], ["IY", 0.6, 0.9]], "bad": [["W", 0.5]]})
    assert manifest_alignment(one) == [Interval("W", 0.5, 0.6), Interval("IY", 0.6, 0.9)]
    assert manifest_alignment(one, "none") is None
    with pytest.raises(AlignmentError, match='u1: "bad" is not'):
        manifest_alignment(one, "bad")


def test_frames() -> None:
    names: dict[str, int] = {}
    times = np.array([0.05, 0.1, 0.29, 0.3, 0.55, 0.6, 0.8, 2.0])
    intervals = [Interval("a", 0.1, 0.3), Interval(None, 0.5, 0.6), Interval("", 0.6, 0.7), Interval("b", 0.8, 0.9)]
    found = frame_labels(intervals, times, lambda name: names.setdefault(name, len(names)))
    back = {number: name for name, number in names.items()} | {-1: None}
    assert [back[number] for number in found] == [SILENCE, "a", "a", SILENCE, None, SILENCE, "b", SILENCE]
    assert frame_labels([], times, lambda name: names[name]).tolist() == [names[SILENCE]] * 8


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("u1.ctm", "u1 1 0.0 0.5 a\nu1 1 0.2 0.5 b\n", "overlap at 0.200 s"),
        ("u1.ctm", "u1 1 0.0 half a\n", "line 1: not NAME CHANNEL"),
        ("u1.ctm", "u1 1 1.0 5.0 a\n", "ends at 6.00 s, the utterance at 1.20 s; it belongs to another"),
        ("u1.json", '{"id": "u1", "text": "a"}', "as firstwords align writes it"),
        ("u1.json", "{", "as firstwords align writes it"),
        ("u1.TextGrid", SHORT[:-30], "cannot be read as a TextGrid"),
        ("u1.TextGrid", "hello", "cannot be read as a TextGrid"),
        ("u1.phn", "0 a b\n", "line 1: not FIRST LAST PHONE"),
        ("u1.txt", "a", "no alignments"),
    ],
)
def test_bad_files_are_named(name: str, text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AlignmentError, match=what):
        open_alignments(tmp_path).of(utterance())


def test_a_name_that_two_utterances_could_have(tmp_path: Path) -> None:
    (tmp_path / "u1.json").write_text(json.dumps({"id": "u1", "words": []}))
    found = open_alignments(tmp_path)
    assert found.of(utterance("a/u1")) == []
    with pytest.raises(AlignmentError, match="could be of a/u1 or of b/u1"):
        found.of(utterance("b/u1"))
    with pytest.raises(AlignmentError, match="no such file or folder"):
        open_alignments(tmp_path / "nowhere")
