"""Group norm with one group: mean and variance over channels and time together (wav2vec section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from firstwords.nn.lengths import length_mask


def group_norm(x: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The norm of (B, T, C) over all channels of the valid frames, whatever lies beside an utterance.

    Args:
        x: (B, T, C).
        lengths: (B,) valid frames, which alone are averaged; the others are scaled like them.
        norm: its weight and bias (C,), if any, and epsilon; one group.

    Returns:
        (B, T, C) of the type of `x`, computed in float32: 512 channels of 900 frames are too many for a sum of halves.
    """
    with torch.autocast(x.device.type, enabled=False):
        values = x.float()
        valid = length_mask(lengths, x.shape[1])[:, :, None]
        count = (lengths * x.shape[2]).clamp(min=1)[:, None, None]
        centred = values - (values * valid).sum((1, 2), keepdim=True) / count
        variance = (centred * valid).square().sum((1, 2), keepdim=True) / count
        values = centred * torch.rsqrt(variance + norm.eps)
        if norm.affine:
            values = values * norm.weight + norm.bias
        return values.to(x.dtype)
