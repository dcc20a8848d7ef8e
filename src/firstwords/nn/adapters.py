"""Small trained parts in a large fixed network: bottleneck adapters and low-rank changes of weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """A bottleneck with a residual after a block (Houlsby et al. 2019), as in Massively Multilingual Speech.

    It starts as the identity, (B, T, D) to (B, T, D).
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, inner)
        self.up = nn.Linear(inner, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(self.norm(x)).relu())


class LowRank(nn.Module):
    """LoRA (Hu et al. 2021) on queries and values: what a small product of two matrices adds to their projections.

    It starts as nothing, since one of the two is 0.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, rank, dim) * dim**-0.5)
        self.up = nn.Parameter(torch.zeros(2, dim, rank))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the query, key and value of x (B, T, D), side by side: (B, T, 3 D)."""
        query, value = (F.linear(F.linear(x, down), up) for down, up in zip(self.down, self.up, strict=True))
        return torch.cat([query, torch.zeros_like(query), value], dim=-1)


def low_rank_change(down: Tensor, up: Tensor) -> Tensor:
    """The same as a change (3 D, D) of the weights, for a network that shall cost nothing more."""
    query, value = torch.bmm(up, down)
    return torch.cat([query, torch.zeros_like(query), value])
