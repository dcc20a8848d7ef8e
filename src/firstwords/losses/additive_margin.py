"""Additive-margin softmax (Wang, Cheng, Liu and Liu 2018, equation 6): classes told apart by angle, with a margin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(vectors: Tensor, centres: Tensor) -> Tensor:
    """(B, C) cosines of vectors (B, D) with class centres (D, C)."""
    return F.normalize(vectors, dim=1) @ F.normalize(centres, dim=0)


def additive_margin_logits(cosine: Tensor, classes: Tensor, scale: float = 30.0, margin: float = 0.4) -> Tensor:
    """(B, C) logits whose cross-entropy is the loss: `scale` times the cosines, the own class's less `margin`.

    Args:
        cosine: (B, C).
        classes: (B,) the right class of each.
        scale, margin: s and m of the paper. Source: SUPERB's speaker verification and transformers (30 and 0.4).
    """
    own = F.one_hot(classes, cosine.shape[1]).bool()
    return scale * torch.where(own, cosine - margin, cosine)
