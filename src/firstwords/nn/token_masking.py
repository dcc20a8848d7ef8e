"""Masked spans of tokens, some of them kept or replaced instead (BERT; vq-wav2vec section 4; fairseq masked_lm)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firstwords.config import check_shares
from firstwords.errors import ConfigError


@dataclass(frozen=True)
class TokenMaskConfig:
    """Which tokens are hidden, and what stands in their place."""

    probability: float = 0.5
    """Span starts per token times span length: p = 0.05 times 10; overlaps leave 40 % hidden. Source: section 5.2."""
    length: int = 10
    """Tokens of a span. Source: vq-wav2vec section 5.2."""
    deviation: float = 0.0
    """Standard deviation of span lengths, which are then normal and rounded. Source: fairseq (mask_stdev), off."""
    kept: float = 0.1
    """Share of the hidden tokens that stay as they are. Source: BERT."""
    random: float = 0.1
    """Share of the hidden tokens in whose place a random one stands. Source: BERT."""

    def __post_init__(self) -> None:
        if self.length < 1 or not min(self.probability, self.deviation) >= 0:
            raise ConfigError(
                "mask: length must be at least 1, probability and deviation not below 0; "
                f"found {self.length}; {self.probability}, {self.deviation}"
            )
        check_shares("mask", self, "kept", "random")
        if self.kept + self.random > 1:
            raise ConfigError(f"mask: kept and random are shares, 1 together at most; found {self.kept}, {self.random}")


def draw_token_mask(size: int, config: TokenMaskConfig, random: np.random.Generator) -> np.ndarray:
    """(size,) bool, True where a span lies.

    Starts are drawn without replacement from all positions; spans may overlap, and end with the sequence at the latest.
    Their number is rounded up or down at random, so that its mean is exact.
    """
    count = min(int(config.probability * size / config.length + random.random()), size)
    starts = random.choice(size, count, replace=False)
    lengths = np.full(count, config.length)
    if config.deviation:
        lengths = np.maximum(np.rint(random.normal(config.length, config.deviation, count)), 0).astype(np.int64)
    edges = np.zeros(size + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, np.minimum(starts + lengths, size), -1)
    return np.cumsum(edges[:-1]) > 0


def replace_tokens(
    tokens: np.ndarray,
    mask: np.ndarray,
    config: TokenMaskConfig,
    ordinary: range,
    mark: int,
    random: np.random.Generator,
) -> np.ndarray:
    """What the network reads: (T,) tokens, most of the hidden ones replaced by `mark`, some by any `ordinary` one."""
    draws = random.random(len(tokens))
    anything = random.integers(ordinary.start, ordinary.stop, len(tokens))
    shown = np.where(mask & (draws >= config.kept + config.random), mark, tokens)
    return np.where(mask & (draws >= config.kept) & (draws < config.kept + config.random), anything, shown)
