"""Pauses by energy over a moving floor: speech is kept, silences go, and recordings of one kind are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tone

from firstwords.corpus.voice_activity import find_voice, without_silence

RATE = 16_000


def recording(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Ten seconds with sounds at 1-3 and 5-8 s, and whether there is one, sample by sample."""
    random = np.random.default_rng(0)
    samples = noise * random.standard_normal(10 * RATE)
    sounding = np.zeros(10 * RATE, dtype=bool)
    for first, last in ((1, 3), (5, 8)):
        samples[first * RATE : last * RATE] += tone(last - first, seed=first)
        sounding[first * RATE : last * RATE] = True
    return samples.astype(np.float32), sounding


@pytest.mark.parametrize("noise", [0.0001, 0.003, 0.01])
def test_sounds_are_found_whatever_the_noise(noise: float) -> None:
    samples, sounding = recording(noise)
    found = np.zeros(len(samples), dtype=bool)
    for low, high in find_voice(samples):
        found[low:high] = True
    assert found[sounding].mean() > 0.95
    assert found[~sounding].mean() < 0.08
    assert len(without_silence(samples)) == found.sum()


def test_level_changes_nothing() -> None:
    samples, _ = recording(0.003)
    assert find_voice(samples) == find_voice(0.01 * samples)


def test_a_short_pause_within_a_word_stays_and_a_longer_one_goes() -> None:
    samples = np.concatenate([tone(2, 1), np.zeros(round(0.05 * RATE)), tone(2, 2), np.zeros(RATE // 2), tone(1, 3)])
    samples = np.concatenate([np.zeros(RATE), samples, np.zeros(RATE)]).astype(np.float32)
    samples += 0.0005 * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    assert len(find_voice(samples)) == 2


def test_silence_and_steady_noise_hold_no_voice_and_a_steady_tone_is_kept() -> None:
    random = np.random.default_rng(0)
    assert find_voice(np.zeros(3 * RATE, np.float32)) == []
    assert find_voice((0.01 * random.standard_normal(3 * RATE)).astype(np.float32)) == []
    assert find_voice(np.zeros(100, np.float32)) == []
    hum = np.sin(2 * np.pi * 220 * np.arange(3 * RATE) / RATE).astype(np.float32)
    assert find_voice(hum) == [(0, 3 * RATE)]
