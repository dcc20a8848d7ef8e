"""The diversity loss (wav2vec 2.0 equation 4): use all entries of all codebooks alike."""

from __future__ import annotations

from torch import Tensor

from firstwords.nn.quantizer import perplexity


def diversity_loss(probabilities: Tensor, frames: float | Tensor) -> Tensor:
    """(G V - sum of perplexities) / (G V), from 0 (all entries alike) to nearly 1 (one entry).

    Args:
        probabilities: (G, V) sum over frames of the entries' probabilities, no noise, no temperature.
        frames: how many frames the sum covers.

    The paper prints an entropy; its footnote and the released code maximise perplexity, as here.
    """
    entries = probabilities.numel()
    return (entries - perplexity(probabilities / frames).sum()) / entries
