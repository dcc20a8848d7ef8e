"""The contrastive loss (wav2vec 2.0 equation 3): tell a masked frame's target from distractors.

All similarities of an utterance come from one matrix product over its masked frames; distractors are indices into it,
so no vector is ever copied. A distractor with the same codes as the target is not one, and is taken out (fairseq).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.nn.distractors import draw_distractors
from firstwords.nn.masking import Spans


@dataclass(frozen=True)
class ContrastConfig:
    """Distractors and scored frames."""

    temperature: float = 0.1
    """Divides cosine similarities. Source: wav2vec 2.0 section 4.2."""
    distractors: int = 100
    """K, drawn from the same utterance. Source: wav2vec 2.0 section 4.2."""
    candidates: Literal["masked", "all"] = "masked"
    """Frames that targets and distractors come from: masked ones, or every frame (ablation: 8.07 against 7.97)."""
    batch_distractors: int = 0
    """Further distractors from all utterances of the micro-batch (the paper's ablation has 50 + 50: 8.79)."""
    scored: Literal["all", "edges", "centres"] = "all"
    """Masked frames in the loss: all (the method), those near an unmasked edge, or the middle of each span."""
    edge_frames: int = 10
    """With scored="edges": the first U masked frames next to an unmasked one, on either side (paper Table 13)."""

    def __post_init__(self) -> None:
        if min(self.distractors, self.batch_distractors) < 0 or self.distractors + self.batch_distractors < 1:
            raise ConfigError(
                f"contrast: no distractors: {self.distractors}, and {self.batch_distractors} of the batch"
            )
        if not self.temperature > 0 or self.edge_frames < 1:
            raise ConfigError(
                "contrast: temperature must be above 0 and edge_frames at least 1; "
                f"found {self.temperature} and {self.edge_frames}"
            )


class ContrastIndices(NamedTuple):
    """Which frames of a batch are compared with which. Frames are numbered b * T + t.

    Candidates and scored frames are laid out in U groups (utterances, or the whole batch where distractors cross
    utterances) of at most N and P frames each.
    """

    pool: Tensor
    """(n,) frame of every candidate target, in order."""
    pool_slots: Tensor
    """(n,) its place among the U * N slots."""
    scored: Tensor
    """(p,) frame of every scored context representation, in order."""
    scored_slots: Tensor
    """(p,) its place among the U * P slots."""
    choices: Tensor
    """(U, P, 1 + K) slots, within the group's N, of the positive and then its distractors."""
    sizes: tuple[int, int, int]
    """U, N, P."""

    def to(self, device: torch.device) -> ContrastIndices:
        """The same on another device."""
        return ContrastIndices(
            self.pool.to(device, non_blocking=True),
            self.pool_slots.to(device, non_blocking=True),
            self.scored.to(device, non_blocking=True),
            self.scored_slots.to(device, non_blocking=True),
            self.choices.to(device, non_blocking=True),
            self.sizes,
        )


class Contrast(NamedTuple):
    """Sums over the scored frames of a batch."""

    loss: Tensor
    """Cross entropy in nats, summed."""
    correct: Tensor
    """Frames whose target has the highest similarity, less those where all are equal."""
    frames: int
    """Scored frames."""
    unopposed: Tensor
    """Frames whose distractors all had the target's codes and were left out: their loss is 0, whatever is learnt."""


def scored_frames(mask: np.ndarray, spans: Spans, config: ContrastConfig) -> np.ndarray:
    """(T,) bool: the masked frames of one utterance that the loss looks at."""
    if config.scored == "centres":
        return spans.centres() & mask
    if config.scored == "edges":
        unmasked = np.flatnonzero(~mask)
        if len(unmasked) == 0:
            return mask
        frames = np.arange(len(mask))
        after = np.searchsorted(unmasked, frames)
        to_right = unmasked[np.minimum(after, len(unmasked) - 1)] - frames
        to_left = frames - unmasked[np.maximum(after - 1, 0)]
        distance = np.minimum(np.where(to_right > 0, to_right, len(mask)), np.where(to_left > 0, to_left, len(mask)))
        return mask & (distance <= config.edge_frames)
    return mask


def contrast_indices(
    masks: Sequence[np.ndarray],
    scored: Sequence[np.ndarray],
    frames: int,
    config: ContrastConfig,
    randoms: Sequence[np.random.Generator],
) -> ContrastIndices:
    """Draws distractors and lays out a batch.

    Args:
        masks: per utterance (T_b,) bool, its masked frames.
        scored: per utterance (T_b,) bool, those that the loss looks at.
        frames: T of the padded batch.
        config: how many distractors, from where.
        randoms: a generator per utterance, so that an utterance's distractors do not depend on its neighbours.
    """
    pools = [np.flatnonzero(mask) if config.candidates == "masked" else np.arange(len(mask)) for mask in masks]
    wanted = [np.flatnonzero(mask) for mask in scored]
    positives = [np.searchsorted(pool, rows) for pool, rows in zip(pools, wanted, strict=True)]
    drawn = []
    for number, (pool, random) in enumerate(zip(pools, randoms, strict=True)):
        if len(pool) < 2 and not config.batch_distractors:  # nothing to be told from: not scored
            wanted[number], positives[number] = wanted[number][:0], positives[number][:0]
        own = draw_distractors(positives[number], len(pool), config.distractors, random)
        lacking = config.distractors - own.shape[1]
        drawn.append(np.concatenate([own, np.repeat(positives[number][:, None], lacking, axis=1)], 1))
    base = np.arange(len(masks)) * frames
    pool_frames = [pool + offset for pool, offset in zip(pools, base, strict=True)]
    scored_rows = [rows + offset for rows, offset in zip(wanted, base, strict=True)]
    choices = [np.concatenate([own[:, None], far], 1) for own, far in zip(positives, drawn, strict=True)]
    if config.batch_distractors:
        offsets = np.cumsum([0] + [len(pool) for pool in pools[:-1]])
        merged = np.concatenate([choice + offset for choice, offset in zip(choices, offsets, strict=True)])
        total = sum(map(len, pools))
        far = draw_distractors(merged[:, 0], total, config.batch_distractors, randoms[0])
        pool_frames, scored_rows = [np.concatenate(pool_frames)], [np.concatenate(scored_rows)]
        choices = [np.concatenate([merged, far], 1)]
    return _lay_out(pool_frames, scored_rows, choices)


def _lay_out(pools: list[np.ndarray], scored: list[np.ndarray], choices: list[np.ndarray]) -> ContrastIndices:
    groups, most, rows = len(pools), max(map(len, pools)), max(map(len, scored))
    padded = np.zeros((groups, rows, choices[0].shape[1]), dtype=np.int64)
    for number, choice in enumerate(choices):
        padded[number, : len(choice)] = choice
    slots = [
        [np.arange(len(part)) + number * width for number, part in enumerate(parts)]
        for parts, width in ((pools, most), (scored, rows))
    ]
    pool, pool_slots, wanted, wanted_slots = (
        torch.from_numpy(np.concatenate(parts)) for parts in (pools, slots[0], scored, slots[1])
    )
    sizes = (groups, most, rows)
    return ContrastIndices(pool, pool_slots, wanted, wanted_slots, torch.from_numpy(padded), sizes)


def contrastive_logits(
    context: Tensor, targets: Tensor, codes: Tensor | None, indices: ContrastIndices, temperature: float
) -> Tensor:
    """Cosine similarities over temperature of context (p, f) with its choices among targets (n, f), in fp32.

    Returns:
        (p, 1 + K), the positive first. Distractors with the positive's codes (n, G) are -inf.
    """
    groups, most, rows = indices.sizes
    left = _spread(F.normalize(context.float(), dim=-1, eps=1e-8), indices.scored_slots, groups * rows)
    right = _spread(F.normalize(targets.float(), dim=-1, eps=1e-8), indices.pool_slots, groups * most)
    with torch.autocast(context.device.type, enabled=False):
        similarity = torch.bmm(left.unflatten(0, (groups, rows)), right.unflatten(0, (groups, most)).mT)
    logits = similarity.gather(2, indices.choices) / temperature
    if codes is not None:
        names = _spread(_name_codes(codes), indices.pool_slots, groups * most).view(groups, most)
        chosen = names.gather(1, indices.choices.flatten(1)).view_as(indices.choices)
        same = chosen == chosen[:, :, :1]
    else:
        same = indices.choices == indices.choices[:, :, :1]
    same[:, :, 0] = False
    return logits.masked_fill(same, -math.inf).flatten(0, 1).index_select(0, indices.scored_slots)


def contrastive_loss(logits: Tensor) -> Contrast:
    """Cross entropy of logits (p, 1 + K) whose first column is the positive."""
    loss = (torch.logsumexp(logits, 1) - logits[:, 0]).sum()
    best, worst = logits.argmax(1) == 0, logits.argmin(1) == 0
    unopposed = (logits[:, 1:].amax(1) == -math.inf).sum() if len(logits) else best.sum()
    return Contrast(loss, (best & ~worst).sum(), len(logits), unopposed)


def _spread(rows: Tensor, slots: Tensor, size: int) -> Tensor:
    """Rows (n, ...) to their slots among `size`, zeros elsewhere."""
    return rows.new_zeros((size, *rows.shape[1:])).index_copy(0, slots, rows)


def _name_codes(codes: Tensor) -> Tensor:
    """(n, G) codes to (n,) integers, equal where all codes are (powers of a large odd factor, wrapping at 64 bits)."""
    names = torch.zeros_like(codes[:, 0])
    for group in range(codes.shape[1]):
        names = names * 1_000_003 + codes[:, group]
    return names
