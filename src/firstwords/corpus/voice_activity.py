"""Where speech is: pauses found by energy over the noise of their surroundings, without a model.

wav2vec-U hears recordings without their silences, on every split alike; it was made with rVAD (Tan et al. 2020), whose
idea this follows: energy relative to a noise floor that moves with the recording, and spectral flatness to tell a room
from a voice. Pauses matter here that are far shorter than those between sentences, which detectors of utterances
(Silero's, say) pass over: docs/unsupervised.md has both measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firstwords.audio import SAMPLE_RATE
from firstwords.errors import ConfigError
from firstwords.nn.log_mel import mel_filters

WINDOW, HOP = 400, 160
"""Samples: 25 and 10 ms, as in rVAD."""
_FFT = 512
BANDS, OUTSTANDING = 20, 5
"""Bands, evenly spaced in mel, and how many of them a sound must stand out in."""
FLOOR = 10
_BLOCK = 2000
"""Windows that are looked at together."""


@dataclass(frozen=True)
class VoiceConfig:
    """What counts as silence."""

    above_noise: float = 7.0
    """Decibels above the noise floor that a voice has at least. Ours, like all of these."""
    share: float = 0.3
    """A voice also has this share of the way from the noise floor to the loudest speech, both in decibels."""
    floor_seconds: float = 6.0
    """The noise floor is looked for in so much audio around."""
    least_voice: float = 0.05
    """Seconds; what is shorter is a click."""
    least_pause: float = 0.08
    """Seconds; what is shorter belongs to a sound (the closure of a stop lasts some 50 to 80 ms)."""
    margin: float = 0.02
    """Seconds kept before and after a voice."""
    contrast: float = 9.0
    """Decibels between loud and quiet below which a recording is all of one kind, ..."""
    flatness: float = 0.3
    """... of noise where its spectra are flatter than this (1 is white), else all of voice."""

    def check(self) -> None:
        """Raises ConfigError."""
        if not (0 <= self.share < 1 and 0 < self.flatness < 1 and self.floor_seconds > 0):
            raise ConfigError(
                f"voice detection: share {self.share}, flatness {self.flatness}, floor_seconds {self.floor_seconds}; "
                "the first two lie between 0 and 1, the third is positive"
            )


def find_voice(samples: np.ndarray, config: VoiceConfig | None = None) -> list[tuple[int, int]]:
    """Stretches (first sample, sample after the last) of a recording in which someone speaks; none in a silent one.

    Args:
        samples: (samples,) float, at 16 kHz.
    """
    config = config or VoiceConfig()
    config.check()
    if len(samples) < WINDOW or float(np.abs(samples - samples.mean()).max()) <= 2 / 32768:
        return []
    bands, flatness = _frames(samples)
    above = _above_floor(bands, round(config.floor_seconds * SAMPLE_RATE / HOP))
    loud = float(np.percentile(above, 95))
    if loud < config.contrast:
        return [] if np.median(flatness) > config.flatness else [(0, len(samples))]
    voiced = above > max(config.above_noise, config.share * loud)
    per_second = SAMPLE_RATE / HOP
    voiced = _without_short(voiced, round(config.least_pause * per_second), False)
    voiced = _without_short(voiced, round(config.least_voice * per_second), True)
    margin = round(config.margin * SAMPLE_RATE)
    middle = (WINDOW - HOP) // 2  # a frame speaks for the hop in the middle of its window
    found: list[tuple[int, int]] = []
    for low, high in runs(voiced):
        first = max(0, low * HOP + middle - margin) if low else 0
        last = min(len(samples), high * HOP + middle + margin) if high < len(voiced) else len(samples)
        if found and first <= found[-1][1]:
            first = found.pop()[0]
        found.append((first, last))
    return found


def without_silence(samples: np.ndarray, config: VoiceConfig | None = None) -> np.ndarray:
    """The stretches of `find_voice` joined; nothing where no voice was found."""
    stretches = find_voice(samples, config)
    return np.concatenate([samples[low:high] for low, high in stretches]) if stretches else samples[:0]


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of True in (n,): first place, and the place after the last."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def _frames(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decibels in bands (T, BANDS), and spectral flatness (T,): geometric over arithmetic mean power."""
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1]).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::HOP]
    shape = np.hanning(WINDOW).astype(np.float32)
    filters = mel_filters(BANDS, _FFT, low=100.0).numpy()
    bands, flatnesses = [], []
    for first in range(0, len(windows), _BLOCK):
        power = np.abs(np.fft.rfft(windows[first : first + _BLOCK] * shape, _FFT)) ** 2 + 1e-10
        bands.append(power @ filters)
        flatnesses.append(np.exp(np.log(power[:, 4:]).mean(1)) / power[:, 4:].mean(1))
    energies = np.concatenate(bands)
    smooth = (
        np.pad(energies, ((1, 1), (0, 0)), "edge")[:-2] + energies + np.pad(energies, ((0, 2), (0, 0)), "edge")[2:]
    ) / 3
    return 10 * np.log10(smooth + 1e-10), np.concatenate(flatnesses)


def _above_floor(bands: np.ndarray, width: int) -> np.ndarray:
    """(T,) decibels over the noise floor, the mean of the bands that stand out most.

    A band's floor is the 10th percentile of `width` frames around. A vowel fills a few bands only, and so does s.
    """
    step = max(1, width // 4)
    centres = np.arange(0, len(bands) + step, step)
    values = np.stack(
        [np.percentile(bands[max(0, c - width // 2) : max(c + width // 2, width // 2)], FLOOR, axis=0) for c in centres]
    )
    places = np.arange(len(bands))
    floor = np.stack([np.interp(places, centres, band) for band in values.T], axis=1)
    return np.sort(bands - floor, axis=1)[:, -OUTSTANDING:].mean(1)


def _without_short(flags: np.ndarray, least: int, value: bool) -> np.ndarray:
    """Runs of `value` shorter than `least` turned; those at the edges stay."""
    flags = flags.copy()
    for low, high in runs(flags == value):
        if high - low < least and low > 0 and high < len(flags):
            flags[low:high] = not value
    return flags
