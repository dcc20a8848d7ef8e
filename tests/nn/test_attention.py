"""Attention with dropout equals the formula, with the same mask; and the mask is what it should be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from firstwords.nn import attention as module
from firstwords.nn.attention import attention
from firstwords.nn.dropout import dropout, kept, scale

SHAPE = (2, 3, 17, 8)


def plain(query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None, mask: Tensor, probability: float) -> Tensor:
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    if attend is not None:
        scores = scores.masked_fill(~attend, -math.inf)
    return (scores.softmax(-1) * mask * scale(probability)) @ value


@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_formula(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Result and gradients, where the formula is given the masks that ours drew, head by head."""
    torch.manual_seed(0)
    inputs = [torch.randn(SHAPE, dtype=torch.double, requires_grad=True) for _ in range(3)]
    attend = (torch.arange(17) < torch.tensor([17, 11])[:, None])[:, None, None] if padded else None
    masks: list[Tensor] = []

    def noted(*arguments: object) -> Tensor:
        masks.append(kept(*arguments))  # type: ignore[arg-type]
        return masks[-1]

    monkeypatch.setattr(module, "kept", noted)
    ours = attention(*inputs, attend, 0.3)
    mask = torch.stack(masks).view(2, 3, 17, 17)
    weights = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * weights).sum(), inputs)
    assert torch.equal(torch.stack(masks[6:]), torch.stack(masks[:6]))  # drawn again on the way back
    theirs = plain(*inputs, attend, mask, 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # probabilities are float32
    for own, other in zip(mine, torch.autograd.grad((theirs * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_follows_the_seed() -> None:
    query = torch.randn(SHAPE)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(attention(query, query, query, None, 0.5))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_dropout_keeps_share_and_mean(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(999, 1001)
    dropped = dropout(x, probability, training=True)
    assert abs(float((dropped == 0).float().mean()) - probability) < 0.002
    if probability < 1:
        assert abs(float(dropped.mean()) - 1) < 0.005
    assert torch.equal(dropout(x, probability, training=False), x)
    neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)  # lanes of the same random number are independent
    assert abs(float(neighbours.float().mean()) - probability**2) < 0.002


def test_dropout_near_one_drops() -> None:
    """Rounded to a 65,536th, but never round to nothing."""
    kept_share = float((dropout(torch.ones(1000, 1000), 0.9999999, training=True) != 0).float().mean())
    assert 0 < kept_share < 1e-4
