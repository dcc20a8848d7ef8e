"""A long recording to utterances that a recogniser can learn from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from conftest import write_tone

from firstwords.corpus.manifest import read_manifest
from firstwords.decoding.aligned_text import Alignment
from firstwords.decoding.words import Word
from firstwords.errors import ConfigError, CorpusError
from firstwords.segmentation import SegmentConfig, segments, write_utterances
from firstwords.text.alphabet import Alphabet

ALPHABET = Alphabet(("<blank>", "|", *"abcdefgh"))


def alignment(sentences: list[list[tuple[str, float, float, float | None]]], duration: float) -> Alignment:
    words = [Word(*one) for sentence in sentences for one in sentence]
    numbers = [number for number, sentence in enumerate(sentences) for _ in sentence]
    return Alignment(tuple(words), tuple(numbers), 0.0, duration)


BOOK = alignment(
    [
        [("Abe", 1.0, 1.5, 0.9), ("had", 1.5, 3.0, 0.8)],
        [("No.", 4.0, 4.3, 0.9)],
        [("Bad", 4.4, 5.0, 0.9), ("cab.", 5.0, 6.0, None)],
        [("fed", 10 + 3 * n, 11 + 3 * n + n / 10, 0.2) for n in range(10)],
    ],
    50.0,
)


def test_sentences_become_utterances() -> None:
    """Short ones join the next, long ones are cut at pauses, none overlaps another, and every word is there once."""
    found = segments(BOOK, ALPHABET, 50.0, SegmentConfig(min_seconds=1.0, max_seconds=10.0))
    assert [one.text for one in found[:2]] == ["Abe had", "No. Bad cab."]
    assert sum(len(one.words) for one in found) == len(BOOK.words)
    for one in found:
        assert one.end - one.start <= 10.4 and one.start < one.words[0].start and one.end > one.words[-1].end
    assert all(left.end <= right.start for left, right in pairwise(found))
    assert found[0].score == pytest.approx(0.85)
    assert len(segments(BOOK, ALPHABET, 50.0, SegmentConfig(min_score=0.5))) == 2
    with pytest.raises(ConfigError, match="utterances of 5 to 2 s"):
        segments(BOOK, ALPHABET, 50.0, SegmentConfig(min_seconds=5, max_seconds=2))


def test_the_manifest_reads_back(tmp_path: Path) -> None:
    """Utterances are stretches of the recording itself; a second book joins, the same one replaces itself."""
    first, second = (write_tone(tmp_path / "books" / f"{name}.wav", 50.0) for name in ("one", "two"))
    out = tmp_path / "corpus"
    count = write_utterances(first, BOOK, ALPHABET, out)
    write_utterances(second, BOOK, ALPHABET, out)
    write_utterances(first, BOOK, ALPHABET, out)
    read = read_manifest(out)
    assert len(read) == 2 * count and read[0].id.startswith("two-")
    utterance = next(one for one in read if one.id == "one-00001")
    assert utterance.text == "Abe had" and utterance.duration is not None
    assert len(utterance.read()) == pytest.approx(utterance.duration * 16_000, abs=2)
    assert utterance.extras["words"][0][1] == pytest.approx(1.0 - utterance.start, abs=1e-3)
    with pytest.raises(CorpusError, match="min-score"):
        write_utterances(first, BOOK, ALPHABET, out, SegmentConfig(min_score=1.0))
