"""Did a sweep converge? Said without labels, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from firstwords.scoring import ErrorCounts, word_errors
from firstwords.training.phone_choice import Judgement

FLUENT, DOUBTFUL = 0.35, 0.12
"""Fluency from which a member is believed, and below which it is not: real phones with random errors have 0.35 where
about 30 % are wrong, 0.12 where about half are. Calibrated: docs/unsupervised.md."""
AGREEING = 0.5
"""Share of phones that another member must say alike to count as agreeing; two that are wrong differently do not."""
WITNESSES, ALONE = 2, 0.5
"""So many others, none of whom agrees, and output is not believed below this fluency, and doubted above it. Clusters
deciphered wrongly reach 0.38, with text of another language (docs/results/unsupervised.md), each in its own way."""
BALANCED, UNBALANCED = 0.8, 0.6
"""Balance from which phones are about as frequent as the text's, and below which fluency means nothing: a few phones
that follow each other well are no speech."""


@dataclass(frozen=True)
class Verdict:
    """What a sweep believes of itself."""

    converged: bool | None
    """None: doubtful."""
    text: str
    fluency: float
    """Of the chosen member."""
    agreements: tuple[float, ...]
    """How much of what the chosen member says the next best members say too."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def agreement(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]], silence: str) -> float:
    """1 - phone error rate of `other`, were `one` the truth; silences left out, not below 0."""
    total = ErrorCounts()
    for left, right in zip(one, other, strict=True):
        total += word_errors(*(" ".join(phone for phone in said if phone != silence) for said in (left, right)))
    return max(0.0, 1 - total.rate)


def believed(fluency: float, balance: float) -> bool | None:
    """Whether output with these figures is like the text; None: partly."""
    if fluency >= FLUENT and balance >= BALANCED:
        return True
    return False if fluency < DOUBTFUL or balance < UNBALANCED else None


def conclude(best: Judgement, agreements: Sequence[float]) -> Verdict:
    """A verdict on the chosen member.

    Args:
        best: its best moment.
        agreements: with the next best members, best first.
    """
    agreeing = sum(value >= AGREEING for value in agreements)
    beside = (
        f"{agreeing} of the next {len(agreements)} members say much the same" if agreements else "no other to compare"
    )
    figures = (
        f"fluency {best.fluency:.2f}, from 0 for shuffled phones to 1 for real text; balance {best.balance:.0%}, where "
        f"phones as frequent as in the text have 100 %; {beside}"
    )
    converged = believed(best.fluency, best.balance)
    if converged is not False and len(agreements) >= WITNESSES and not agreeing:
        converged = None if best.fluency >= ALONE else False
    if converged:
        return Verdict(
            True, f"CONVERGED: what it hears is much like the text ({figures}).", best.fluency, tuple(agreements)
        )
    if converged is False:
        return Verdict(
            False,
            f"DID NOT CONVERGE: what it hears is little like the text ({figures}). Look at: the same language in "
            "speech and text? Silence removed from all speech? An encoder and layer that tell phones apart (15th block "
            "of a large one)? More seeds (grid.seeds), more speech.",
            best.fluency,
            tuple(agreements),
        )
    return Verdict(
        None,
        f"DOUBTFUL: partly like the text ({figures}). More updates or more seeds (grid.seeds) may mend it; listen to "
        "some outputs before building on them.",
        best.fluency,
        tuple(agreements),
    )
