"""Transcripts in the formats of other programs, and the rules of subtitles."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from firstwords.formats import FORMATS, FormatError, render, write_files, write_transcripts
from firstwords.subtitles import Subtitle, SubtitleConfig, subtitles
from firstwords.transcript import Character, Transcript, Word


def word(text: str, start: float, end: float, sure: float | None = 0.9) -> Word:
    size = (end - start) / len(text)
    parts = [Character(c, start + n * size, start + (n + 1) * size, sure) for n, c in enumerate(text)]
    return Word(text, start, end, sure, tuple(parts))


def transcript(words: list[Word], duration: float, name: str = "talks/one.wav") -> Transcript:
    return Transcript(" ".join(w.text for w in words), duration, name, tuple(words))


HELLO = transcript([word("hello", 0.5, 0.9), word('"dear"', 0.9, 1.3, None), word("<all>", 3.0, 3.5)], 4.0)


def speech(seed: int, count: int = 300) -> list[Word]:
    """Words of all lengths at all paces, with pauses, and some that share a frame."""
    random = np.random.default_rng(seed)
    place, words = 0.0, []
    for _ in range(count):
        place += float(random.choice([0.0, 0.0, 0.05, 0.3, 1.5, 9.0], p=[0.3, 0.2, 0.3, 0.15, 0.04, 0.01]))
        length = int(random.integers(1, 14)) if random.uniform() < 0.98 else 60
        end = place + float(random.choice([0.0, 0.08, 0.3, 0.9, 12.0], p=[0.02, 0.2, 0.7, 0.07, 0.01]))
        words.append(word("x" * length, place, end))
        place = end
    return words


@pytest.mark.parametrize("seed", range(8))
def test_subtitles_keep_the_rules(seed: int) -> None:
    """At most two lines of 42 characters, at most 7 seconds, never two at once, nothing lost."""
    words = speech(seed)
    duration = words[-1].end + 2
    shown = subtitles(words, duration)
    text = "".join("".join(one.lines) for one in shown).replace(" ", "")
    assert text == "".join(w.text for w in words)
    for one in shown:
        assert 1 <= len(one.lines) <= 2 and max(map(len, one.lines)) <= 42
        assert 0 < one.end - one.start <= 7.001
    assert all(left.end <= right.start + 1e-9 for left, right in pairwise(shown))
    # Less than a second only where the next one follows at once and both together would break a rule.
    for one, following in pairwise(shown):
        if one.end - one.start < 0.999:
            assert following.start - one.start < 1.0


def test_a_short_subtitle_stays_on() -> None:
    shown = subtitles([word("yes", 1.0, 1.2), word("indeed", 4.0, 4.3)], 20.0)
    assert [(one.start, one.end) for one in shown] == [(1.0, 2.0), (4.0, 5.0)]
    assert subtitles([], 20.0) == []


def test_two_lines_of_a_length() -> None:
    text = "one two three four five six seven eight nine ten"
    words = [word(part, 0.3 * n, 0.3 * n + 0.3) for n, part in enumerate(text.split())]
    (one,) = subtitles(words, 9.0)
    assert one == Subtitle(("one two three four five", "six seven eight nine ten"), 0.0, pytest.approx(3.0))
    assert len(subtitles(words, 9.0, SubtitleConfig(line_characters=10))) > 2


def test_srt_and_vtt() -> None:
    assert HELLO.to_srt() == (
        '1\n00:00:00,500 --> 00:00:01,500\nhello "dear"\n\n2\n00:00:03,000 --> 00:00:04,000\n<all>\n'
    )
    assert HELLO.to_vtt() == (
        'WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nhello "dear"\n\n00:00:03.000 --> 00:00:04.000\n&lt;all&gt;\n'
    )
    late = transcript([word("late", 3 * 3600 + 61.2345, 3 * 3600 + 61.9)], 4 * 3600.0)
    assert "03:01:01,234 --> 03:01:02,234" in late.to_srt()


def test_ctm_and_audacity() -> None:
    lines = HELLO.to_ctm().splitlines()
    assert lines[0] == "talks/one.wav 1 0.500 0.400 hello 0.9000" and lines[1] == 'talks/one.wav 1 0.900 0.400 "dear"'
    assert HELLO.to_audacity().splitlines()[2] == "3.000000\t3.500000\t<all>"


@pytest.mark.parametrize("seed", range(3))
def test_textgrid(seed: int) -> None:
    """Intervals fill each tier from 0 to the end without gap or overlap, and quotes are doubled."""
    assert 'text = """dear"""' in HELLO.to_textgrid()
    words = speech(seed, 60)
    grid = transcript(words, words[-1].end + 1).to_textgrid()
    tiers = grid.split("class = ")[2:]
    assert len(tiers) == 2
    for tier in tiers:
        numbers = [float(n) for n in re.findall(r"xm(?:in|ax) = ([\d.]+)", tier)]
        (start, end), edges = numbers[:2], numbers[2:]
        assert start == 0 == edges[0] and edges[-1] == end == pytest.approx(words[-1].end + 1, abs=1e-5)
        assert all(low < high for low, high in zip(edges[::2], edges[1::2], strict=True))
        assert edges[1:-1:2] == edges[2::2]
        assert int(re.findall(r"size = (\d+)", tier)[0]) == len(edges) // 2
    assert '"words"' in tiers[0] and '"characters"' in tiers[1]
    assert "".join(re.findall(r'text = "(x*(?: x+)*)"', tiers[0])).replace(" ", "") == "".join(w.text for w in words)
    assert transcript([], 2.0).to_textgrid().count("intervals [1]") == 2


def test_json() -> None:
    (line,) = render(HELLO, "jsonl").splitlines()
    assert json.loads(line) == json.loads(render(HELLO, "json")) == HELLO.to_dict()
    assert json.loads(line)["words"][0] | {"characters": 0} == {
        "text": "hello", "start": 0.5, "end": 0.9, "confidence": 0.9, "characters": 0,
    }  # fmt: skip
    assert json.loads(line)["words"][1]["confidence"] is None


def test_every_format_takes_nothing() -> None:
    for name in FORMATS:
        assert isinstance(render(transcript([], 1.0), name), str)
    with pytest.raises(FormatError, match="no format 'doc'"):
        render(HELLO, "doc")


def test_files(tmp_path: Path) -> None:
    """A file a recording; names that clash get their folder's before them."""
    given = [transcript([word("a", 0, 1)], 2, name) for name in ("x/one.wav", "y/one.wav", "x/one.wav", "book.2-00001")]
    written = write_files(given, tmp_path / "new", "srt")
    assert [path.name for path in written] == ["one.srt", "y-one.srt", "x-one.srt", "book.2-00001.srt"]
    assert all(path.read_text().startswith("1\n") for path in written)
    lines = io.StringIO()
    write_transcripts(given[:2], lines, "text", named=True)
    assert lines.getvalue() == "x/one.wav\ta\ny/one.wav\ta\n"
