"""Small trained parts in a large fixed network: bottleneck adapters and low-rank changes of weights."""

from __future__ import annotations

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
