"""WavLM's gated relative position bias (Chen et al. 2021, section III.B): how far apart two frames are, in attention.

One table of distances serves all blocks; each block gates it by the content of the frame that looks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RelativePositions(nn.Module):
    """A learnt bias for each distance and head: small distances one by one, larger ones in logarithmic buckets."""

    def __init__(self, heads: int, buckets: int, distance: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.distance = distance
        self.table = nn.Parameter(torch.randn(buckets, heads))

    def forward(self, frames: int) -> Tensor:
        """The bias (H, T, T) of key frame (last axis) for query frame."""
        steps = torch.arange(1 - frames, frames, device=self.table.device)
        by_distance = self.table[self._bucket(steps)].T  # (H, 2T - 1): T rows of it, each shifted by one, are the bias
        places = torch.arange(frames, device=steps.device)
        return by_distance[:, places[None, :] - places[:, None] + frames - 1]

    def _bucket(self, steps: Tensor) -> Tensor:
        """Half of the buckets for keys that come later; in each half the first half counts single frames."""
        half = self.buckets // 2
        exact = half // 2
        far = steps.abs()
        scale = (half - exact) / math.log(self.distance / exact)
        large = (exact + torch.log(far.clamp_min(1).float() / exact) * scale).long().clamp_max(half - 1)
        return (steps > 0).long() * half + torch.where(far < exact, far, large)


class PositionGate(nn.Module):
    """One block's gate: weakens or strengthens the bias for each frame and head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(dim // heads, 8)
        self.scale = nn.Parameter(torch.ones(heads))

    def forward(self, x: Tensor, bias: Tensor, attend: Tensor | None) -> Tensor:
        """What is added to attention's scores, (B, H, T, T).

        Args:
            x: the attention's input (B, T, D).
            bias: (H, T, T).
            attend: (B, 1, 1, T), True at frames that may be looked at; None means all.
        """
        by_head = x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        update, reset = self.projection(by_head).unflatten(-1, (2, 4)).sum(-1).sigmoid().unbind(-1)
        gate = update * (reset * self.scale[:, None] - 1) + 2
        gated = (gate[..., None] * bias).to(x.dtype)
        return gated if attend is None else gated.masked_fill(~attend, -math.inf)
