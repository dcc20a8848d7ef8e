"""Conformer blocks (Gulati et al. 2020, section 2): attention and convolution between two halves of a feed-forward.

As wav2vec 2.0 has them in Hugging Face's Wav2Vec2-Conformer. No position convolution stands before them: frames know
where they are by relative or rotary positions in each block's attention, and by the convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError
from firstwords.nn.adapters import Adapter, LowRank
from firstwords.nn.attention import attention
from firstwords.nn.batch_norm import BatchNorm
from firstwords.nn.dropout import dropout

if TYPE_CHECKING:  # it has a ConformerConfig inside
    from firstwords.nn.transformer import TransformerConfig


@dataclass(frozen=True)
class ConformerConfig:
    """What Conformer blocks have beyond the numbers of a Transformer."""

    positions: Literal["relative", "rotary", "none"] = "relative"
    """How attention tells frames apart: "relative" as in Transformer-XL, "rotary" turns queries and keys. Source: the
    released rel-pos and rope models."""
    kernel: int = 31
    """Frames that the depthwise convolution sees; odd. Source: the released models."""
    activation: Literal["swish", "gelu"] = "swish"
    """In feed-forwards and after the batch norm. Source: Conformer sections 2.2 and 2.3."""
    rotary_base: int = 10000
    """How many times slower than the fastest the slowest rotation nearly is. Source: the released rope models."""

    def check(self, dim: int, heads: int) -> None:
        """Raises ConfigError where blocks of width `dim` with so many heads cannot have these numbers."""
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"transformer: conformer.kernel must be odd and above 0, found {self.kernel}")
        if self.positions == "relative" and dim % 2:
            raise ConfigError(f"transformer: relative positions need an even dim, found {dim}")
        if self.positions == "rotary" and (dim // heads) % 2:
            raise ConfigError(
                f"transformer: rotary positions need heads of an even width, found {dim} / {heads} = {dim // heads}"
            )
        if self.rotary_base <= 0:
            raise ConfigError(f"transformer: conformer.rotary_base must be above 0, found {self.rotary_base}")

    def table(self, x: Tensor, heads: int) -> Tensor | None:
        """What all blocks share for inputs x (B, T, D): sinusoids of distances (2 T, D), turns (2, T, D / H), or None.

        The distances go from T - 1 (the key comes T - 1 frames before the query) down to -T; cosines and sines of the
        turns lie one above the other. Computed in float32, whatever x is.
        """
        _, frames, dim = x.shape
        if self.positions == "relative":
            steps = torch.arange(frames - 1, -frames - 1, -1, device=x.device)
            angles = steps[:, None] * _rates(dim, 10000.0, x.device)
            return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(x.dtype)
        if self.positions == "rotary":
            angles = torch.arange(frames, device=x.device)[:, None] * _rates(dim // heads, self.rotary_base, x.device)
            return torch.stack([angles.cos(), angles.sin()]).repeat(1, 1, 2).to(x.dtype)
        return None


def _rates(width: int, base: float, device: torch.device) -> Tensor:
    """Radians a frame, (width / 2,), from 1 down to nearly 1 / base."""
    return torch.exp(torch.arange(0, width, 2, device=device).float() * (-math.log(base) / width))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual, and a norm.

    (B, T, D) to (B, T, D). Dropout is alike at the end of each part.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.first = FeedForward(config)
        self.attention = SelfAttention(config)
        self.convolution = ConvolutionModule(config)
        self.second = FeedForward(config)
        self.norm = nn.LayerNorm(config.dim)
        self.adapter = Adapter(config.dim, config.adapter_dim) if config.adapter_dim else None

    def forward(self, x: Tensor, attend: Tensor | None, positions: Tensor | None = None) -> Tensor:
        """`attend` (B, 1, 1, T) is True at valid frames; None means all. `positions`: see `ConformerConfig.table`."""
        valid = None if attend is None else attend[:, 0, 0, :, None]
        x = x + 0.5 * self._dropped(self.first(x))
        x = x + self._dropped(self.attention(x, attend, positions))
        x = x + self._dropped(self.convolution(x, valid))
        x = x + 0.5 * self._dropped(self.second(x))
        x = self.norm(x)
        return x if self.adapter is None else self.adapter(x)

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)


class FeedForward(nn.Module):
    """Norm, wider layer, activation, and back (section 2.3); (B, T, D) to (B, T, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.dim)
        self.inward = nn.Linear(config.dim, config.feed_forward_dim)
        self.outward = nn.Linear(config.feed_forward_dim, config.dim)
        _small_start(self.inward, self.outward)

    def forward(self, x: Tensor) -> Tensor:
        inner = _activated(self.inward(self.norm(x)), self.config)
        return self.outward(dropout(inner, self.config.activation_dropout, self.training))


class SelfAttention(nn.Module):
    """Norm and attention with relative or rotary positions (section 2.1); (B, T, D) to (B, T, D).

    Relative (Dai et al. 2019, section 3.3): a query q looks at a key k that comes r frames before it with the score
    (q + u) k + (q + v) W s(r), over the root of the head's width; s(r) are sinusoids, u and v learnt, one for each
    head. Rotary (Su et al. 2021): pairs of channels turn by an angle that grows with time. They turn here before
    queries and keys are projected from them, as the released models have it; values are made of what did not turn.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.dim)
        self.attention_inputs = nn.Linear(config.dim, 3 * config.dim)
        self.attention_output = nn.Linear(config.dim, config.dim)
        self.low_rank = LowRank(config.dim, config.low_rank) if config.low_rank else None
        _small_start(self.attention_inputs, self.attention_output)
        if config.conformer.positions == "relative":
            self.distances = nn.Linear(config.dim, config.dim, bias=False)
            self.content_bias = nn.Parameter(torch.empty(config.heads, config.dim // config.heads))
            self.distance_bias = nn.Parameter(torch.empty(config.heads, config.dim // config.heads))
            nn.init.normal_(self.distances.weight, std=0.02)
            nn.init.xavier_uniform_(self.content_bias)
            nn.init.xavier_uniform_(self.distance_bias)

    def forward(self, x: Tensor, attend: Tensor | None, positions: Tensor | None) -> Tensor:
        """`attend` (B, 1, 1, T) is True at frames that may be looked at. `positions`: see `ConformerConfig.table`."""
        x = self.norm(x)
        query, key, value = (
            part.unflatten(2, (self.config.heads, -1)).transpose(1, 2) for part in self.parts(x, positions)
        )
        if self.config.conformer.positions == "relative" and positions is not None:
            attend = self._by_distance(query, positions, attend)
            query = query + self.content_bias[:, None].to(query.dtype)
        dropped = self.config.attention_dropout if self.training else 0.0
        mixed = attention(query, key, value, attend, dropped)
        return self.attention_output(mixed.transpose(1, 2).flatten(2))

    def parts(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, ...]:
        """Query, key and value, (B, T, D) each, of x (B, T, D) after the norm."""
        if self.config.conformer.positions != "rotary" or positions is None:
            return self._projected(x).chunk(3, dim=2)
        dim = self.config.dim
        turned = _turned(x.unflatten(2, (self.config.heads, -1)), positions).flatten(2)
        return *self._projected(turned, 0, 2 * dim).chunk(2, dim=2), self._projected(x, 2 * dim)

    def _projected(self, x: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """From `begin` to `end` of query, key and value side by side (B, T, 3 D)."""
        inputs = self.attention_inputs
        projected = F.linear(x, inputs.weight[begin:end], inputs.bias[begin:end])
        return projected if self.low_rank is None else projected + self.low_rank(x)[..., begin:end]

    def _by_distance(self, query: Tensor, positions: Tensor, attend: Tensor | None) -> Tensor:
        """What is added to the scores, (B, H, T, T), of queries (B, H, T, d) and sinusoids (2 T, D)."""
        frames = query.shape[2]
        distances = self.distances(positions).unflatten(1, (self.config.heads, -1)).permute(1, 2, 0)
        scores = (query + self.distance_bias[:, None].to(query.dtype)) @ distances  # (B, H, T, 2 T), by distance
        # Each query's keys begin one column before those of the query above it: rows of 2 T - 1, from its first key on.
        begin, width = frames - 1, 2 * frames - 1
        by_key = scores.flatten(2)[..., begin : begin + frames * width].unflatten(2, (frames, width))[..., :frames]
        by_key = by_key * query.shape[3] ** -0.5
        return by_key if attend is None else by_key.masked_fill(~attend, -math.inf)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """x (B, T, H, d) turned by (2, T, d), cosines above sines: channel i together with channel i + d / 2."""
    cosines, sines = turns[:, :, None]
    front, back = x.chunk(2, dim=3)
    return x * cosines + torch.cat([-back, front], dim=3) * sines


class ConvolutionModule(nn.Module):
    """Norm, gate, depthwise convolution over time, batch norm (section 2.2); (B, T, D) to (B, T, D).

    What lies beyond an utterance's end is 0 to the convolution, as if the utterance were alone.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        kernel = config.conformer.kernel
        self.norm = nn.LayerNorm(config.dim)
        self.inward = nn.Linear(config.dim, 2 * config.dim, bias=False)
        self.depthwise = nn.Conv1d(config.dim, config.dim, kernel, padding=kernel // 2, groups=config.dim, bias=False)
        self.batch_norm = BatchNorm(config.dim)
        self.outward = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """`valid` (B, T, 1) is True at valid frames; None means all."""
        gated = F.glu(self.inward(self.norm(x)), dim=2)
        if valid is not None:
            gated = gated * valid
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2).contiguous()  # exporters stumble over its strides
        return self.outward(_activated(self.batch_norm(mixed, valid), self.config))


def _activated(x: Tensor, config: TransformerConfig) -> Tensor:
    return F.silu(x) if config.conformer.activation == "swish" else F.gelu(x)


def _small_start(*linears: nn.Linear) -> None:
    """As in a Transformer's blocks."""
    for linear in linears:
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
