"""The noise-contrastive loss of wav2vec and vq-wav2vec (wav2vec section 2.2, equation 1).

What a frame predicts of the frames to come is told from distractors: other frames of the same utterance, one set for
each target, shared by all steps (fairseq). All similarities of a step come from one matrix product over an utterance;
distractors are indices into it, so no vector is ever copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.nn.distractors import draw_distractors
from firstwords.nn.lengths import length_mask


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


def step_logits(predictions: Tensor, targets: Tensor, distractors: Distractors, offset: int) -> Iterator[Tensor]:
    """For each step in turn, similarities (B, T - offset - step, 1 + N + M) of targets, the true one first.

    Row t is about target offset + step + t, as frame t predicted it. Steps that reach beyond the last frame are left
    out.

    Args:
        predictions: (B, T, K, D).
        targets: (B, T, D), latents or what stands for them (vq-wav2vec: quantised ones).
        distractors: of every target.
        offset: frames from a context to its first target.
    """
    batch, frames, steps, _ = predictions.shape
    for step in range(steps):
        ahead = offset + step
        rows = frames - ahead
        if rows < 1:
            return
        made = predictions[:, :rows, step]
        true = torch.arange(ahead, frames, device=targets.device).expand(batch, -1)[:, :, None]
        choices = torch.cat([true, distractors.own[:, ahead:]], 2)
        logits = torch.bmm(made, targets.mT).gather(2, choices)
        if distractors.others.shape[2]:
            far = torch.matmul(made, targets.flatten(0, 1).T).gather(2, distractors.others[:, ahead:])
            logits = torch.cat([logits, far], 2)
        yield logits


def noise_contrastive_loss(
    predictions: Tensor,
    targets: Tensor,
    lengths: Tensor,
    distractors: Distractors,
    offset: int,
    config: NoiseContrastConfig,
) -> NoiseContrast:
    """Sums over all predictions whose target is a valid frame.

    Args:
        predictions: (B, T, K, D).
        targets: (B, T, D).
        lengths: (B,) valid frames.
        distractors: of every target.
        offset: frames from a context to its first target.
        config: the kind of loss.
    """
    steps = predictions.shape[2]
    losses, correct = ([targets.new_zeros((), dtype=torch.float32)] * steps for _ in range(2))
    count = [targets.new_zeros((), dtype=torch.int64)] * steps
    for step, logits in enumerate(step_logits(predictions, targets, distractors, offset)):
        valid = length_mask(lengths - offset - step, logits.shape[1])
        logits = logits.float()
        losses[step] = (_losses(logits, config) * valid).sum()
        best, worst = logits.argmax(2) == 0, logits.argmin(2) == 0
        correct[step] = (best & ~worst & valid).sum()
        count[step] = valid.sum()
    return NoiseContrast(torch.stack(losses), torch.stack(correct), torch.stack(count))


def chance_nats(config: NoiseContrastConfig) -> float:
    """Loss of a prediction by who knows only how many candidates are true: what a healthy run must get below."""
    others = config.distractors + config.batch_distractors
    if config.loss == "infonce":
        return math.log(1 + others)
    if config.balanced:
        return 2 * math.log(2)
    return (1 + others) * math.log(1 + others) - others * math.log(others)


def _losses(logits: Tensor, config: NoiseContrastConfig) -> Tensor:
    """(B, T, 1 + N) to (B, T)."""
    if config.loss == "infonce":
        return torch.logsumexp(logits, 2) - logits[:, :, 0]
    weight = 1 / (logits.shape[2] - 1) if config.balanced else 1.0
    return F.softplus(-logits[:, :, 0]) + weight * F.softplus(logits[:, :, 1:]).sum(2)
