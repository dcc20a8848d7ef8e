"""Mean and spread over a recording that comes in parts, so that a norm over time does not need the whole in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Moments:
    """Sums over the rows that every stretch of `size` samples, `hop` apart, gives, in double precision.

    Parts may have any length: samples whose stretch is not complete yet wait for the next part.
    """

    def __init__(self, size: int, hop: int, rows: Callable[[Tensor], Tensor], products: bool) -> None:
        """
        Args:
            size: samples that one step looks at.
            hop: samples from one step to the next.
            rows: samples (n,) to rows (N, D), the complete steps only.
            products: gather the covariance (D, D), not the variance (D,).
        """
        self.size, self.hop, self.rows, self.products = size, hop, rows, products
        self.waiting = torch.zeros(0)
        self.count = 0
        self.sum: Tensor | None = None
        self.squares: Tensor | None = None
        self.shift: Tensor | None = None

    @torch.no_grad()
    def add(self, samples: Tensor) -> None:
        """The next samples (n,)."""
        samples = torch.cat([self.waiting, samples]) if len(self.waiting) else samples
        steps = (len(samples) - self.size) // self.hop + 1 if len(samples) >= self.size else 0
        self.waiting = samples[steps * self.hop :].clone()
        if not steps:
            return
        rows = self.rows(samples[: (steps - 1) * self.hop + self.size]).double()
        if self.shift is None:
            self.shift = rows.mean(0)  # near the mean, so that an offset costs no digits
        rows = rows - self.shift
        squares = rows.T @ rows if self.products else rows.square().sum(0)
        self.count += len(rows)
        self.sum = rows.sum(0) if self.sum is None else self.sum + rows.sum(0)
        self.squares = squares if self.squares is None else self.squares + squares

    def statistics(self) -> tuple[Tensor, Tensor] | None:
        """Mean (D,) and population covariance (D, D) or variance (D,); None before the first complete step."""
        if self.sum is None or self.squares is None or self.shift is None:
            return None
        mean = self.sum / self.count
        spread = torch.outer(mean, mean) if self.products else mean.square()
        return (mean + self.shift).float(), (self.squares / self.count - spread).float()
