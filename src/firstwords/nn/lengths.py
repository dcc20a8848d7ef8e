"""Utterances of different lengths in one padded batch."""

from __future__ import annotations

import torch
from torch import Tensor


def normalize_waveform(waveforms: Tensor, lengths: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Zero mean and unit (population) variance per utterance; what lies beyond an utterance's end becomes 0.

    Args:
        waveforms: (B, samples) or (samples,).
        lengths: (B,) valid samples; None means all.
        epsilon: added to the variance: 1e-5 in fairseq's models, 1e-7 in Hugging Face's feature extractor.
    """
    valid = torch.ones_like(waveforms) if lengths is None else length_mask(lengths, waveforms.shape[-1]).to(waveforms)
    count = valid.sum(-1, keepdim=True)
    centred = (waveforms - (waveforms * valid).sum(-1, keepdim=True) / count) * valid
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred * torch.rsqrt(variance + epsilon)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths to a (B, size) mask, True inside."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
