"""MFCCs after Kaldi's definition, against a plain one frame at a time."""

from __future__ import annotations

import math

import numpy as np
import torch
from conftest import tone

from firstwords.nn.mfcc import CEPSTRA, deltas, frequency_warp, mfcc


def plain(samples: np.ndarray) -> np.ndarray:
    """13 cepstra of each frame in float64: Kaldi's feature-window.cc, mel-computations.cc and feature-mfcc.cc."""
    mel = lambda frequency: 1127 * math.log(1 + frequency / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(8000), 25)
    rows = []
    for first in range(0, len(samples) - 400 + 1, 160):
        frame = samples[first : first + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.append(frame[0] - 0.97 * frame[0], frame[1:] - 0.97 * frame[:-1])
        window = [(0.5 - 0.5 * math.cos(2 * math.pi * n / 399)) ** 0.85 for n in range(400)]
        power = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        bands = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            bins = [mel(k * 31.25) for k in range(256)]
            heights = [max(0.0, min((k - left) / (centre - left), (right - k) / (right - centre))) for k in bins]
            bands.append(math.log(max(float(np.dot(power[:256], heights)), float(np.finfo(np.float32).eps))))
        row = []
        for k in range(13):
            scale = math.sqrt((1 if k == 0 else 2) / 23)
            value = scale * sum(band * math.cos(math.pi / 23 * (n + 0.5) * k) for n, band in enumerate(bands))
            row.append(value * (1 + 11 * math.sin(math.pi * k / 22)))
        rows.append(row)
    return np.array(rows)


def test_cepstra_equal_the_plain_ones() -> None:
    samples = tone(0.1, seed=2)
    found = mfcc(torch.from_numpy(samples))
    assert found.shape == (8, 39)
    np.testing.assert_allclose(found[:, :13].numpy(), plain(samples), rtol=0, atol=2e-2)


def test_deltas_are_slopes_and_edges_are_repeated() -> None:
    line = 3 * torch.arange(9.0)[:, None] + torch.tensor([[1.0, -2.0]])
    found = deltas(line)
    assert torch.allclose(found[2:-2], torch.full((5, 2), 3.0))
    assert torch.allclose(found[0], torch.full((2,), 3 * (1 * 1 + 2 * 2) / 10))
    assert mfcc(torch.zeros(399)).shape == (0, 39)


def vowel(formants: tuple[float, ...]) -> torch.Tensor:
    """A second of noise with broad formants, in Hz."""
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    frequency = torch.fft.rfftfreq(16_000, 1 / 16_000)
    mel = 1127 * torch.log1p(frequency / 700)
    level = sum(2.5 * torch.exp(-0.5 * ((mel - 1127 * math.log1p(f / 700)) / 250) ** 2) for f in formants)
    return torch.fft.irfft(torch.fft.rfft(noise) * torch.exp(torch.as_tensor(level))) * 0.1


def test_a_warp_brings_back_the_formants_of_another_voice() -> None:
    """Of a vocal tract an eighth shorter, and longer: most of the difference goes, and a wrong warp makes it worse."""
    here = mfcc(vowel((500, 1500, 2500)))[:, 1:CEPSTRA].mean(0).double()
    for factor in (0.88, 1.12):
        there = mfcc(vowel((500 * factor, 1500 * factor, 2500 * factor)))[:, :CEPSTRA].mean(0).double()
        away = {one: float(((frequency_warp(one) @ there)[1:] - here).norm()) for one in (1 / factor, 1.0, factor)}
        assert away[factor] < 0.4 * away[1.0] < away[1 / factor], (factor, away)


def test_a_warp_of_one_changes_nothing() -> None:
    torch.testing.assert_close(frequency_warp(1.0), torch.eye(CEPSTRA, dtype=torch.float64), atol=1e-6, rtol=0)
