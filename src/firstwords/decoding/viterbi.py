"""The best path of a recogniser trained with ASG, whose transitions make it more than each frame's best label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from firstwords.decoding.hypothesis import Hypothesis, asg_hypothesis
from firstwords.losses.asg import viterbi_path


class ViterbiDecoder:
    """What `GreedyDecoder` is for CTC (see `Decoder`).

    Args:
        transitions: (N, N) scores, entry [i, j] for the step from j to i.
    """

    def __init__(self, transitions: np.ndarray) -> None:
        self.transitions = np.asarray(transitions, dtype=np.float64)

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """One reading of each utterance, from emissions (T, N), normalised in each frame or not."""
        return [[self._read(one)] for one in emissions]

    def _read(self, emissions: Tensor) -> Hypothesis:
        if not len(emissions):
            return Hypothesis((), (), 0.0)
        path = viterbi_path(emissions[None], torch.tensor([len(emissions)]), torch.from_numpy(self.transitions))[0]
        return asg_hypothesis(path.numpy(), emissions.numpy(), self.transitions)
