"""Clusters that are held on to: exact, and the nearest ones where holding is worth nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from firstwords.nn.kmeans import assign
from firstwords.nn.segments import held, merge_runs, pool_pairs


@pytest.mark.parametrize("cost", [0.0, 0.5, 3.0])
def test_holding_is_the_best_of_all_sequences(cost: float) -> None:
    draw = torch.Generator().manual_seed(3)
    features, centroids = torch.randn(6, 2, generator=draw), torch.randn(3, 2, generator=draw)
    distances = torch.cdist(features, centroids).square()
    ways = list(itertools.product(range(3), repeat=6))
    costs = [
        sum(float(distances[t, k]) for t, k in enumerate(way)) + cost * sum(a != b for a, b in itertools.pairwise(way))
        for way in ways
    ]
    assert tuple(held(features, centroids, cost).tolist()) == ways[costs.index(min(costs))]


def test_holding_for_nothing_takes_the_nearest_and_holding_on_forever_takes_one() -> None:
    draw = torch.Generator().manual_seed(4)
    features, centroids = torch.randn(50, 4, generator=draw), torch.randn(8, 4, generator=draw)
    assert torch.equal(held(features, centroids, 0.0), assign(features, centroids))
    assert len(held(features, centroids, 1e6).unique()) == 1
    assert len(held(features[:0], centroids, 1.0)) == 0


def test_an_utterance_of_one_frame_stays_one_step() -> None:
    one = torch.randn(1, 3)
    assert torch.equal(merge_runs(one, torch.tensor([5])), one) and torch.equal(pool_pairs(one), one)
