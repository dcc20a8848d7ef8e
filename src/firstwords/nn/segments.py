"""Frames to fewer, longer steps: runs of one cluster, then pairs (wav2vec-U section 4.2 and its published scripts).

Or, ours: steps between the points where features change most.
"""

from __future__ import annotations

import numpy as np
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


def change_points(features: Tensor, cost: float, longest: int) -> Tensor:
    """First frames (S,) of the steps that (T, D) falls into, none longer than `longest` frames.

    The squared distances of all frames to the means of their steps, with `cost` for every step, are least together:
    exact, by dynamic programming. Not in the published recipe.
    """
    values = features.detach().double().cpu().numpy()
    count, longest = len(values), min(longest, len(values))
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
    squares = np.append(0.0, np.square(values).sum(1).cumsum())
    spread = np.full((count + 1, longest), np.inf)  # of the step of length l + 1 that ends before frame t
    for length in range(1, longest + 1):
        inside = np.square(sums[length:] - sums[:-length]).sum(1) / length
        spread[length:, length - 1] = squares[length:] - squares[:-length] - inside
    total, chosen = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        reach = min(longest, end)
        options = total[end - reach : end][::-1] + spread[end, :reach]
        best = int(options.argmin())
        total[end], chosen[end] = options[best] + cost, best + 1
    starts = []
    end = count
    while end > 0:
        end -= int(chosen[end])
        starts.append(end)
    return torch.tensor(starts[::-1], dtype=torch.long)


def middle_means(features: Tensor, starts: Tensor) -> Tensor:
    """The mean of each step without its first and last fifth: (T, D) and first frames (S,) to (S, D)."""
    ends = torch.cat([starts[1:], starts.new_tensor([len(features)])])[: len(starts)]
    margin = (ends - starts) // 5
    sums = torch.cat([features.new_zeros(1, features.shape[1], dtype=torch.double), features.double().cumsum(0)])
    low, high = starts + margin, ends - margin
    return ((sums[high] - sums[low]) / (high - low)[:, None]).to(features.dtype)


def pool_pairs(features: Tensor, drop_last: bool = False) -> Tensor:
    """The mean of every two neighbours: (T, D) to (ceil(T / 2), D). Source: mean_pool.py.

    Args:
        drop_last: of an odd number the last one is left out; else it stands for both of its pair.
    """
    if len(features) % 2:
        features = features[:-1] if drop_last else torch.cat([features, features[-1:]])
    return features.view(-1, 2, features.shape[1]).mean(1)
