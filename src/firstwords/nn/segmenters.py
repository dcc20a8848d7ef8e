"""Phone-sized steps out of finer ones (wav2vec-U section 3.3): equal choices joined, or uniform pooling."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.nn.lengths import length_mask


class Joined(NamedTuple):
    """Sequences after joining."""

    logits: Tensor
    """(M, B, R, V); 0 beyond a row's steps."""
    lengths: Tensor
    """(M, B) steps of each row."""
    sizes: Tensor
    """(M,) steps that each member's batch counts as having: the most runs of any of its rows, where a row with padding
    has one run more. What averages over padding too, as the reference does, needs it."""


def join(
    logits: Tensor, lengths: Tensor, draws: Tensor | None = None, width: int | None = None, remove_zeros: bool = False
) -> Joined:
    """Joins runs of steps whose highest logit is the same symbol's.

    Args:
        logits: (M, B, T, V) of M models side by side.
        lengths: (B,) steps that are valid.
        draws: (M, B, T) or (B, T), uniform in [0, 1): a run becomes the step at `draws[run]` of its length, run counted
            from 0; None takes the mean of its logits. Source: random in training, mean in evaluation.
        width: steps of the batch that the lengths were padded to; T unless padding was added since.
        remove_zeros: leave runs of symbol 0 out.
    """
    members, rows, steps, symbols = logits.shape
    inside = length_mask(lengths, steps)
    chosen = torch.where(inside, logits.detach().argmax(-1), -1)
    begins = chosen != F.pad(chosen[..., :-1], (1, 0), value=-2)
    begins &= inside
    sizes = (begins.sum(-1) + (lengths < (steps if width is None else width))).amax(1)
    kept = inside.expand_as(begins)
    if remove_zeros:
        begins, kept = begins & (chosen != 0), kept & (chosen != 0)
    run = begins.cumsum(-1) - 1
    counts = begins.sum(-1)
    size = int(sizes.max())
    place = torch.where(kept, run, size)  # what belongs to no run falls into a place beyond the last
    if draws is None:
        shape = (members, rows, size + 1, symbols)
        total = logits.new_zeros(shape).scatter_add(2, place[..., None].expand(-1, -1, -1, symbols), logits)
        number = logits.new_zeros(shape[:3]).scatter_add(2, place, logits.new_ones(()).expand(place.shape))
        joined = (total / number.clamp(min=1)[..., None])[:, :, :size]
    else:
        number = torch.zeros(members, rows, size + 1, dtype=torch.long, device=logits.device)
        number.scatter_add_(2, place, torch.ones_like(place))
        first = torch.zeros_like(number)
        first.scatter_(2, torch.where(begins, run, size), torch.arange(steps, device=logits.device).expand_as(run))
        share = F.pad(draws, (0, max(0, size - draws.shape[-1])))[..., :size].expand(members, rows, size)
        picked = first[..., :size] + (number[..., :size] * share).long()
        joined = logits.gather(2, picked.clamp(max=steps - 1)[..., None].expand(-1, -1, -1, symbols))
    valid = torch.arange(size, device=logits.device) < counts[..., None]
    return Joined(joined * valid[..., None], counts, sizes)


def pool_uniformly(features: Tensor, lengths: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """The mean of equal pieces of a batch; zeros beyond a row's end count where a piece goes over it.

    Args:
        features: (B, T, D), 0 beyond the lengths.
        lengths: (B,) valid steps.
        rate: pieces for each step, 0 to 1: ceil(T rate) pieces of equal length.

    Returns:
        (B, T', D), and (B,) pieces that have a valid step in them.
    """
    rows, steps, width = features.shape
    target = math.ceil(steps * rate)
    padded = F.pad(features, (0, 0, 0, -steps % target))
    piece = padded.shape[1] // target
    return padded.view(rows, target, piece, width).mean(2), -(-lengths // piece)
