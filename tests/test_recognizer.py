"""What a recogniser promises: files of any kind, any length, any order; times; live sound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone, write_tone
from test_windows import ALPHABET, changing, recognizer

from firstwords.decoding.greedy import GreedyDecoder
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.errors import AlignmentError, AudioError, ConfigError, MissingExtraError
from firstwords.live import LiveConfig, microphone
from firstwords.recognizer import Recognizer, Settings
from firstwords.windows import WindowConfig


def test_long_and_short_together(tmp_path: Path) -> None:
    """Recordings come back in their order, long ones too; each has the text it has alone."""
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    sources = [write_tone(tmp_path / f"{n}.wav", s, n) for n, s in enumerate([0.7, 14.0, 2.0, 9.1, 0.9])]
    heard: list[float] = []
    together = list(who.stream(sources, heard=heard.append))
    assert [transcript.id for transcript in together] == [str(path) for path in sources]
    assert [transcript.text for transcript in together] == [who.transcribe(path).text for path in sources]
    assert sum(heard) == pytest.approx(26.7, abs=0.2)
    assert all(
        transcript.duration == pytest.approx(s, abs=0.01)
        for transcript, s in zip(together, [0.7, 14, 2, 9.1, 0.9], strict=True)
    )


@pytest.mark.parametrize("times", ["alignment", "peaks"])
@pytest.mark.parametrize("seconds", [6.0, 21.0])
def test_words_and_their_times(times: str, seconds: float) -> None:
    """Words spell the text; their times rise, lie within the recording, and hold their characters."""
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    who.settings = dataclasses.replace(who.settings, times=times)  # type: ignore[arg-type]
    found = who.transcribe(changing(seconds))
    assert found.text == " ".join(word.text for word in found.words) and len(found.words) > 5
    for word, following in zip(found.words, [*found.words[1:], None], strict=True):
        assert 0 <= word.start <= word.end <= found.duration and 0 <= (word.confidence or 0) <= 1
        assert following is None or word.end <= following.start + 1e-9
        assert "".join(character.text for character in word.characters) == word.text
        assert word.characters[0].start == word.start and word.characters[-1].end == word.end


class WholeWords:
    """A decoder as a lexicon gives them: it names its words, and does not end on a boundary."""

    def __call__(self, emissions: list[torch.Tensor]) -> list[list[Hypothesis]]:
        return [[Hypothesis((2, 3, 1, 4), (1, 3, 5, len(rows) - 2), 0.0, words=("one", "two"))] for rows in emissions]


def test_other_decoders_read_piece_by_piece() -> None:
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    who.decoder = WholeWords()
    assert who.transcribe(changing(5.0)).text == "one two"
    long = who.transcribe(changing(61.0))
    assert long.text == "one two " * (len(long.words) // 2 - 1) + "one two" and len(long.words) >= 4
    assert {word.text for word in long.words} == {"one", "two"}


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    good = write_tone(tmp_path / "good.wav", 1.0)
    long = write_tone(tmp_path / "long.wav", 20.0)
    content = long.read_bytes()
    long.write_bytes(content[: len(content) // 2])
    missing = tmp_path / "missing.wav"
    skipped: dict[str, str] = {}
    found = list(who.stream([missing, good, long, good], skip=lambda name, error: skipped.update({name: str(error)})))
    assert [transcript.id for transcript in found] == [str(good)] * 2
    assert "no such file" in skipped[str(missing)] and "cut short" in skipped[str(long)]
    with pytest.raises(AudioError, match="no such file"):
        who.transcribe(missing)
    with pytest.raises(AudioError, match="one-dimensional"):
        who.transcribe(np.zeros((2, 100), dtype=np.float32))


@pytest.mark.parametrize("family", ["base", "vox", "tiny", "log-mel"])
def test_silence_noise_and_a_click(family: str) -> None:
    """Nothing said gives a transcript all the same, without numbers that are none."""
    who = recognizer(family, window=WindowConfig(4.0, 1.0))
    noise = np.random.default_rng(0).standard_normal(16_000 * 12).astype(np.float32)
    for samples in (np.zeros(200, np.float32), np.zeros(16_000 * 12, np.float32), noise, noise[:5]):
        found = who.transcribe(samples)
        assert found.duration == len(samples) / 16_000
        assert all(math.isfinite(word.confidence or 0) for word in found.words)
        for name in ("to_srt", "to_vtt", "to_textgrid", "to_ctm", "to_audacity"):
            assert isinstance(getattr(found, name)(), str)


def test_six_channels_at_any_rate(tmp_path: Path) -> None:
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    sound = tone(13.0, 3, 48_000)
    soundfile.write(tmp_path / "one.wav", sound, 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "six.wav", np.stack([sound] * 6, 1), 48_000, subtype="FLOAT")
    one, six = who.transcribe([tmp_path / "one.wav", tmp_path / "six.wav"])
    assert one.text == six.text and one.text


def test_windows_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match=r"windows of 0\.1 s"):
        Recognizer(recognizer("base").model, ALPHABET, settings=Settings(windows=WindowConfig(0.1)))


def chunks(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(samples), size):
        yield samples[first : first + size]


@pytest.mark.parametrize("family", ["vox", "log-mel raw"])
def test_listening(family: str) -> None:
    """What is stable never changes, and the end holds everything."""
    who = recognizer(family, layers=0)
    samples = changing(31.0)
    config = LiveConfig(step=1.0, before=3.0, after=0.5, longest=6.0)
    stable = ""
    grown = list(who.listen(chunks(samples, 3_000), config=config))
    for transcript in grown:
        assert transcript.stable.startswith(stable) and 0 <= transcript.latency < 60 and transcript.compute > 0
        stable = transcript.stable
    assert grown[-1].final and not grown[-1].tentative and grown[-1].seconds == pytest.approx(31.0)
    assert len([t for t in grown if t.stable]) > 15
    assert all(not t.final and len(t.text) >= len(t.stable) for t in grown[:-1])


def test_listening_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without norms over time, and looking no further than it waits for, a network reads live what it reads at once."""
    who = recognizer("vox", layers=0)
    who.model.encoder.config = dataclasses.replace(who.model.encoder.config, normalize_waveform=False)
    samples = changing(23.0)
    live = list(who.listen(chunks(samples, 1_600), config=LiveConfig(before=1.0, after=0.5, longest=5.0)))[-1]
    assert live.text == who.transcribe(samples).text and len(live.text) > 50


def test_listening_with_a_beam() -> None:
    """Other decoders are stable up to the last long pause."""
    who = recognizer("vox", layers=0)

    class Beam:
        def __call__(self, emissions: list[torch.Tensor]) -> list[list[Hypothesis]]:
            return GreedyDecoder()(emissions)

    who.decoder = Beam()
    grown = list(who.listen(chunks(changing(25.0), 8_000), config=LiveConfig(longest=4.0)))
    for before, after in pairwise(grown):
        assert after.stable.startswith(before.stable)
    assert len(grown[-2].stable) > 20 and grown[-1].stable.startswith(grown[-2].stable)


def test_listening_to_nothing_and_to_nonsense() -> None:
    who = recognizer("base")
    assert [t.text for t in who.listen([])] == [""]
    assert list(who.listen([np.zeros(10, np.float32)]))[-1].final
    with pytest.raises(AudioError, match="not numbers"):
        list(who.listen([np.full(100, np.nan)]))
    with pytest.raises(ConfigError, match="step"):
        list(who.listen([], config=LiveConfig(step=0.0)))


def test_a_missing_microphone_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'firstwords\[microphone\]'"):
        microphone()


def test_alignment_of_a_long_recording() -> None:
    """The text that was read is laid where it was read."""
    who = recognizer("base", window=WindowConfig(4.0, 1.0))
    samples = changing(21.0)
    said = who.transcribe(samples)
    found = who.align(samples, said.text)
    assert [word.text for word in found.words] == said.text.split()
    off = [abs(a.start - b.start) for a, b in zip(found.words, said.words, strict=True)]
    assert np.median(off) < 0.03
    with pytest.raises(AlignmentError, match="empty"):
        who.align(samples, "\n")
