"""Recordings of any format, rate and channel count come in as mono 16 kHz; broken ones are told from short ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone, write_tone

from firstwords.audio import probe, read_audio
from firstwords.errors import AudioError

FORMATS = {
    "wav": {},
    "flac": {},
    "mp3": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}


def slow_sound(seconds: float, rate: int) -> np.ndarray:
    """Two sines that every rate and codec carries, the same at each rate; (samples,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("ending", FORMATS)
def test_any_format_rate_and_channels_become_16_khz_mono(tmp_path: Path, ending: str, rate: int) -> None:
    if ending == "opus" and rate == 44_100:
        rate = 24_000  # Opus has no 44.1 kHz
    sound = slow_sound(1.0, rate)
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, np.stack([sound * 1.5, sound * 0.5], axis=1), rate, **FORMATS[ending])
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) <= 2
    inner = slice(1000, 15_000)
    assert np.corrcoef(samples[inner], slow_sound(1.0, 16_000)[inner])[0, 1] > 0.99
    assert np.abs(samples[inner]).max() == pytest.approx(0.5, abs=0.06)
    assert np.array_equal(read_audio(path.read_bytes()), samples)


def test_16_bit_samples_come_back_exactly(tmp_path: Path) -> None:
    values = np.arange(-32768, 32768, 7, dtype=np.int16)
    soundfile.write(tmp_path / "a.flac", values, 16_000)
    assert np.array_equal(read_audio(tmp_path / "a.flac") * 32768, values)


def test_a_stretch_is_that_stretch(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.flac", 2.0)
    assert np.array_equal(read_audio(path, start=0.5, duration=0.25), read_audio(path)[8000:12_000])
    with pytest.raises(AudioError, match=r"no samples after 2.50 s"):
        read_audio(path, start=2.5)


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg", "opus", "aiff"])
def test_a_truncated_file_is_told(tmp_path: Path, ending: str) -> None:
    path = write_tone(tmp_path / f"a.{ending}", 3.0, **FORMATS.get(ending, {}))
    assert len(read_audio(path)) == 48_000
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=rf"a\.{ending}: (cut short|broken recording)"):
        read_audio(path)


def test_a_stretch_before_the_cut_is_still_good(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", 3.0)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[:48_044])
    assert np.array_equal(read_audio(path, duration=1.0), whole[:16_000])
    assert probe(path).cut_short


def test_a_wav_from_a_pipe_is_not_cut_short(tmp_path: Path) -> None:
    content = bytearray(write_tone(tmp_path / "a.wav", 1.0).read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert len(read_audio(bytes(content))) == 16_000


def test_an_mp3_without_a_length_is_not_cut_short(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(32_000, np.float32), tone(6.0), np.zeros(32_000, np.float32)])
    soundfile.write(tmp_path / "a.mp3", sound, 16_000, compression_level=0.5, bitrate_mode="VARIABLE")
    content = (tmp_path / "a.mp3").read_bytes()
    bare = content[content.find(content[:2], 4) :]  # without its first frame, which holds the length
    (tmp_path / "a.mp3").write_bytes(bare)
    assert probe(tmp_path / "a.mp3").frames > 1.1 * len(sound)  # what the first frames' bit rate promises
    assert len(read_audio(tmp_path / "a.mp3")) == pytest.approx(len(sound), abs=3000)


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not sound")
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16_000)
    bad = tone(0.1)
    bad[[5, 7]] = np.nan, np.inf
    soundfile.write(tmp_path / "nan.wav", bad, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", tone(0.1)[:1], 48_000)
    for name, said in {
        "gone.wav": "no such file",
        "empty.wav": "the file is empty",
        "text.wav": "Format not recognised",
        "none.wav": "no samples",
        "nan.wav": "2 samples are not numbers",
        "one.wav": "no samples left after resampling from 48000 Hz",
    }.items():
        with pytest.raises(AudioError, match=rf"{name}: .*{said}"):
            read_audio(tmp_path / name)
