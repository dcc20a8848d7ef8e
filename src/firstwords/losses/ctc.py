"""Connectionist temporal classification (Graves et al. 2006), summed over utterances, in fp32."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.nn.lengths import length_mask

BLANK = 0


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log probability of each target, nats, (B,).

    Infinite, with no gradient, where a target does not fit its frames.

    Args:
        logits: (B, T, V), not normalised; index 0 is the blank.
        lengths: (B,) valid frames.
        targets: (B, L) label indices, anything beyond their lengths.
        target_lengths: (B,) labels, may be 0.
    """
    log_probabilities = logits.float().log_softmax(-1) if logits.dtype != torch.double else logits.log_softmax(-1)
    impossible = _frames_needed(targets, target_lengths) > lengths
    # the library's gradient of an infinite loss is NaN, even where nobody asks for it
    log_probabilities = torch.where(impossible[:, None, None], log_probabilities.detach(), log_probabilities)
    with torch.backends.cudnn.flags(enabled=False):
        return F.ctc_loss(
            log_probabilities.transpose(0, 1), targets, lengths, target_lengths, blank=BLANK, reduction="none"
        )


def frames_needed(labels: list[int]) -> int:
    """Frames that CTC needs to spell labels: one each, and a blank between two that are alike."""
    return len(labels) + sum(left == right for left, right in pairwise(labels))


def _frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """`frames_needed` of padded targets (B, L)."""
    alike = targets[:, 1:] == targets[:, :-1]
    return target_lengths + (alike & length_mask(target_lengths - 1, alike.shape[1])).sum(1)
