"""Frames to fewer, longer steps: runs of one cluster, then pairs (wav2vec-U section 4.2 and its published scripts)."""

from __future__ import annotations

import torch
from torch import Tensor


def merge_runs(features: Tensor, clusters: Tensor) -> Tensor:
    """The mean over every run of equal clusters: (T, D) and (T,) to (S, D). Source: merge_clusters.py."""
    if not len(clusters):
        return features
    new = torch.ones(len(clusters), dtype=torch.bool, device=clusters.device)
    new[1:] = clusters[1:] != clusters[:-1]
    segment = new.cumsum(0) - 1
    sums = features.new_zeros(int(segment[-1]) + 1, features.shape[1]).index_add_(0, segment, features)
    return sums / torch.bincount(segment)[:, None]


def held(features: Tensor, centroids: Tensor, cost: float) -> Tensor:
    """Clusters (T,) of frames (T, D) whose squared distances, with `cost` for every change, are least together.

    Exact, by dynamic programming. With cost 0 it is each frame's nearest centroid. Not in the published recipe.
    """
    if not len(features):
        return torch.zeros(0, dtype=torch.long)
    distances = torch.cdist(features.float(), centroids.float()).square()
    total = distances[0]
    came = torch.empty(distances.shape, dtype=torch.long)
    stay = torch.arange(len(centroids))
    for time in range(1, len(distances)):
        least, best = total.min(0)
        change = total > least + cost
        came[time] = torch.where(change, best, stay)
        total = torch.where(change, least + cost, total) + distances[time]
    path = torch.empty(len(distances), dtype=torch.long)
    path[-1] = total.argmin()
    for time in range(len(distances) - 1, 0, -1):
        path[time - 1] = came[time, path[time]]
    return path


def pool_pairs(features: Tensor, drop_last: bool = False) -> Tensor:
    """The mean of every two neighbours: (T, D) to (ceil(T / 2), D). Source: mean_pool.py.

    Args:
        drop_last: of an odd number the last one is left out; else it stands for both of its pair.
    """
    if len(features) % 2:
        features = features[:-1] if drop_last else torch.cat([features, features[-1:]])
    return features.view(-1, 2, features.shape[1]).mean(1)
