"""Linear discriminant analysis: the directions that tell classes of frames apart best (Fisher 1936)."""

from __future__ import annotations

import torch
from torch import Tensor

from firstwords.errors import ConfigError


class Scatter:
    """Counts, sums and products of frames by class, gathered part by part in float64."""

    def __init__(self, classes: int, dim: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.sums = torch.zeros(classes, dim, dtype=torch.float64)
        self.products = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, x: Tensor, classes: Tensor) -> None:
        """Frames (N, D) and their classes (N,)."""
        x = x.double()
        self.counts += torch.bincount(classes, minlength=len(self.counts))
        self.sums.index_add_(0, classes, x)
        self.products += x.T @ x

    def directions(self, dim: int) -> Tensor:
        """(dim, D): along these the classes differ most where the frames within a class have unit variance.

        Raises:
            ConfigError: more of them than dimensions.
        """
        if not 1 <= dim <= self.sums.shape[1]:
            raise ConfigError(f"discriminant directions: {dim} of them, features have {self.sums.shape[1]} dimensions")
        total = self.counts.sum()
        mean = self.sums.sum(0) / total
        means = self.sums / self.counts.clamp_min(1)[:, None]
        overall = self.products / total - torch.outer(mean, mean)
        centred = (means - mean) * (self.counts / total).sqrt()[:, None]
        between = centred.T @ centred
        within = overall - between
        within += torch.eye(len(within), dtype=torch.float64) * (1e-6 * within.diagonal().mean())
        values, vectors = torch.linalg.eigh(within)
        whitening = vectors / values.clamp_min(1e-12).sqrt()
        _, chosen = torch.linalg.eigh(whitening.T @ between @ whitening)
        return (whitening @ chosen.flip(1)[:, :dim]).T.float()


def spliced(x: Tensor, context: int) -> Tensor:
    """(T, D) to (T, (2 context + 1) D): each frame with its neighbours, the edges repeated."""
    if not context:
        return x
    padded = torch.cat([x[:1].expand(context, -1), x, x[-1:].expand(context, -1)])
    return torch.cat([padded[shift : shift + len(x)] for shift in range(2 * context + 1)], 1)
