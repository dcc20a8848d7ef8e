"""Clusters that are held on to, and points of change: exact, and what they come to where a step costs nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from firstwords.nn.kmeans import assign
from firstwords.nn.segments import change_points, held, merge_runs, middle_means, pool_pairs


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


@pytest.mark.parametrize(("cost", "longest"), [(0.0, 3), (0.4, 7), (1.5, 7), (1.5, 2), (50.0, 7)])
def test_changes_are_the_best_of_all_divisions(cost: float, longest: int) -> None:
    features = torch.randn(7, 2, generator=torch.Generator().manual_seed(5))
    costs = {}
    for inner in itertools.chain.from_iterable(itertools.combinations(range(1, 7), k) for k in range(7)):
        parts = list(itertools.pairwise((0, *inner, 7)))
        if max(end - start for start, end in parts) <= longest:
            spread = sum(float((features[a:b] - features[a:b].mean(0)).square().sum()) for a, b in parts)
            costs[(0, *inner)] = spread + cost * len(parts)
    assert tuple(change_points(features, cost, longest).tolist()) == min(costs, key=lambda way: costs[way])


def test_steps_between_changes_begin_where_values_do() -> None:
    values = torch.tensor([1.0] * 6 + [5.0] * 3 + [2.0] * 11)[:, None]
    starts = change_points(values, 0.1, 12)
    assert starts.tolist() == [0, 6, 9]
    blurred = values.clone()
    blurred[[5, 6, 9]] = 3.0  # of 6, 3 and 11 frames the outer 1, 0 and 2 do not count
    assert middle_means(blurred, starts)[:, 0].tolist() == [1.0, pytest.approx(13 / 3), 2.0]
    assert change_points(values[:0], 0.1, 12).tolist() == [] and middle_means(values[:0], starts[:0]).shape == (0, 1)
