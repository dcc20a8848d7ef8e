"""k-means over frames that need not fit in memory (Lloyd 1982; k-means++ start, Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from firstwords.errors import ConfigError, MissingExtraError
from firstwords.nn.blocks import Blocks, rows

Backend = Literal["torch", "faiss"]

DISTANCES = 1 << 24
"""Most distances held at once (64 MiB in float32)."""
START_FRAMES = 64
"""Frames for each cluster that the start is drawn from, ..."""
START_LEAST = 16384
"""... and the fewest altogether, where there are as many."""


def fit_kmeans(
    blocks: Blocks,
    clusters: int,
    iterations: int = 50,
    restarts: int = 1,
    seed: int = 0,
    backend: Backend = "torch",
    device: str | torch.device = "cpu",
    tell: Callable[[int, int, float], None] | None = None,
) -> Tensor:
    """Centroids (K, D) float32, on the CPU, of frames (N, D).

    The start is drawn by k-means++ from a subsample; each iteration then passes over all frames, with memory for a
    few thousand. A cluster that lost all its frames moves to a frame that lies farthest from its centroid. An
    iteration that moves nothing is the last. The result depends on the frames and the seed, not on how blocks are cut.

    Args:
        blocks: the frames, see `Blocks`; a pass is made over them for each iteration and three besides.
        clusters: K.
        iterations: most passes of Lloyd's algorithm. wav2vec-U takes 50.
        restarts: starts tried; the one with the least inertia is kept. wav2vec-U takes 3.
        seed: of the start.
        backend: "faiss" computes with that library, all frames in memory; its centroids are not the same numbers.
        device: where distances are computed.
        tell: called after each pass with the restart, the iteration (both from 1) and the mean squared distance.

    Raises:
        ConfigError: fewer frames than clusters, or features that are no (N, D) numbers.
        MissingExtraError: faiss is asked for and not installed.
    """
    if min(clusters, iterations, restarts) < 1:
        raise ConfigError(
            f"k-means: clusters, iterations and restarts must be at least 1; found {clusters}, {iterations}, {restarts}"
        )
    if backend == "faiss":
        return _fit_faiss(blocks, clusters, iterations, restarts, seed)
    count = sum(len(part) for part in rows(blocks))
    if count < clusters:
        raise ConfigError(f"k-means: {clusters} clusters need at least as many frames, found {count}")
    best: tuple[float, Tensor] | None = None
    for restart in range(restarts):
        generator = torch.Generator().manual_seed(seed + restart)
        wanted = min(count, max(clusters * START_FRAMES, START_LEAST))
        chosen = torch.randperm(count, generator=generator)[:wanted].sort().values
        centroids = plus_plus(_gather(blocks, chosen), clusters, generator).to(device)
        inertia = float("inf")
        for iteration in range(iterations + 1):  # the last pass only measures
            inertia, moved = _pass(blocks, centroids)
            if tell is not None:
                tell(restart + 1, iteration + 1, inertia / count)
            if iteration == iterations or torch.equal(moved, centroids):
                break
            centroids = moved
        if best is None or inertia < best[0]:
            best = inertia, centroids
    assert best is not None
    return best[1].cpu()


def assign(features: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each frame: (..., D) and (K, D) to (...) int64. Of equally near ones the first."""
    return nearest(features.flatten(0, -2), centroids)[1].view(features.shape[:-1])


def nearest(features: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) to the nearest centroid, and its number (N,) int64, of frames (N, D).

    |x - c|^2 = |x|^2 - 2 x c + |c|^2, in float32 around the mean of the centroids, so that an offset that all frames
    share costs no digits; never more than `DISTANCES` of them at once.
    """
    centroids = centroids.float()
    shift = centroids.mean(0)
    centred = centroids - shift
    squares = centred.square().sum(1)
    distances, numbers = [], []
    for part in features.split(max(1, DISTANCES // len(centroids))):
        part = part.to(centroids) - shift
        least, number = torch.addmm(squares, part, centred.T, alpha=-2).min(1)
        distances.append((least + part.square().sum(1)).clamp_min(0))
        numbers.append(number)
    if not distances:
        return features.new_zeros(0, dtype=torch.float32), features.new_zeros(0, dtype=torch.long)
    return torch.cat(distances), torch.cat(numbers)


def plus_plus(sample: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: K of the frames (N, D), each drawn with probability proportional to its squared distance to those
    drawn before; where all distances are zero, any frame. (K, D)."""
    first = int(torch.randint(len(sample), (1,), generator=generator))
    chosen = [first]
    distances = (sample - sample[first]).square().sum(1)
    for _ in range(clusters - 1):
        cumulated = distances.double().cumsum(0)
        drawn = torch.rand(1, generator=generator, dtype=torch.float64)
        if float(cumulated[-1]) > 0:
            number = int(torch.searchsorted(cumulated, drawn * cumulated[-1], right=True).clamp_max(len(sample) - 1))
        else:
            number = int(drawn * len(sample))
        chosen.append(number)
        distances = torch.minimum(distances, (sample - sample[number]).square().sum(1))
    return sample[chosen].clone()


def _pass(blocks: Blocks, centroids: Tensor) -> tuple[float, Tensor]:
    """Inertia of the centroids (K, D), and the means of the frames nearest to each."""
    clusters = len(centroids)
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=centroids.device)
    counts = torch.zeros(clusters, dtype=torch.long, device=centroids.device)
    inertia = 0.0
    far_distances, far = torch.zeros(0, device=centroids.device), centroids[:0]  # the farthest frames, at most K
    for part in rows(blocks):
        part = part.to(centroids.device)
        distances, numbers = nearest(part, centroids)
        sums.index_add_(0, numbers, part.double())
        counts += torch.bincount(numbers, minlength=clusters)
        inertia += float(distances.double().sum())
        best = distances.topk(min(clusters, len(distances)))
        far_distances = torch.cat([far_distances, best.values])
        far = torch.cat([far, part[best.indices]])
        order = far_distances.sort(descending=True, stable=True).indices[:clusters]
        far_distances, far = far_distances[order], far[order]
    moved = (sums / counts.clamp_min(1)[:, None]).float()
    empty = torch.nonzero(counts == 0)[:, 0]
    moved[empty] = torch.where(far_distances[: len(empty), None] > 0, far[: len(empty)], centroids[empty])
    return inertia, moved


def _gather(blocks: Blocks, chosen: Tensor) -> Tensor:
    """The frames with those numbers (sorted), (len(chosen), D)."""

    def parts() -> Iterator[Tensor]:
        first = 0
        for part in rows(blocks):
            low, high = torch.searchsorted(chosen, torch.tensor([first, first + len(part)])).tolist()
            yield part[chosen[low:high] - first]
            first += len(part)

    return torch.cat(list(parts()))


def _fit_faiss(blocks: Blocks, clusters: int, iterations: int, restarts: int, seed: int) -> Tensor:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("k-means with faiss", "faiss-cpu", "faiss") from error
    frames = torch.cat(list(rows(blocks))).numpy()
    if len(frames) < clusters:
        raise ConfigError(f"k-means: {clusters} clusters need at least as many frames, found {len(frames)}")
    # faiss would take a sample of 256 frames a cluster, and warn of fewer than 39
    limits = {"max_points_per_centroid": len(frames), "min_points_per_centroid": 1}
    model = faiss.Kmeans(frames.shape[1], clusters, niter=iterations, nredo=restarts, seed=seed, **limits)
    model.train(frames)
    return torch.from_numpy(model.centroids.copy())
