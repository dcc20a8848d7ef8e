"""Distractors: the other frames that a masked frame's target must be told from (wav2vec 2.0 section 3.2)."""

from __future__ import annotations

import numpy as np


def draw_distractors(positives: np.ndarray, pool: int, count: int, random: np.random.Generator) -> np.ndarray:
    """For every positive, `count` members of a pool other than itself, uniformly, with replacement.

    Args:
        positives: (M,) index in the pool of each positive.
        pool: size of the pool (the masked frames of the utterance, or all its frames, or those of the batch).
        count: K distractors each.

    Returns:
        (M, K) indices into the pool. A pool of one has no others: (M, 0).
    """
    if pool < 2:
        return np.zeros((len(positives), 0), dtype=np.int64)
    drawn = random.integers(0, pool - 1, (len(positives), count))
    return drawn + (drawn >= positives[:, None])
