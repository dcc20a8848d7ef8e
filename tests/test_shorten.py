"""Shorten: what a plain writer of the format packs comes back, sample for sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shorten_writer import pack, sphere

from firstwords.audio import probe, read_audio, read_blocks, read_native
from firstwords.errors import AudioError
from firstwords.shorten import unpack


def speech(frames: int = 1000, channels: int = 1, level: int = 0) -> np.ndarray:
    random = np.random.default_rng(frames + channels)
    walk = np.cumsum(random.normal(0, 60, (frames, channels)), 0)
    return (walk - walk.mean(0) + level + random.normal(0, 20, (frames, channels))).astype(np.int16)


@pytest.mark.parametrize("command", [0, 1, 2, 3, [40, -10], [50, -24, 8, 3]], ids=str)
@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_prediction(command: object, version: int) -> None:
    samples = speech(level=-700)
    assert np.array_equal(unpack(pack(samples, [command], version=version)), samples)


def test_all_of_it_together() -> None:
    """Two channels, zeros, shifts, a mean far from 0, a short block at the end, commands mixed."""
    samples = speech(1111, 2, level=5000)
    samples[:64] = 0
    commands = ["zero", *[0, 1, 2, [30, -2], 3, 0] * 3]
    assert np.array_equal(unpack(pack(samples, commands)), samples)
    assert np.array_equal(unpack(pack(samples, commands, means=0)), samples)
    even = speech(640, level=900) & ~np.int16(3)
    assert np.array_equal(unpack(pack(even, [0, ("shift", 2), 0, 1, [20]])), even)


def test_blocks_larger_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstwords.shorten.WINDOW_BITS", 64)
    samples = speech(700)
    assert np.array_equal(unpack(pack(samples, [1, 0])), samples)


def test_sphere_files_are_read_like_others(tmp_path: Path) -> None:
    samples = speech(4000, 2)
    path = tmp_path / "a.wv1"
    path.write_bytes(sphere(samples, pack(samples, [1])))
    assert (found := probe(path)).frames == 4000 and (found.channels, found.sample_rate) == (2, 16_000)
    native, rate = read_native(path)
    assert rate == 16_000 and np.array_equal(native, samples / np.float32(32768))
    assert np.array_equal(read_audio(path.read_bytes(), 0.1, 0.05), native[1600:2400].mean(1))
    assert np.array_equal(np.concatenate(list(read_blocks(path, block_seconds=0.1))), read_audio(path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file: file[:2000], "a.wv1: cut short"),
        (lambda file: file[:1024], "a.wv1: no shorten data"),
        (lambda file: file[:1028] + b"\x09" + file[1029:], "a.wv1: shorten version 9"),
        (lambda file: file.replace(b"count -i 1000", b"count -i 1064"), "a.wv1: cut short, 1000 of 1064 samples"),
        (lambda file: file.replace(b"-s26 pcm,", b"-s27 ulaw,"), r"a.wv1: .*packed \(ulaw.*sph2pipe"),
        (lambda file: file.replace(b"sample_rate -i 16000", b"sample_rate -i      "), "a.wv1: .*sample_rate"),
    ],
    ids=["short", "nothing", "version", "count", "telephone", "rate"],
)
def test_broken_files_are_told(tmp_path: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    samples = speech()
    path = tmp_path / "a.wv1"
    path.write_bytes(change(sphere(samples, pack(samples, [1]))))
    with pytest.raises(AudioError, match=says):
        read_audio(path)


def test_damaged_data_are_refused_or_read() -> None:
    """Damaged streams end in an AudioError, never in another."""
    packed = bytearray(pack(speech(), [0, 1, 2, [40, -10]]))
    random = np.random.default_rng(5)
    for _ in range(100):
        damaged = bytearray(packed)
        for place in random.integers(5, len(packed), 4):
            damaged[place] = random.integers(256)
        try:
            assert unpack(bytes(damaged)).dtype == np.int16
        except AudioError:
            pass
