"""Scaled dot-product attention, with dropout that is as cheap on a CPU as elsewhere."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.nn.dropout import kept, scale


def attention(query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k' / sqrt(d)) v for (B, H, T, d) each.

    Args:
        query, key, value: (B, H, T, d).
        attend: (B, 1, 1, T) bool, True at frames that may be looked at, or (B, H, T, T) added to the scores; None
            means all.
        dropout: on the attention probabilities. torch's fused attention has none on a CPU and falls back to a slow
            form; there ours goes head by head instead, where nothing is added to the scores.
    """
    if dropout == 0 or query.device.type != "cpu" or (attend is not None and attend.dtype != torch.bool):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=attend, dropout_p=dropout)
    seed = int(torch.randint(2**62, ()))
    return _DroppedAttention.apply(query, key, value, attend, dropout, seed)


class _DroppedAttention(torch.autograd.Function):
    """One head of one utterance at a time, so that its (T, T) probabilities stay in the cache.

    Nothing of that size is kept for the way back: probabilities are computed again, masks drawn again from the seed.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None, dropout: float, seed: int
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, attend)
        ctx.dropout, ctx.seed = dropout, seed
        generator = torch.Generator().manual_seed(seed)
        batch, heads, frames, _ = query.shape
        mixed = torch.empty_like(query)
        for b in range(batch):
            hidden = None if attend is None else ~attend[b, 0]
            for h in range(heads):
                probabilities = _probabilities(query[b, h], key[b, h], hidden)
                probabilities *= kept((frames, frames), dropout, generator)
                mixed[b, h] = probabilities.to(value.dtype) @ value[b, h]
        return mixed.mul_(scale(dropout))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attend = ctx.saved_tensors
        generator = torch.Generator().manual_seed(ctx.seed)
        batch, heads, frames, width = query.shape
        query_gradient, key_gradient, value_gradient = (torch.empty_like(part) for part in (query, key, value))
        gradient = gradient * scale(ctx.dropout)
        for b in range(batch):
            hidden = None if attend is None else ~attend[b, 0]
            for h in range(heads):
                probabilities = _probabilities(query[b, h], key[b, h], hidden)
                mask = kept((frames, frames), ctx.dropout, generator)
                value_gradient[b, h] = (probabilities * mask).to(value.dtype).t() @ gradient[b, h]
                slopes = (gradient[b, h] @ value[b, h].t()).float() * mask
                slopes -= (slopes * probabilities).sum(-1, keepdim=True)
                slopes *= probabilities
                slopes = slopes.to(query.dtype)
                query_gradient[b, h] = slopes @ key[b, h]
                key_gradient[b, h] = slopes.t() @ query[b, h]
        return query_gradient.mul_(width**-0.5), key_gradient.mul_(width**-0.5), value_gradient, None, None, None


def _probabilities(query: Tensor, key: Tensor, hidden: Tensor | None) -> Tensor:
    """(T, T) float32 of one head: queries and keys (T, d), hidden (1, T) bool."""
    scores = ((query * query.shape[1] ** -0.5) @ key.t()).float()
    if hidden is not None:
        scores.masked_fill_(hidden, -torch.inf)
    return torch.softmax(scores, -1)
