"""How well discrete units agree with phones: phone purity, cluster purity, PNMI (HuBERT, Hsu et al. 2021, section IV).

With p(y, z) the share of frames that have phone y and unit z: phone purity is the share of frames whose phone is their
unit's commonest, the sum over z of max_y p(y, z); cluster purity the share whose unit is their phone's commonest, the
sum over y of max_z p(y, z), which falls as units become more; PNMI is I(y; z) / H(y), the part of what there is to know
of the phone that the unit tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from firstwords.audio import SAMPLE_RATE
from firstwords.codes import STRESSED
from firstwords.cooccurrence import Cooccurrence, entropy, information, purity
from firstwords.corpus.intervals import Interval, frame_labels
from firstwords.decoding.words import FrameClock


@dataclass(frozen=True)
class UnitQuality:
    """What units tell of phones."""

    phone_purity: float
    """0 to 1; 1 where no unit stands for two phones."""
    cluster_purity: float
    """0 to 1; 1 where no phone has two units."""
    pnmi: float
    """0 to 1: phone-normalised mutual information."""
    chance: float
    """About what PNMI would be if units and phones had nothing to do with each other, for so many units and frames."""
    commonest: float
    """Share of frames of the commonest phone: the phone purity of a single unit for everything."""
    frames: int
    """That were counted."""
    phones: int
    """Different ones, silence included."""
    units: int
    """Different ones that occurred."""
    perplexity: float
    """2 to the entropy of the units' use, 1 to `units`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return asdict(self)


class UnitCounts:
    """Counts units with the phones that they come with, utterance by utterance."""

    def __init__(self, stride: int, receptive_field: int, groups: int = 1, stress: bool = False) -> None:
        """
        Args:
            stride, receptive_field: of the frames, samples; a frame has the phone in the middle of what it sees.
            groups: codebooks G; more than one are counted together and each by itself.
            stress: keep the stress of ARPAbet's vowels (AH0, AH1), which are one phone otherwise.
        """
        self.clock = FrameClock(stride / SAMPLE_RATE, (receptive_field - stride) / 2 / SAMPLE_RATE)
        self.groups, self.stress = groups, stress
        self.utterances = 0
        """How many were counted."""
        self._seen: dict[tuple[int, ...], int] = {}
        self._counts = [Cooccurrence() for _ in range(1 + (groups if groups > 1 else 0))]

    def add(self, units: np.ndarray, intervals: Sequence[Interval]) -> None:
        """Counts an utterance: units (T, G), and what was said when."""
        middles = np.array([self.clock.seconds(frame + 0.5) for frame in range(len(units))])
        rows, places = np.unique(units, axis=0, return_inverse=True)
        numbers = np.array(
            [self._seen.setdefault(tuple(row), len(self._seen)) for row in rows.tolist()], dtype=np.int64
        )
        columns = [numbers[places.reshape(-1)], *(units.T if self.groups > 1 else ())]
        for counts, column in zip(self._counts, columns, strict=True):
            counts.add(column, frame_labels(intervals, middles, partial(self._phone, counts)))
        self.utterances += 1

    def _phone(self, counts: Cooccurrence, label: str) -> int:
        return counts.index(label[:-1] if not self.stress and label in STRESSED else label)

    @property
    def kind(self) -> str:
        """ "phones", or "characters" where every label is a single letter: a recogniser of letters aligned them."""
        names = [name for name in self._counts[0].table().names if not name.startswith("(")]
        return "characters" if names and all(len(name) == 1 for name in names) else "phones"

    def qualities(self) -> list[UnitQuality]:
        """Of the units; with several codebooks of all together, and then of each."""
        return [_quality(counts) for counts in self._counts]


def _quality(counts: Cooccurrence) -> UnitQuality:
    table = counts.table()
    phone_purity, cluster_purity = purity(table)
    told = information(table)
    chance = min(told.chance / told.label_entropy, 1.0) if told.label_entropy > 0 else 0.0
    labels = table.label_counts()
    commonest = float(labels.max(initial=0) / max(table.total, 1))
    return UnitQuality(
        phone_purity, cluster_purity, told.share, chance, commonest, table.total, int((labels > 0).sum()),
        len(table.used), 2 ** entropy(table.code_counts()),
    )  # fmt: skip
