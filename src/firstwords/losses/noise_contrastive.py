"""The noise-contrastive loss of wav2vec and vq-wav2vec (wav2vec section 2.2, equation 1).

What a frame predicts of the frames to come is told from distractors: other frames of the same utterance, one set for
each target, shared by all steps (fairseq). Distractors are indices: all similarities come from one product of which
only the wanted values are computed (CPU) or taken (GPU), so no vector is ever copied.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.nn.distractors import draw_distractors


@dataclass(frozen=True)
class NoiseContrastConfig:
    """Distractors, and how predictions are judged."""

    distractors: int = 10
    """N, drawn from the same utterance. Source: wav2vec."""
    batch_distractors: int = 0
    """Further distractors from all utterances of the micro-batch. Source: fairseq (cross_sample_negatives), off."""
    loss: Literal["binary", "infonce"] = "binary"
    """"binary": each candidate is judged alone (the paper); "infonce": the true one is chosen among all."""
    balanced: bool = False
    """Binary loss: all distractors of a target together weigh as much as it does. Source: fairseq, off."""
    offset: int = 0
    """Frames to the first that is predicted; 0: so many that both share no sample (3). Source: fairseq (auto)."""

    def __post_init__(self) -> None:
        if min(self.distractors, self.batch_distractors) < 0 or self.distractors + self.batch_distractors < 1:
            raise ConfigError(
                f"contrast: no distractors: {self.distractors}, and {self.batch_distractors} of the batch"
            )
        if self.offset < 0:
            raise ConfigError(f"contrast: offset must not be below 0, found {self.offset}")


class Distractors(NamedTuple):
    """For every frame as a target, the frames that it is to be told from."""

    own: Tensor
    """(B, T, N): frames of the same utterance."""
    others: Tensor
    """(B, T, M): frames of the whole batch, numbered b * T + t."""

    def to(self, device: torch.device) -> Distractors:
        """The same on another device."""
        return Distractors(self.own.to(device, non_blocking=True), self.others.to(device, non_blocking=True))


class NoiseContrast(NamedTuple):
    """Sums over the predictions of a batch, step by step."""

    loss: Tensor
    """(K,) in nats."""
    correct: Tensor
    """(K,) predictions closest to their target, less those where all similarities are equal."""
    predictions: Tensor
    """(K,) how many."""


def first_step(config: NoiseContrastConfig, receptive_field: int, hop: int) -> int:
    """Frames from a context to the first that it predicts: such that the two share no sample, or as configured.

    Args:
        config: the loss.
        receptive_field: samples behind one frame.
        hop: samples from one frame to the next.
    """
    return config.offset or math.ceil(receptive_field / hop)


def draw_all_distractors(
    frames: Sequence[int], size: int, config: NoiseContrastConfig, randoms: Sequence[np.random.Generator]
) -> Distractors:
    """Distractors of every frame of a batch, never the frame itself.

    fairseq shifts them in another order than it reads them, so that there a frame may be its own distractor.

    Args:
        frames: valid ones of each utterance.
        size: T of the padded batch.
        config: how many distractors, from where.
        randoms: a generator per utterance, so that an utterance's distractors do not depend on its neighbours.
    """
    own = np.zeros((len(frames), size, config.distractors), dtype=np.int64)
    others = np.zeros((len(frames), size, config.batch_distractors), dtype=np.int64)
    for row, count, random in zip(own, frames, randoms, strict=True):
        if count > 1:
            row[:count] = draw_distractors(np.arange(count), count, config.distractors, random)
    if config.batch_distractors:
        pool = np.concatenate([np.arange(count) + number * size for number, count in enumerate(frames)])
        drawn = pool[draw_distractors(np.arange(len(pool)), len(pool), config.batch_distractors, randoms[0])]
        ends = np.cumsum(frames)
        for row, count, end in zip(others, frames, ends, strict=True):
            row[:count] = drawn[end - count : end]
    return Distractors(torch.from_numpy(own), torch.from_numpy(others))


def predictions_of(frames: int, steps: int, offset: int) -> int:
    """How many predictions an utterance of so many frames has, over all steps."""
    return sum(max(0, frames - offset - step) for step in range(steps))


def step_logits(predictions: Tensor, targets: Tensor, distractors: Distractors, offset: int) -> list[Tensor]:
    """For each step, similarities (B, T - offset - step, 1 + N + M) of targets, the true one first, in float32.

    Row t is about target offset + step + t, as frame t predicted it. Steps that reach beyond the last frame are left
    out. The arguments are those of `similarities`.
    """
    rows = predictions.shape[1] - offset
    logits = similarities(predictions, targets, distractors, offset)
    return [logits[:, : rows - step, step] for step in range(min(predictions.shape[2], rows))]


def similarities(predictions: Tensor, targets: Tensor, distractors: Distractors, offset: int) -> Tensor:
    """Of every prediction with its target and the distractors of that: (B, T, K, 1 + N + M), the true one first.

    What frame t predicts at step k is about target t + offset + k; where that is beyond the last frame, the values mean
    nothing. In float32.

    Args:
        predictions: (B, T, K, D).
        targets: (B, T, D), latents or what stands for them (vq-wav2vec: quantised ones).
        distractors: of every target.
        offset: frames from a context to its first target.
    """
    batch, frames, steps, _ = predictions.shape
    device = targets.device
    numbers = torch.arange(batch * frames, device=device).view(batch, frames, 1)
    first = numbers[:, :1]
    candidates = torch.cat([numbers, distractors.own + first, distractors.others], 2)
    ahead = torch.arange(frames, device=device)[:, None] + torch.arange(steps, device=device) + offset
    chosen = candidates[:, ahead.clamp(max=frames - 1)]
    with torch.autocast(device.type, enabled=False):
        flat = (predictions.flatten(0, 2), targets.flatten(0, 1).to(predictions.dtype), chosen.flatten(0, 2))
        if device.type == "cpu" and chosen.shape[3] <= batch * frames:  # a sparse row holds no more than a full one
            return _SparseProduct.apply(*flat).view(chosen.shape)
        own = distractors.own.shape[2] + 1
        near = torch.matmul(predictions.flatten(1, 2), targets.mT.to(predictions.dtype))
        logits = near.gather(2, (chosen[..., :own] - first[..., None]).flatten(1, 2)).view(*chosen.shape[:3], own)
        if distractors.others.shape[2]:
            far = torch.matmul(flat[0], flat[1].T).gather(1, flat[2][:, own:])
            logits = torch.cat([logits, far.view(*chosen.shape[:3], -1)], 3)
        return logits.float()


class _SparseProduct(torch.autograd.Function):
    """Some values of a matrix product: rows (R, D) with columns (C, D), of each row those at `chosen` (R, n).

    A sparse product computes only these, and on the way back the gradient is a sparse matrix: an eighth of the time of
    the whole products, and no vector is copied.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, chosen: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns, chosen)
        pattern = _sparse(chosen, rows.new_zeros(chosen.shape, dtype=torch.float32), len(columns))
        values: Tensor = torch.sparse.sampled_addmm(pattern, rows.float(), columns.float().T, beta=0.0).values()
        return values.view(chosen.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, columns, chosen = ctx.saved_tensors
        places = _sparse(chosen, gradient, len(columns))
        of_rows, of_columns = places @ columns.float(), places.t() @ rows.float()
        return of_rows.to(rows.dtype), of_columns.to(columns.dtype), None


def _sparse(chosen: Tensor, values: Tensor, width: int) -> Tensor:
    """A matrix (R, width) of values (R, n) at columns `chosen` (R, n); those that come twice in a row add up."""
    ends = torch.arange(0, chosen.numel() + 1, chosen.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # is said to be new
        return torch.sparse_csr_tensor(
            ends, chosen.flatten(), values.flatten(), (len(chosen), width), check_invariants=False
        )


def noise_contrastive_loss(
    predictions: Tensor,
    targets: Tensor,
    lengths: Tensor,
    distractors: Distractors,
    offset: int,
    config: NoiseContrastConfig,
    shared_ties: bool = False,
) -> NoiseContrast:
    """Sums over all predictions whose target is a valid frame.

    Args:
        predictions: (B, T, K, D).
        targets: (B, T, D).
        lengths: (B,) valid frames.
        distractors: of every target.
        offset: frames from a context to its first target.
        config: the kind of loss.
        shared_ties: a target found among k candidates that are alike counts as 1 / k: with the few codes of vq-wav2vec
            distractors often are the target itself.
    """
    logits = similarities(predictions, targets, distractors, offset)
    steps = torch.arange(logits.shape[2], device=logits.device)
    ends = (lengths[:, None] - offset - steps).clamp(min=0)
    valid = torch.arange(logits.shape[1], device=logits.device)[:, None] < ends[:, None]
    losses = torch.where(valid, _losses(logits, config), 0).sum((0, 1))
    best, worst = logits.argmax(3) == 0, logits.argmin(3) == 0
    found = best & ~worst & valid
    correct = (found / (logits == logits[..., :1]).sum(3)).sum((0, 1)) if shared_ties else found.sum((0, 1))
    return NoiseContrast(losses, correct, ends.sum(0))


def chance_nats(config: NoiseContrastConfig) -> float:
    """Loss of a prediction by who knows only how many candidates are true: what a healthy run must get below."""
    others = config.distractors + config.batch_distractors
    if config.loss == "infonce":
        return math.log(1 + others)
    if config.balanced:
        return 2 * math.log(2)
    return (1 + others) * math.log(1 + others) - others * math.log(others)


def _losses(logits: Tensor, config: NoiseContrastConfig) -> Tensor:
    """(..., 1 + N) to (...)."""
    if config.loss == "infonce":
        return torch.logsumexp(logits, -1) - logits[..., 0]
    weight = 1 / (logits.shape[-1] - 1) if config.balanced else 1.0
    return F.softplus(-logits[..., 0]) + weight * F.softplus(logits[..., 1:]).sum(-1)
