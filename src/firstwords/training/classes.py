"""The classes of a run: which there are, which utterances have one, what is odd about them, and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.labels import label_of, labels_of, stretches_of
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

IGNORED = -100
"""Target of a frame without a class, or of a validation utterance whose class is not in training."""
MANY = 0.5
"""Share of unlabelled utterances, and of classes among utterances, from which on a run says that it wonders."""


class Classes:
    """Classes that a field of the manifest names, of utterances or of stretches of them.

    Args:
        training: utterances whose classes are learnt.
        field: key of the manifest.
        stretches: the field holds stretches with their times (a head on frames).

    Raises:
        CorpusError: no utterance has a class, or all have the same.
    """

    def __init__(self, training: Sequence[Utterance], field: str, stretches: bool = False) -> None:
        self.field = field
        self.stretches = stretches
        self.notes: list[str] = []
        """What the user should know, in sentences."""
        named = self._named(training)
        self._say_lacking(len(training) - len(named), len(training), "training")
        self.labels = sorted({label for labels in named.values() for label in labels})
        """In the order of the outputs."""
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        self._check(named)

    def _named(self, utterances: Sequence[Utterance]) -> dict[str, list[str]]:
        """Classes in each utterance that has any, by id."""
        if not self.stretches:
            return {name: [label] for name, label in labels_of(utterances, self.field).items()}
        found = {u.id: [label for _, _, label in stretches_of(u, self.field)] for u in utterances}
        named = {name: labels for name, labels in found.items() if labels}
        if not named:
            raise CorpusError(
                f"none of {len(utterances)} utterances has stretches under {self.field!r}: a head on frames learns "
                "from a list of [start, end, class] with times in seconds"
            )
        return named

    def _say_lacking(self, lacking: int, total: int, split: str) -> None:
        if lacking:
            wonder = "; is that the right field?" if lacking > MANY * total else ""
            self.notes.append(
                f"{lacking} of {total} {split} utterances have no {self.field!r} and are left out{wonder}"
            )

    def _check(self, named: dict[str, list[str]]) -> None:
        if len(self.labels) < 2:
            raise CorpusError(
                f"all {len(named)} training utterances have the one class {self.labels[0]!r} ({self.field}): there is "
                "nothing to tell apart; add utterances of another class"
            )
        counts = Counter(label for labels in named.values() for label in set(labels))
        single = sorted(label for label, count in counts.items() if count == 1)
        if not self.stretches and len(self.labels) > MANY * len(named):
            self.notes.append(
                f"{len(self.labels)} classes in {len(named)} training utterances: does {self.field!r} name classes?"
            )
        elif single:
            self.notes.append(f"{_some(single)} of {len(self.labels)} classes have one training utterance each")

    def has(self, utterance: Utterance) -> bool:
        """Whether an utterance has a class, known or not."""
        if self.stretches:
            return bool(stretches_of(utterance, self.field))
        return label_of(utterance, self.field) is not None

    def of(self, utterance: Utterance) -> str:
        """The class of an utterance that has one."""
        return label_of(utterance, self.field) or ""

    def known(self, validation: Sequence[Utterance], unseen: bool = False) -> list[Utterance]:
        """Those with a class that training teaches; what is left out is noted.

        Args:
            validation: any utterances.
            unseen: keep other classes too (speakers of trials).
        """
        named = [u for u in validation if self.has(u)]
        self._say_lacking(len(validation) - len(named), len(validation), "validation")
        if unseen or self.stretches:
            return named
        kept = [u for u in named if self.of(u) in self.numbers]
        if strange := sorted({self.of(u) for u in named} - set(self.labels)):
            self.notes.append(
                f"{_some(strange)} classes of the validation are not in training: {len(named) - len(kept)} utterances "
                "are left out of the validation"
            )
        return kept

    def targets(self, utterances: Sequence[Utterance]) -> Tensor:
        """(B,) numbers of the classes."""
        return torch.tensor([self.numbers.get(self.of(u), IGNORED) for u in utterances])

    def frame_targets(
        self, utterances: Sequence[Utterance], starts: Sequence[float], lengths: Tensor, encoder: Any
    ) -> Tensor:
        """(B, T) the class at the middle of each frame.

        Args:
            starts: seconds by which the beginning of each was cut off.
            lengths: (B,) samples.
            encoder: whose frames.
        """
        front = encoder.feature_encoder
        frames = encoder.frames(lengths)
        targets = torch.full((len(utterances), int(frames.max())), IGNORED)
        for row, utterance, start, count in zip(targets, utterances, starts, frames.tolist(), strict=True):
            times = start + (np.arange(count) * front.hop + front.receptive_field / 2) / SAMPLE_RATE
            for begin, end, label in stretches_of(utterance, self.field):
                inside = torch.from_numpy((times >= begin) & (times < end))
                row[:count][inside] = self.numbers.get(label, IGNORED)
        return targets


def _some(names: Sequence[str], most: int = 8) -> str:
    return f"{len(names)} ({', '.join(map(repr, names[:most]))}{', ...' if len(names) > most else ''})"
