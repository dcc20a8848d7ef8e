"""Pairs of utterances, by the same speaker or not: trials, the equal error rate, and the detection cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from firstwords.errors import CorpusError
from firstwords.scoring import Interval

PAIRS = 20_000
"""Most pairs of either kind that `make_trials` draws."""
SPEAKERS_FOR_RESAMPLING = 10
"""From so many speakers on, intervals come from resampling speakers: their pairs err together."""


class Trial(NamedTuple):
    """Two utterances, and whether one speaker said both."""

    same: bool
    first: str
    second: str


def read_trials(path: Path) -> list[Trial]:
    """Trials of a text file as VoxCeleb's: `1 FIRST SECOND` or `0 FIRST SECOND` a line, utterances by their ids.

    Raises:
        CorpusError: it cannot be read, or a line says something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: trials cannot be read ({error})") from error
    trials = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[0] not in ("0", "1"):
            raise CorpusError(f"{path}, line {number}: expected 1 or 0 and two ids, found {line.strip()[:60]!r}")
        trials.append(Trial(words[0] == "1", words[1], words[2]))
    if not trials:
        raise CorpusError(f"{path}: no trials in it")
    return trials


def make_trials(speakers: Mapping[str, str], seed: int = 0, most: int = PAIRS) -> list[Trial]:
    """Pairs of the utterances given: those by the same speaker, and as many by two; each at most `most`, by the seed.

    Args:
        speakers: speaker of each utterance's id.
        seed: of the choice.
        most: pairs of either kind.
    """
    names = sorted(speakers)
    number = {speaker: index for index, speaker in enumerate(sorted(set(speakers.values())))}
    owner = np.array([number[speakers[name]] for name in names], dtype=np.int64)
    random = np.random.default_rng(seed)
    rows = [np.flatnonzero(owner == speaker) for speaker in range(len(number))]
    same = [
        np.stack([own[left], own[right]], 1)
        for own in rows
        if len(own) > 1
        for left, right in [np.triu_indices(len(own), 1)]
    ]
    pairs = np.concatenate(same) if same else np.zeros((0, 2), np.int64)
    if len(pairs) > most:
        pairs = pairs[np.sort(random.choice(len(pairs), most, replace=False))]
    trials = [Trial(True, names[a], names[b]) for a, b in pairs.tolist()]
    return trials + [Trial(False, names[a], names[b]) for a, b in _apart(owner, max(len(pairs), 1), random)]


def _apart(owner: np.ndarray, count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """At most `count` different pairs of rows that belong to two speakers."""
    total = len(owner)
    sizes = np.bincount(owner) if total else np.zeros(0, np.int64)
    possible = (total * total - int((sizes**2).sum())) // 2
    if possible <= 4 * count:
        left, right = np.triu_indices(total, 1)
        found = np.stack([left, right], 1)[owner[left] != owner[right]]
        chosen = found if len(found) <= count else found[np.sort(random.choice(len(found), count, replace=False))]
        return [(int(a), int(b)) for a, b in chosen]
    drawn: dict[tuple[int, int], None] = {}
    while len(drawn) < count:
        for a, b in random.integers(total, size=(count, 2)).tolist():
            if owner[a] != owner[b] and len(drawn) < count:
                drawn[min(a, b), max(a, b)] = None
    return list(drawn)


@dataclass(frozen=True)
class VerificationScore:
    """How well scores tell pairs by one speaker from pairs by two."""

    equal_error_rate: float
    """Where as large a share of the same-speaker pairs is refused as of the others is accepted."""
    interval: Interval | None
    """Of the equal error rate; None where there is too little to resample."""
    threshold: float
    """The score at which that is."""
    detection_cost: float
    """Smallest normalised cost, a same-speaker pair having the prior `prior` and both errors costing 1."""
    prior: float
    same: int
    """Pairs by one speaker."""
    different: int
    """Pairs by two."""


def verification_score(
    trials: Sequence[Trial],
    scores: np.ndarray,
    speakers: Mapping[str, str] | None = None,
    prior: float = 0.01,
    resamples: int = 500,
    seed: int = 0,
) -> VerificationScore:
    """Equal error rate with an interval, and the smallest detection cost (NIST speaker recognition evaluations).

    Args:
        trials: which pairs.
        scores: (n,) the higher, the more alike.
        speakers: of each utterance's id. With enough of them the interval comes from resampling speakers (a pair counts
            as often as both of its speakers were drawn), else from resampling pairs.
        prior: of a same-speaker pair in the detection cost.
        resamples: draws of the bootstrap; 0 for no interval.
        seed: of the bootstrap.

    Raises:
        CorpusError: pairs of one kind only.
    """
    same = np.array([trial.same for trial in trials], dtype=bool)
    if not same.any() or same.all():
        kind = "by two speakers" if not same.any() else "by one speaker"
        raise CorpusError(f"all {len(trials)} trials are pairs {kind}: an equal error rate needs both kinds")
    order = np.argsort(scores, kind="stable")
    ranked, hit = scores[order], same[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    """Where a threshold can lie: after the last of equal scores."""
    one = np.ones(len(same))
    misses, alarms = _error_curves(hit, one, last)
    rate, place = _crossing(misses, alarms)
    thresholds = np.append(ranked[:1] - 1.0, ranked[last])
    costs = prior * misses + (1 - prior) * alarms
    interval = _interval(trials, order, hit, last, speakers, resamples, seed)
    cost = float(costs.min() / min(prior, 1 - prior))
    return VerificationScore(rate, interval, float(thresholds[place]), cost, prior, int(same.sum()), int((~same).sum()))


def _error_curves(hit: np.ndarray, weights: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of misses and of false alarms when everything up to a threshold is refused, nothing first."""
    own, others = weights * hit, weights * ~hit
    misses = np.cumsum(own)[last] / max(own.sum(), 1e-12)
    alarms = 1 - np.cumsum(others)[last] / max(others.sum(), 1e-12)
    return np.append(0.0, misses), np.append(1.0, alarms)


def _crossing(misses: np.ndarray, alarms: np.ndarray) -> tuple[float, int]:
    """The rate where the two curves cross, between thresholds by a straight line, and the threshold's number."""
    after = int(np.argmax(misses >= alarms))
    before = max(after - 1, 0)
    above = alarms[before] - misses[before]
    below = misses[after] - alarms[after]
    share = above / (above + below) if above + below > 0 else 0.0
    return float(misses[before] + share * (misses[after] - misses[before])), after


def _interval(
    trials: Sequence[Trial],
    order: np.ndarray,
    hit: np.ndarray,
    last: np.ndarray,
    speakers: Mapping[str, str] | None,
    resamples: int,
    seed: int,
) -> Interval | None:
    if resamples < 1 or len(trials) < 3:
        return None
    random = np.random.default_rng(seed)
    names = sorted({speakers[name] for t in trials for name in (t.first, t.second)}) if speakers else []
    by_speaker = speakers is not None and len(names) >= SPEAKERS_FOR_RESAMPLING
    if by_speaker and speakers is not None:
        number = {name: index for index, name in enumerate(names)}
        owners = np.array([[number[speakers[t.first]], number[speakers[t.second]]] for t in trials])[order]
    rates = []
    for _ in range(resamples):
        if by_speaker:
            drawn = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names)).astype(float)
            # a pair by one speaker comes as often as its speaker, one by two as often as both together
            weights = np.where(hit, drawn[owners[:, 0]], drawn[owners[:, 0]] * drawn[owners[:, 1]])
        else:
            weights = np.bincount(random.integers(len(hit), size=len(hit)), minlength=len(hit)).astype(float)
        if (weights * hit).any() and (weights * ~hit).any():
            rates.append(_crossing(*_error_curves(hit, weights, last))[0])
    if not rates:
        return None
    low, high = np.quantile(rates, (0.025, 0.975))
    return Interval(float(low), float(high), "speakers" if by_speaker else "trials", resamples)
