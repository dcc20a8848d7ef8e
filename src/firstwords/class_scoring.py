"""How well utterances are put into classes: accuracy, macro-F1, intervals, each class, and what is taken for what."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from firstwords.errors import CorpusError
from firstwords.scoring import SPEAKERS_FOR_RESAMPLING, Interval, resampled_rates


@dataclass(frozen=True)
class Classified:
    """An utterance with its class and the one that was found."""

    id: str
    reference: str
    hypothesis: str
    speaker: str | None = None
    probability: float | None = None
    """That the classifier gave what it found."""


@dataclass(frozen=True)
class ClassScore:
    """One class's figures."""

    label: str
    utterances: int
    """Of this class."""
    found: int
    """Put into this class, rightly or not."""
    right: int

    @property
    def recall(self) -> float:
        """Share of the class that was found."""
        return self.right / self.utterances if self.utterances else 0.0

    @property
    def precision(self) -> float:
        """Share of what was put into the class that belongs there."""
        return self.right / self.found if self.found else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.right / (self.utterances + self.found) if self.utterances + self.found else 0.0


@dataclass(frozen=True)
class ClassificationScore:
    """What `classification_score` found."""

    accuracy: float
    accuracy_interval: Interval | None
    macro_f1: float
    """Mean F1 of the classes that occur among references or findings (as scikit-learn has it by default)."""
    macro_f1_interval: Interval | None
    """Freed of the resampling's bias, which is large where classes have few utterances."""
    majority: float
    """Accuracy of always naming the commonest class."""
    classes: list[ClassScore]
    """In the order of the labels."""
    confusions: np.ndarray
    """(C, C) counts, references down, findings across."""
    unknown: list[str]
    """Classes of references that the classifier does not have; they count as wrong."""
    utterances: list[Classified]

    @property
    def labels(self) -> list[str]:
        """Of rows and columns of `confusions`."""
        return [one.label for one in self.classes]

    def commonest(self, count: int) -> list[tuple[str, str, int]]:
        """(class, taken for, times), the commonest first."""
        pairs = Counter((u.reference, u.hypothesis) for u in self.utterances if u.reference != u.hypothesis)
        ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        return [(*pair, times) for pair, times in ranked[:count]]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON, every utterance included."""

        def interval(found: Interval | None) -> dict[str, Any] | None:
            return dataclasses.asdict(found) if found else None

        return {
            "accuracy": self.accuracy,
            "accuracy_interval": interval(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": interval(self.macro_f1_interval),
            "majority": self.majority,
            "utterances": len(self.utterances),
            "unknown": self.unknown,
            "classes": [
                dataclasses.asdict(one) | {"recall": one.recall, "precision": one.precision, "f1": one.f1}
                for one in self.classes
            ],
            "labels": self.labels,
            "confusions": self.confusions.tolist(),
            "details": [dataclasses.asdict(one) for one in self.utterances],
        }


def classification_score(
    found: Sequence[Classified],
    labels: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    by_speaker: bool = True,
) -> ClassificationScore:
    """Scores of a classifier over a test set.

    Args:
        found: references and findings.
        labels: the classifier's classes; those of references that it lacks are added.
        resamples: draws of the bootstrap, which resamples speakers where every utterance has one and there are at
            least SPEAKERS_FOR_RESAMPLING of them, else utterances.
        seed: of the bootstrap.
        by_speaker: False resamples utterances in any case: where speakers are what is found, they are the classes.

    Raises:
        CorpusError: nothing to score.
    """
    if not found:
        raise CorpusError("nothing to score: no utterance has both a label and a finding")
    unknown = sorted({one.reference for one in found} - set(labels))
    names = [*labels, *unknown]
    number = {name: index for index, name in enumerate(names)}
    pairs = np.array([[number[one.reference], number[one.hypothesis]] for one in found])
    confusions = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusions, (pairs[:, 0], pairs[:, 1]), 1)
    classes = [
        ClassScore(name, int(confusions[i].sum()), int(confusions[:, i].sum()), int(confusions[i, i]))
        for i, name in enumerate(names)
    ]
    groups, unit = _groups(found, by_speaker)
    hits = (pairs[:, 0] == pairs[:, 1]).astype(float)
    table = np.stack([np.bincount(groups, weights=hits), np.bincount(groups).astype(float)], 1)
    macro_f1 = _macro_f1(confusions.diagonal(), confusions.sum(1), confusions.sum(0))
    accuracy_interval = f1_interval = None
    if len(table) > 1 and resamples:
        low, high = np.quantile(resampled_rates(table, resamples, seed), (0.025, 0.975))
        accuracy_interval = Interval(float(low), float(high), unit, resamples)
        drawn = _resampled_f1(pairs, groups, len(names), resamples, seed)
        drawn += macro_f1 - drawn.mean()  # a class with few utterances fares worse in most resamples than in the set
        low, high = np.clip(np.quantile(drawn, (0.025, 0.975)), 0, 1)
        f1_interval = Interval(float(low), float(high), unit, resamples)
    return ClassificationScore(
        float(hits.mean()),
        accuracy_interval,
        macro_f1,
        f1_interval,
        float(confusions.sum(1).max() / len(found)),
        classes,
        confusions,
        unknown,
        list(found),
    )


def _macro_f1(right: np.ndarray, referred: np.ndarray, found: np.ndarray) -> float:
    there = (referred + found) > 0
    return float((2 * right[there] / (referred + found)[there]).mean())


def _resampled_f1(pairs: np.ndarray, groups: np.ndarray, classes: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples,) macro-F1 when groups are drawn with replacement."""
    random = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    hit = pairs[:, 0] == pairs[:, 1]
    rates = np.zeros(resamples)
    for number in range(resamples):
        weights = np.bincount(random.integers(count, size=count), minlength=count)[groups].astype(float)
        sums = [np.bincount(pairs[:, side], weights=weights, minlength=classes) for side in (0, 1)]
        right = np.bincount(pairs[hit, 0], weights=weights[hit], minlength=classes)
        rates[number] = _macro_f1(right, sums[0], sums[1])
    return rates


def _groups(
    found: Sequence[Classified], by_speaker: bool
) -> tuple[np.ndarray, Literal["utterances", "speakers", "trials"]]:
    """For each utterance the number of what is resampled together with it, and what that is."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(one.speaker for one in found))}
    if not by_speaker or None in numbers or len(numbers) < SPEAKERS_FOR_RESAMPLING:
        return np.arange(len(found)), "utterances"
    return np.array([numbers[one.speaker] for one in found]), "speakers"
