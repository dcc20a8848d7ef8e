"""Constrained maximum-likelihood linear regression: a linear map of features that makes them likely to a mixture.

One matrix and offset for each speaker turn their features into those that a mixture of Gaussians expects (Gales 1998,
"Maximum likelihood linear transformations for HMM-based speech recognition"; the HTK Book, equations 9.19 to 9.24).
The mixture stands for all speakers and has no labels. Derivatives go through the same matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.nn.gaussians import Mixture

SWEEPS = 3
"""Passes over the rows of a matrix for the same statistics."""
PRIOR = 50.0
"""Frames that a map weighs from which the search began, so that few frames do not lead far away. Ours."""


@dataclass(frozen=True)
class Affine:
    """x to matrix x + offset."""

    matrix: Tensor
    """(D, D) float64."""
    offset: Tensor
    """(D,) float64."""

    @staticmethod
    def identity(dim: int) -> Affine:
        """The map that changes nothing."""
        return Affine(torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64))

    def __call__(self, streams: Tensor) -> Tensor:
        """Features with their derivatives (N, R, D) mapped: derivatives have no offset."""
        mapped = streams @ self.matrix.T.to(streams)
        return torch.cat([mapped[:, :1] + self.offset.to(mapped), mapped[:, 1:]], 1)

    def after(self, first: Affine) -> Affine:
        """This map of what `first` gives."""
        return Affine(self.matrix @ first.matrix, self.matrix @ first.offset + self.offset)

    def score(self, streams: Tensor, mixture: Mixture) -> float:
        """Mean log density of features (N, R, D) before the map, where those after it are of the mixture."""
        spread = streams.shape[1] * float(torch.linalg.slogdet(self.matrix)[1])
        return mixture.score(self(streams).flatten(1)) + spread


def improved(affine: Affine, streams: Tensor, mixture: Mixture, prior: Affine) -> Affine:
    """A map under which features are likelier: one round of EM.

    Args:
        affine: the map so far.
        streams: (N, R, D) features with R - 1 derivatives, before any map.
        mixture: over what comes of them, (R D,).
        prior: a map that it stays near, as if `PRIOR` frames said so.
    """
    count, orders, dim = streams.shape
    precision = (1 / mixture.variances).unflatten(1, (orders, dim))
    weighted = precision * mixture.means.unflatten(1, (orders, dim))
    squares = torch.zeros(dim, dim + 1, dim + 1, dtype=torch.float64)
    products = torch.zeros(dim, dim + 1, dtype=torch.float64)
    first = 0
    for part, shares in mixture.shares(affine(streams).flatten(1)):
        before = streams[first : first + len(part)]
        first += len(part)
        for order in range(orders):
            one = before.new_full((len(part), 1), float(order == 0))
            extended = torch.cat([before[:, order], one], 1)
            squares += torch.stack([(extended * row[:, None]).T @ extended for row in (shares @ precision[:, order]).T])
            products += (shares @ weighted[:, order]).T @ extended
    weight = PRIOR / max(1, count) * squares[:, dim, dim]  # of a frame, in each dimension
    squares += weight[:, None, None] * torch.eye(dim + 1, dtype=torch.float64)
    products += weight[:, None] * torch.cat([prior.matrix, prior.offset[:, None]], 1)
    return _solved(affine, squares, products, float(orders * count))


def _solved(affine: Affine, squares: Tensor, products: Tensor, count: float) -> Affine:
    """Row by row the likeliest map for statistics G (D, D + 1, D + 1) and k (D, D + 1); HTK Book, 9.23 and 9.24."""
    matrix, offset = affine.matrix.clone(), affine.offset.clone()
    dim = len(offset)
    inverses = torch.linalg.inv(squares)
    for _ in range(SWEEPS):
        for row in range(dim):
            cofactors = torch.linalg.inv(matrix)[:, row]  # but for a factor, which cancels
            direction = torch.cat([cofactors, cofactors.new_zeros(1)])
            along = direction @ inverses[row]
            a, b = along @ direction, along @ products[row]
            root = (b * b + 4 * a * count).sqrt()
            steps = torch.stack([(-b + root) / (2 * a), (-b - root) / (2 * a)])
            gain = count * (steps * a + b).abs().log() - 0.5 * steps.square() * a
            solved = (steps[gain.argmax()] * direction + products[row]) @ inverses[row]
            matrix[row], offset[row] = solved[:dim], solved[dim]
    return Affine(matrix, offset)
