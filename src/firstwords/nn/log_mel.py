"""Log-mel filterbanks with the interface of the feature encoder: the baseline that nothing was learnt for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.nn.lengths import length_mask
from firstwords.nn.moments import Moments

WINDOW = 400
HOP = 160
BANDS = 80
STACKED = 2


class LogMel(nn.Module):
    """Waveforms (B, samples) to (B, T, 160): 80 log-mel bands, 25 ms windows every 10 ms, two windows to a frame.

    Stacking two windows gives the 20 ms frames of wav2vec 2.0, so that the same Transformer stands on either; with
    `stacked` 1 they are (B, T, 80), every 10 ms, as for acoustic models. Each band has zero mean and unit variance over
    the utterance's own frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, dtype: torch.dtype = torch.float32, stacked: int = STACKED) -> None:
        """`dtype`: what features come in; they are computed in float32 whatever that is."""
        super().__init__()
        self.dtype, self.stacked = dtype, stacked
        self.output_dim, self.hop = BANDS * stacked, HOP * stacked
        self.receptive_field = WINDOW + HOP * (stacked - 1)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(BANDS, 512), persistent=False)

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give."""
        return ((samples - WINDOW) // HOP + 1) // self.stacked

    def forward(self, waveforms: Tensor, lengths: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Features (B, T, 160), zero beyond `lengths` (B,) samples.

        Args:
            statistics: mean and variance (80,) of the bands over a recording of which `waveforms` are parts (see
                `Moments`); None takes each utterance's own.
        """
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            stacked = self._bands(waveforms).unflatten(1, (-1, self.stacked))
            frames = self.frames(lengths)
            valid = length_mask(frames, stacked.shape[1])[:, :, None, None]
            if statistics is None:
                count = (frames * self.stacked).clamp_min(1)[:, None, None, None]
                mean = (stacked * valid).sum((1, 2), keepdim=True) / count
                variance = ((stacked - mean) * valid).square().sum((1, 2), keepdim=True) / count
            else:
                mean, variance = (part.to(stacked) for part in statistics)
            normed = (stacked - mean) * torch.rsqrt(variance + 1e-5) * valid
            return normed.flatten(2).to(self.dtype)

    def moments(self) -> Moments:
        """Gathers `statistics` of a recording that comes in parts."""
        return Moments(self.receptive_field, self.hop, lambda samples: self._bands(samples[None])[0], products=False)

    def _bands(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, samples) to the logarithm of each band, (B, stacked T, 80)."""
        windows = waveforms.float().unfold(1, WINDOW, HOP) * self.window
        power = torch.fft.rfft(windows, n=512).abs().square()
        bands = torch.log(power @ self.filters + 1e-6)
        return bands[:, : bands.shape[1] // self.stacked * self.stacked]


def mel_filters(bands: int, size: int, low: float = 20.0, high: float = SAMPLE_RATE / 2) -> Tensor:
    """(size // 2 + 1, bands) triangular filters, evenly spaced in mel = 1127 ln(1 + f / 700), between two Hz values."""

    def mel(frequency: Tensor) -> Tensor:
        return 1127 * torch.log1p(frequency / 700)

    edges = torch.linspace(float(mel(torch.tensor(low))), float(mel(torch.tensor(high))), bands + 2)
    bins = mel(torch.arange(size // 2 + 1) * (SAMPLE_RATE / size))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)
