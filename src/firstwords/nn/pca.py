"""Principal components of frames that need not fit in memory, without whitening."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from firstwords.errors import CheckpointError, ConfigError
from firstwords.nn.blocks import Blocks, rows
from firstwords.nn.fitted import read_fitted, write_fitted

KIND = "PCA"


@dataclass(frozen=True)
class PCA:
    """A change of basis to the directions of most variance."""

    mean: Tensor
    """(D,) float32."""
    components: Tensor
    """(dim, D) float32, orthonormal rows, most variance first; in each the entry of largest magnitude is positive."""
    shares: Tensor
    """(dim,) float32: how much of the variance lies along each."""

    def apply(self, x: Tensor) -> Tensor:
        """Coordinates of frames: (..., D) to (..., dim) float32."""
        mean, components = self.mean.to(x.device), self.components.to(x.device)
        return (x.float() - mean) @ components.T

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Raises CheckpointError where it cannot."""
        write_fitted(path, KIND, {"mean": self.mean, "components": self.components, "shares": self.shares}, {})

    @staticmethod
    def load(path: Path) -> PCA:
        """What `save` wrote. Raises CheckpointError: missing, cut short, or something else."""
        tensors, _ = read_fitted(path, KIND)
        try:
            return PCA(tensors["mean"], tensors["components"], tensors["shares"])
        except KeyError as error:
            raise CheckpointError(f"{path}: a PCA without its {error}") from error


def fit_pca(blocks: Blocks, dim: int) -> PCA:
    """The `dim` directions of most variance of frames (N, D), in one pass, from the exact covariance in float64.

    Args:
        blocks: the frames, see `Blocks`.
        dim: components kept, at most D.

    Raises:
        ConfigError: `dim` above D or below 1, no frames, or features that are no (N, D) numbers.
    """
    count = 0
    shift = total = products = torch.zeros(0)
    for part in rows(blocks, dtype=torch.float64):
        if not count:
            shift = part.mean(0)  # near the mean, so that an offset costs no digits
            total, products = torch.zeros_like(shift), torch.zeros(len(shift), len(shift), dtype=torch.float64)
        part = part - shift
        total += part.sum(0)
        products += part.T @ part
        count += len(part)
    if not count:
        raise ConfigError("principal components: no frames to find them in")
    if not 1 <= dim <= len(shift):
        raise ConfigError(f"principal components: {dim} of them, but features have {len(shift)} dimensions")
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))  # ascending
    variances, components = variances.flip(0).clamp_min(0), directions.T.flip(0)[:dim]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    shares = variances[:dim] / variances.sum().clamp_min(1e-300)
    return PCA((mean + shift).float(), (components * largest.sign()).float(), shares.float())
