"""Batch norm over the valid frames of a padded batch (Ioffe and Szegedy 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.1
"""How far the running statistics move towards those of a batch. Source: torch's default."""


class BatchNorm(nn.Module):
    """Each channel of (B, T, D) by one mean and one variance; (B, T, D) to (B, T, D).

    While it learns, the statistics are those of all valid frames of the batch at hand, and the running ones move
    towards them; padding never counts. So an utterance's output depends on its neighbours then, and an update that is
    cut into other micro-batches or processes has other gradients (docs/differences.md). Processes do not exchange
    statistics: the running ones are those of the first.

    Wherever it does not learn it takes the running statistics and leaves them alone, whatever the mode: in evaluation,
    where gradients are off (an encoder that waits for its output layer), and where its weight wants none (adapters and
    low-rank changes, whose base must stay as it is).
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, dim: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_variance", torch.ones(dim))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The norm of x (B, T, D), computed in float32; `valid` (B, T, 1) is True at frames that count, None: all."""
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            if self.training and self.weight.requires_grad and torch.is_grad_enabled():
                mean, variance = self._of_batch(values, valid)
            else:
                mean, variance = self.running_mean.float(), self.running_variance.float()
            values = (values - mean) * (torch.rsqrt(variance + self.epsilon) * self.weight.float())
            return (values + self.bias.float()).to(x.dtype)

    def _of_batch(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance (D,), which the running ones learn from; of them the variance of a sample (n - 1)."""
        if valid is None:
            valid = torch.ones_like(x[:, :, :1], dtype=torch.bool)
        count = valid.sum()
        mean = (x * valid).sum((0, 1)) / count
        squares = ((x - mean) * valid).square().sum((0, 1))
        with torch.no_grad():
            self.running_mean.lerp_(mean.detach(), MOMENTUM)
            self.running_variance.lerp_(squares.detach() / (count - 1).clamp_min(1), MOMENTUM)
        return mean, squares / count
