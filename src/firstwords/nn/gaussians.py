"""Mixtures of Gaussians with diagonal covariances, fitted by EM (Dempster, Laird and Rubin 1977)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.nn.kmeans import assign, fit_kmeans

AT_ONCE = 8192
"""Frames whose densities are held together."""
VARIANCE_FLOOR = 0.01
"""Share of the overall variance below which no Gaussian's falls."""
START_ITERATIONS = 8
"""Of the k-means that a mixture starts from."""


def log_densities(x: Tensor, means: Tensor, variances: Tensor, log_weights: Tensor) -> Tensor:
    """Frames (N, D) to log weight x density of each of K Gaussians (K, D), (N, K)."""
    precision = 1 / variances
    constant = log_weights - 0.5 * (
        (means.square() * precision).sum(1) - precision.log().sum(1) + means.shape[1] * math.log(2 * math.pi)
    )
    return torch.addmm(constant, x, (means * precision).T) - 0.5 * x.square() @ precision.T


@dataclass(frozen=True)
class Mixture:
    """K Gaussians."""

    means: Tensor
    """(K, D)."""
    variances: Tensor
    """(K, D)."""
    log_weights: Tensor
    """(K,)."""

    def densities(self, x: Tensor) -> Tensor:
        """Frames (N, D) to log weight x density of each Gaussian, (N, K)."""
        return log_densities(x, self.means, self.variances, self.log_weights)

    def score(self, x: Tensor) -> float:
        """Mean log density of frames (N, D)."""
        return sum(float(self.densities(part).logsumexp(1).double().sum()) for part in x.split(AT_ONCE)) / len(x)

    def shares(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames (N, D) in parts, each with what every Gaussian has of them (n, K)."""
        for part in x.split(AT_ONCE):
            yield part, self.densities(part).softmax(1)

    def refitted(self, x: Tensor) -> Mixture:
        """After a round of EM on frames (N, D)."""
        count = x.new_zeros(len(self.means), dtype=torch.float64)
        sums, squares = (torch.zeros_like(self.means, dtype=torch.float64) for _ in range(2))
        for part, shares in self.shares(x):
            count += shares.sum(0)
            sums += shares.T @ part
            squares += shares.T @ part.square()
        return _mixture(count, sums, squares)


def fit_mixture(x: Tensor, size: int, rounds: int, seed: int = 0) -> Mixture:
    """`size` Gaussians of frames (N, D), from k-means by EM.

    Raises:
        ConfigError: fewer frames than Gaussians.
    """
    centroids = fit_kmeans(x, size, START_ITERATIONS, seed=seed)
    count = x.new_zeros(size, dtype=torch.float64)
    sums, squares = (torch.zeros_like(centroids, dtype=torch.float64) for _ in range(2))
    for part in x.split(AT_ONCE):
        nearest = assign(part, centroids).long()
        count.index_add_(0, nearest, torch.ones(len(part), dtype=torch.float64))
        sums.index_add_(0, nearest, part.double())
        squares.index_add_(0, nearest, part.double().square())
    mixture = _mixture(count, sums, squares)
    for _ in range(rounds):
        mixture = mixture.refitted(x)
    return mixture


def _mixture(count: Tensor, sums: Tensor, squares: Tensor) -> Mixture:
    """Of sufficient statistics (K,), (K, D), (K, D)."""
    total = count.sum()
    overall = squares.sum(0) / total - (sums.sum(0) / total).square()
    seen = count.clamp_min(1e-8)[:, None]
    means = sums / seen
    variances = torch.maximum(squares / seen - means.square(), VARIANCE_FLOOR * overall)
    weights = (count / total).clamp_min(1e-8)
    return Mixture(means.float(), variances.float(), (weights / weights.sum()).log().float())
