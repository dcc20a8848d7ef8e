"""The Transformer language model: sees the past only, no further than its context, and steps as it runs."""

from __future__ import annotations

import pytest
import torch

from firstwords.errors import ConfigError
from firstwords.models.transformer_lm import Past, TransformerLM, TransformerLMConfig

SYMBOLS = 11


def model(**changes: int) -> TransformerLM:
    torch.manual_seed(1)
    sizes = {"layers": 2, "dim": 16, "feed_forward_dim": 32, "heads": 2, "context": 64} | changes
    network = TransformerLM(TransformerLMConfig(**sizes), SYMBOLS).eval()
    for parameter in network.parameters():  # far from 0, so that every part matters
        torch.nn.init.normal_(parameter, std=0.4)
    return network


def symbols(rows: int, length: int) -> torch.Tensor:
    return torch.randint(SYMBOLS, (rows, length), generator=torch.Generator().manual_seed(2))


def test_the_future_changes_nothing() -> None:
    network, text = model(), symbols(2, 12)
    changed = text.clone()
    changed[:, 7:] = symbols(2, 5).flip(0)
    torch.testing.assert_close(network(text)[:, :7], network(changed)[:, :7])
    torch.testing.assert_close(network(text[:, :7]), network(text)[:, :7])


def test_no_position_sees_beyond_its_context() -> None:
    """With one layer, the last `context` symbols decide, and all of them do."""
    network, text = model(layers=1, context=4), symbols(1, 12)
    before = text.clone()
    before[:, :8] = (before[:, :8] + 1) % SYMBOLS
    torch.testing.assert_close(network(text)[:, 11], network(before)[:, 11])
    before[:, 8] = (before[:, 8] + 1) % SYMBOLS
    assert (network(text)[:, 11] - network(before)[:, 11]).abs().max() > 1e-3


@pytest.mark.parametrize("context", [64, 5])
def test_steps_equal_the_whole(context: int) -> None:
    """Symbol by symbol with kept keys and values, also beyond the context."""
    network, text = model(context=context), symbols(3, 12)
    expected = network(text)
    layers, dim = network.config.layers, network.config.dim
    keys, values = torch.zeros(layers, 36, dim), torch.zeros(layers, 36, dim)
    for position in range(12):
        first = max(0, position - context + 1)
        places = torch.arange(3)[:, None] * 12 + torch.arange(first, position)
        past = Past(keys, values, places, torch.ones_like(places, dtype=torch.bool))
        logits, key, value = network.step(text[:, position], torch.full((3,), position), past)
        keys[:, torch.arange(3) * 12 + position], values[:, torch.arange(3) * 12 + position] = key, value
        torch.testing.assert_close(logits, expected[:, position], atol=1e-5, rtol=1e-4)


def test_only_distances_matter() -> None:
    """Positions by rotation: a window that moves along a text sees the same (one layer, all behind it cut off)."""
    network = model(layers=1, context=4)
    text = symbols(1, 4).repeat(1, 3)
    out = network(text)
    torch.testing.assert_close(out[:, 7], out[:, 11], atol=1e-5, rtol=1e-4)


def test_sizes_that_do_not_fit() -> None:
    for changes in ({"heads": 3}, {"dim": 6}, {"context": 0}, {"layers": 0}):
        with pytest.raises(ConfigError, match="model"):
            model(**changes)
