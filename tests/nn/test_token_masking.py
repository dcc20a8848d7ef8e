"""Masked spans of tokens: as many as asked, clipped at the end, shown as BERT shows them."""

from __future__ import annotations

import numpy as np
import pytest

from firstwords.errors import ConfigError
from firstwords.nn.token_masking import TokenMaskConfig, draw_token_mask, replace_tokens


def test_share_and_runs() -> None:
    """p = 0.05 and spans of 10 hide about 40 % of the tokens (reference); only the last run may be short."""
    random, config = np.random.default_rng(0), TokenMaskConfig()
    masks = [draw_token_mask(500, config, random) for _ in range(200)]
    assert np.mean(masks) == pytest.approx(0.395, abs=0.01)
    assert any(mask[-1] for mask in masks)  # all positions may be starts
    for mask in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
        runs = edges[1::2] - edges[::2]
        assert (runs[:-1] >= 10).all() and (runs[-1] >= 10 or mask[-1])


def test_lengths_that_vary() -> None:
    random = np.random.default_rng(0)
    config = TokenMaskConfig(probability=0.05, deviation=3.0)
    runs = []
    for _ in range(400):
        mask = draw_token_mask(300, config, random)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
        runs += (edges[1::2] - edges[::2]).tolist()
    assert np.std(runs) > 2


def test_what_is_shown() -> None:
    """Of the hidden tokens 80 % are marked, 10 % stay, 10 % are any; the others are never touched."""
    random, config = np.random.default_rng(0), TokenMaskConfig()
    tokens = np.full(40_000, 7)
    hidden = random.random(len(tokens)) < 0.5
    shown = replace_tokens(tokens, hidden, config, range(4, 104), 104, random)
    assert (shown[~hidden] == 7).all()
    inside = shown[hidden]
    assert np.mean(inside == 104) == pytest.approx(0.8, abs=0.01)
    assert np.mean(inside == 7) == pytest.approx(0.1 + 0.1 / 100, abs=0.01)
    others = inside[(inside != 104) & (inside != 7)]
    assert others.min() >= 4 and others.max() < 104 and len(set(others.tolist())) > 90


def test_short_sequences() -> None:
    random = np.random.default_rng(0)
    for size in range(6):
        assert draw_token_mask(size, TokenMaskConfig(), random).shape == (size,)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"probability": -1.0}, {"kept": 0.6, "random": 0.6}, {"kept": 1.5}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="mask"):
        TokenMaskConfig(**wrong)  # type: ignore[arg-type]
