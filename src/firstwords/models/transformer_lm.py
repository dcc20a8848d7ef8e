"""A Transformer language model over characters or word pieces: which symbol comes next.

Blocks with the norm first (Radford et al. 2019, GPT-2), positions by rotation of queries and keys (Su et al. 2021,
RoFormer), and one matrix for symbols going in and coming out (Press and Wolf 2017). Each position sees the last
`context` symbols, itself included, so that a text of any length has a score and the incremental step gives the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import ConfigError


@dataclass(frozen=True)
class TransformerLMConfig:
    """The network."""

    layers: int = 4
    """Blocks. Ours: small enough to train on two cores."""
    dim: int = 256
    """Width. Ours."""
    feed_forward_dim: int = 1024
    """Width inside the feed-forward part: four times the model's. Source: Vaswani et al. 2017."""
    heads: int = 4
    """Attention heads, each an even number of dimensions wide. Ours."""
    context: int = 256
    """Symbols that a position sees, itself included. Ours: most sentences are shorter."""
    dropout: float = 0.1
    """On embeddings and after each part of a block. Source: GPT-2."""


class TransformerLM(nn.Module):
    """Symbols (B, T) to logits over the next symbol (B, T, V).

    Args:
        config: sizes.
        symbols: V, with those that mark a sentence's ends and unknown characters.
    """

    def __init__(self, config: TransformerLMConfig, symbols: int) -> None:
        super().__init__()
        if config.heads < 1 or config.dim < 2 or config.dim % (2 * config.heads):
            raise ConfigError(f"model: dim {config.dim} must be an even multiple of heads ({config.heads})")
        if min(config.layers, config.feed_forward_dim, config.context) < 1:
            raise ConfigError("model: layers, feed_forward_dim and context must be at least 1")
        check_shares("model", config, "dropout")
        self.config = config
        self.embedding = nn.Embedding(symbols, config.dim)
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits of the symbol after each position; whatever stands to the right of a position changes nothing."""
        length = symbols.shape[1]
        turn = rotation(torch.arange(length, device=symbols.device), self.config.dim // self.config.heads)
        attend = None
        if length > self.config.context:
            attend = torch.ones(length, length, dtype=torch.bool, device=symbols.device).tril()
            attend = attend.triu(1 - self.config.context)
        x = F.dropout(self.embedding(symbols), self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, turn, attend)
        return F.linear(self.norm(x), self.embedding.weight)

    def step(self, symbols: Tensor, positions: Tensor, past: Past) -> tuple[Tensor, Tensor, Tensor]:
        """One more symbol of each of n texts; equals `forward` at that position.

        Args:
            symbols: (n,).
            positions: (n,) how many symbols stand before each.
            past: what the symbols before left behind.

        Returns:
            Logits (n, V), and this position's keys and values, (L, n, D) each.
        """
        turn = rotation(positions[:, None], self.config.dim // self.config.heads)
        x = self.embedding(symbols)[:, None]
        keys, values = [], []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, CausalBlock)
            earlier = past.keys[number][past.places], past.values[number][past.places]
            x, key, value = block.step(x, turn, *earlier, past.attend)
            keys.append(key)
            values.append(value)
        logits = F.linear(self.norm(x[:, 0]), self.embedding.weight)
        return logits, torch.stack(keys), torch.stack(values)


@dataclass
class Past:
    """What earlier positions of n texts left behind; texts that begin alike share it."""

    keys: Tensor
    """(L, S, D) of S positions, rotated."""
    values: Tensor
    """(L, S, D)."""
    places: Tensor
    """(n, T) which of the S a text looks at: its last context - 1 ones."""
    attend: Tensor
    """(n, T) bool: False where a text is shorter than T."""


class CausalBlock(nn.Module):
    """Self-attention to the left and feed-forward, each after a norm and beside a residual; (B, T, D) to (B, T, D)."""

    def __init__(self, config: TransformerLMConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention_inputs = nn.Linear(config.dim, 3 * config.dim)
        self.attention_output = nn.Linear(config.dim, config.dim)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.feed_forward_in = nn.Linear(config.dim, config.feed_forward_dim)
        self.feed_forward_out = nn.Linear(config.feed_forward_dim, config.dim)
        for linear in (self.attention_inputs, self.feed_forward_in):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for linear in (self.attention_output, self.feed_forward_out):  # the residual's variance stays (GPT-2)
            nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * config.layers))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, turn: Tensor, attend: Tensor | None) -> Tensor:
        """`attend` (T, T) is True where a row's position may look at a column's; None: at all to its left."""
        query, key, value = self._heads(x, turn)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attend, is_causal=attend is None)
        return self._rest(x, mixed.transpose(1, 2).flatten(2))

    def step(
        self, x: Tensor, turn: Tensor, keys: Tensor, values: Tensor, attend: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One position (n, 1, D) after `keys` and `values` (n, T, D); returns its own key and value (n, D), too."""
        count, length, dim = keys.shape
        query, key, value = self._heads(x, turn)
        split = (count, length, self.config.heads, dim // self.config.heads)
        all_keys = torch.cat([keys.view(split).transpose(1, 2), key], 2)
        all_values = torch.cat([values.view(split).transpose(1, 2), value], 2)
        mask = F.pad(attend, (0, 1), value=True)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, all_keys, all_values, attn_mask=mask)
        flat = (count, dim)
        return self._rest(x, mixed.transpose(1, 2).flatten(2)), key.reshape(flat), value.reshape(flat)

    def _heads(self, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, T, D / heads), the first two rotated."""
        batch, length, _ = x.shape
        split = self.attention_inputs(self.attention_norm(x)).view(batch, length, 3, self.config.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return rotated(query, turn), rotated(key, turn), value

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self._dropped(self.attention_output(mixed))
        inner = F.gelu(self.feed_forward_in(self.feed_forward_norm(x)))
        return x + self._dropped(self.feed_forward_out(inner))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


def rotation(positions: Tensor, dim: int) -> Tensor:
    """(..., 2, dim / 2) cosines and sines of the angles by which pairs of dimensions turn at `positions`.

    Pair i turns by position / 10000^(2i / dim) (RoFormer, equation 15).
    """
    speeds = 10_000.0 ** (-torch.arange(0, dim, 2, device=positions.device) / dim)
    angles = positions[..., None] * speeds
    return torch.stack([angles.cos(), angles.sin()], -2)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """x (B, heads, T, d) with its first half's dimensions as one coordinate of the pairs, the second half's as other.

    `turn` is (T, 2, d / 2), or (B, T, 2, d / 2) where each row has positions of its own.
    """
    if turn.dim() == 4:
        turn = turn[:, None]
    cosine, sine = turn.unbind(-2)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).type_as(x)
