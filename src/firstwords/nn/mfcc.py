"""Mel-frequency cepstra with deltas: what wav2vec-U 2.0 clusters for its auxiliary targets, as Kaldi defines them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from firstwords.nn.log_mel import HOP, WINDOW, mel_filters

BANDS, CEPSTRA, LIFTER = 23, 13, 22.0
"""Source: Kaldi's compute-mfcc-feats, as HuBERT's dump_mfcc_feature.py calls it through torchaudio."""
DELTA_WINDOW = 2
"""Frames on either side that a delta looks at. Source: torchaudio.functional.compute_deltas."""


def mfcc(samples: Tensor) -> Tensor:
    """(T, 39) cepstra, deltas and their deltas of samples (n,) at 16 kHz, a frame of 25 ms every 10 ms.

    Without dither, so that the same samples give the same numbers.
    """
    if len(samples) < WINDOW:
        return samples.new_zeros(0, 3 * CEPSTRA)
    frames = samples.float().unfold(0, WINDOW, HOP)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    window = torch.hann_window(WINDOW, periodic=False, device=samples.device).pow(0.85)  # Kaldi's "povey"
    power = torch.fft.rfft((frames - 0.97 * before) * window, n=512).abs().square()
    filters = mel_filters(BANDS, 512).to(power)
    filters[-1] = 0  # Kaldi leaves out the bin at half the sample rate
    bands = (power @ filters).clamp_min(torch.finfo(torch.float32).eps).log()
    cepstra = bands @ _cosines().to(bands)
    cepstra = cepstra * _lifter().to(bands)
    first = deltas(cepstra)
    return torch.cat([cepstra, first, deltas(first)], 1)


def deltas(values: Tensor) -> Tensor:
    """The slope of each column of (T, D) over five frames, the edges repeated."""
    padded = torch.cat([values[:1].expand(DELTA_WINDOW, -1), values, values[-1:].expand(DELTA_WINDOW, -1)])
    steps = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, device=values.device, dtype=values.dtype)
    return torch.einsum("tdk,k->td", padded.unfold(0, len(steps), 1), steps) / steps.square().sum()


def frequency_warp(factor: float) -> Tensor:
    """(CEPSTRA, CEPSTRA) float64: cepstra as column vectors to those of a voice with formants `factor` times lower.

    What was at factor x f comes to f, as after a change of a vocal tract's length; above 4.8 kHz less and less, and the
    upper end stays (Lee and Rose 1996). Cepstra are of cosines over bands, which can be read between the bands too, so
    that the warp is linear (Panchapagesan and Alwan 2006).
    """
    low, high, knee = hertz_to_mel(20.0), hertz_to_mel(8000.0), 4800 * min(1.0, 1 / factor)
    step = (high - low) / (BANDS + 1)
    centres = 700 * (torch.expm1((low + step * torch.arange(1, BANDS + 1, dtype=torch.float64)) / 1127))
    beyond = factor * knee + (8000 - factor * knee) / (8000 - knee) * (centres - knee)
    read = torch.where(centres <= knee, factor * centres, beyond)
    places = (1127 * torch.log1p(read / 700) - low) / step - 1
    lifter = _lifter().double()
    return lifter[:, None] * (_cosines(torch.arange(BANDS).double()).T @ _cosines(places)) / lifter


def hertz_to_mel(frequency: float) -> float:
    """The mel scale, 1127 ln(1 + f / 700)."""
    return 1127 * math.log1p(frequency / 700)


def _lifter() -> Tensor:
    """(CEPSTRA,) what cepstra are multiplied with."""
    return 1 + 0.5 * LIFTER * torch.sin(math.pi * torch.arange(CEPSTRA) / LIFTER)


def _cosines(places: Tensor | None = None) -> Tensor:
    """(BANDS, CEPSTRA) the orthonormal cosine transform (DCT-II), at bands or at places between them."""
    places = torch.arange(BANDS) if places is None else places
    table = torch.cos(math.pi / BANDS * (places + 0.5)[:, None] * torch.arange(CEPSTRA)) * math.sqrt(2 / BANDS)
    table[:, 0] = math.sqrt(1 / BANDS)
    return table
