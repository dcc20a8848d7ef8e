"""How wrong transcripts are: word, character and phone error rates, their intervals, and where the errors lie.

Texts are compared as they are given; bring references and hypotheses to the same spelling first
(`Alphabet.normalize`). White space only separates tokens.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
import numpy as np

from firstwords.errors import CorpusError

SPEAKERS_FOR_RESAMPLING = 10
"""From this many speakers on, intervals come from resampling speakers, since a speaker's utterances err together."""

Units = Literal["words", "phonemes"]
Alignment = list[tuple[str | None, str | None]]
"""Reference and hypothesis token side by side; None where a token was inserted or deleted."""


@dataclass(frozen=True)
class ErrorCounts:
    """Tokens of a reference that were hit, substituted or deleted, and tokens inserted into the hypothesis."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference_length(self) -> int:
        """Tokens in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """The edit distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token, 0 and up; can exceed 1. Where the reference is empty, the number of errors."""
        return self.errors / max(1, self.reference_length)

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    def to_dict(self) -> dict[str, float]:
        """The counts, the reference's length and the rate."""
        return dataclasses.asdict(self) | {"reference_length": self.reference_length, "rate": self.rate}


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Errors in tokens separated by white space. Either text may be empty."""
    return _count(align(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Errors in characters (code points). A space between words counts as one, those at the edges do not."""
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    if not reference or not hypothesis:
        return ErrorCounts(deletions=len(reference), insertions=len(hypothesis))
    found = jiwer.process_characters(reference, hypothesis)
    return ErrorCounts(found.hits, found.substitutions, found.deletions, found.insertions)


def align(reference: str, hypothesis: str) -> Alignment:
    """A shortest edit path between the tokens of two texts."""
    expected, found = reference.split(), hypothesis.split()
    if not expected or not found:
        return [(token, None) for token in expected] + [(None, token) for token in found]
    pairs: Alignment = []
    for chunk in jiwer.process_words(" ".join(expected), " ".join(found)).alignments[0]:
        left: Sequence[str | None] = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right: Sequence[str | None] = found[chunk.hyp_start_idx : chunk.hyp_end_idx]
        pairs += zip(left or [None] * len(right), right or [None] * len(left), strict=True)
    return pairs


@dataclass(frozen=True)
class Scored:
    """An utterance to score."""

    id: str
    reference: str
    hypothesis: str
    speaker: str | None = None


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile bootstrap interval."""

    low: float
    high: float
    unit: Literal["utterances", "speakers", "trials"]
    """What was drawn with replacement."""
    resamples: int


@dataclass(frozen=True)
class UtteranceScore:
    """One utterance's errors."""

    scored: Scored
    tokens: ErrorCounts
    characters: ErrorCounts | None


@dataclass(frozen=True)
class SpeakerScore:
    """One speaker's errors."""

    speaker: str
    utterances: int
    tokens: ErrorCounts
    characters: ErrorCounts | None


@dataclass(frozen=True)
class Score:
    """What `score` found. Rates are totals over totals, not means of utterances' rates."""

    units: Units
    tokens: ErrorCounts
    """Words, or phones."""
    characters: ErrorCounts | None
    """None for phonemes."""
    interval: Interval | None
    """Of the tokens' rate; None for a single utterance."""
    character_interval: Interval | None
    sentence_errors: int
    """Utterances with at least one token wrong."""
    confusions: list[tuple[str, str, int]]
    """(reference, hypothesis, times), the commonest first."""
    insertions: list[tuple[str, int]]
    deletions: list[tuple[str, int]]
    speakers: list[SpeakerScore]
    """Worst first; utterances without a speaker are in none."""
    utterances: list[UtteranceScore]

    @property
    def name(self) -> str:
        """What the tokens' rate is called: WER or PER."""
        return "WER" if self.units == "words" else "PER"

    @property
    def sentence_error_rate(self) -> float:
        """The share of utterances with at least one token wrong."""
        return self.sentence_errors / len(self.utterances)

    def worst(self, count: int) -> list[UtteranceScore]:
        """The utterances with the most errors, in tokens and then for each reference token."""
        return sorted(self.utterances, key=lambda u: (-u.tokens.errors, -u.tokens.rate, u.scored.id))[:count]

    def to_dict(self, utterances: bool = True) -> dict[str, Any]:
        """Plain containers, fit for JSON; every utterance with its texts unless told otherwise."""

        def counts(one: UtteranceScore | SpeakerScore) -> dict[str, Any]:
            values: dict[str, Any] = {self.units: one.tokens.to_dict()}
            return values | ({"characters": one.characters.to_dict()} if one.characters else {})

        def interval(found: Interval | None) -> dict[str, Any] | None:
            return dataclasses.asdict(found) if found else None

        values: dict[str, Any] = {
            self.name.lower(): self.tokens.rate,
            f"{self.name.lower()}_interval": interval(self.interval),
        }
        if self.characters:
            values |= {"cer": self.characters.rate, "cer_interval": interval(self.character_interval)}
        values |= {
            "ser": self.sentence_error_rate,
            "utterances": len(self.utterances),
            self.units: self.tokens.to_dict(),
        }
        if self.characters:
            values["characters"] = self.characters.to_dict()
        values |= {
            "confusions": [list(one) for one in self.confusions],
            "insertions": [list(one) for one in self.insertions],
            "deletions": [list(one) for one in self.deletions],
            "speakers": [{"speaker": s.speaker, "utterances": s.utterances} | counts(s) for s in self.speakers],
        }
        if utterances:
            values["details"] = [dataclasses.asdict(u.scored) | counts(u) for u in self.utterances]
        return values


def score(
    pairs: Sequence[Scored], units: Units = "words", commonest: int = 20, resamples: int = 2000, seed: int = 0
) -> Score:
    """Error rates of a system over a test set.

    Args:
        pairs: references and hypotheses, spelt alike.
        units: "words" gives WER and CER. "phonemes" gives PER over tokens separated by spaces; the word boundary `|` is
            no phone and is left out.
        commonest: entries to keep of each list of errors.
        resamples: draws of the bootstrap, which resamples speakers where every utterance has one and there are at least
            SPEAKERS_FOR_RESAMPLING of them, else utterances.
        seed: of the bootstrap.

    Raises:
        CorpusError: there is nothing to score, or an id comes twice.
    """
    _check(pairs)
    confusions: Counter[tuple[str, str]] = Counter()
    insertions: Counter[str] = Counter()
    deletions: Counter[str] = Counter()
    utterances = []
    for scored in pairs:
        alignment = align(_tokens(scored.reference, units), _tokens(scored.hypothesis, units))
        for expected, found in alignment:
            if expected is None and found is not None:
                insertions[found] += 1
            elif expected is not None and found is None:
                deletions[expected] += 1
            elif expected is not None and found is not None and expected != found:
                confusions[expected, found] += 1
        characters = character_errors(scored.reference, scored.hypothesis) if units == "words" else None
        utterances.append(UtteranceScore(scored, _count(alignment), characters))

    by_speaker: dict[str, list[UtteranceScore]] = {}
    for one in utterances:
        if one.scored.speaker is not None:
            by_speaker.setdefault(one.scored.speaker, []).append(one)
    speakers = [SpeakerScore(name, len(group), *_total(group)) for name, group in by_speaker.items()]
    speakers.sort(key=lambda s: (-s.tokens.rate, s.speaker))
    tokens, all_characters = _total(utterances)
    groups, unit = _groups(pairs)
    return Score(
        units,
        tokens,
        all_characters,
        _interval([u.tokens for u in utterances], groups, unit, resamples, seed),
        _interval([u.characters or ErrorCounts() for u in utterances], groups, unit, resamples, seed)
        if units == "words"
        else None,
        sum(u.tokens.errors > 0 for u in utterances),
        [(*pair, count) for pair, count in _commonest(confusions, commonest)],
        _commonest(insertions, commonest),
        _commonest(deletions, commonest),
        speakers,
        utterances,
    )


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances."""

    difference: float
    """Second system's error rate minus the first's; negative where the second is better."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """Two-sided: how often resampling turns the difference's sign, twice; at least 2 / (resamples + 1), at most 1."""

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


def compare(
    first: Sequence[Scored], second: Sequence[Scored], units: Units = "words", resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Whether two systems' error rates differ by more than the choice of test utterances explains.

    Paired bootstrap (Bisani and Ney 2004): both systems are scored on the same resampled utterances or speakers.

    Raises:
        CorpusError: the systems were not run on the same utterances with the same references, or on one alone.
    """
    _check(first)
    _check(second)
    others = {scored.id: scored for scored in second}
    for scored in first:
        if scored.id not in others or others[scored.id].reference.split() != scored.reference.split():
            raise CorpusError(f"utterance {scored.id} is not in both systems' results with the same reference")
    if len(first) != len(second):
        raise CorpusError(f"one system has results for {len(first)} utterances, the other for {len(second)}")
    groups, unit = _groups(first)
    if groups.max() == 0:
        raise CorpusError("two systems cannot be compared on a single utterance")

    def counts(scored: Scored) -> ErrorCounts:
        return word_errors(_tokens(scored.reference, units), _tokens(scored.hypothesis, units))

    sums = _sums([counts(scored) for scored in first], groups)
    other_sums = _sums([counts(others[scored.id]) for scored in first], groups)
    table = np.stack([other_sums[:, 0] - sums[:, 0], sums[:, 1]], axis=1)
    differences = resampled_rates(table, resamples, seed)
    low, high = np.quantile(differences, (0.025, 0.975))
    crossing = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (int(crossing) + 1) / (resamples + 1))
    total = table.sum(axis=0)
    return Comparison(float(total[0] / max(1, total[1])), Interval(float(low), float(high), unit, resamples), p_value)


def _check(pairs: Sequence[Scored]) -> None:
    if not pairs:
        raise CorpusError("nothing to score: no utterance has both a transcript and a hypothesis")
    identifier, times = Counter(scored.id for scored in pairs).most_common(1)[0]
    if times > 1:
        raise CorpusError(f"utterance {identifier} is there {times} times; score each utterance once")


def _tokens(text: str, units: Units) -> str:
    return text if units == "words" else text.replace("|", " ")


def _count(alignment: Alignment) -> ErrorCounts:
    hits = sum(expected == found for expected, found in alignment)
    deletions = sum(found is None for _, found in alignment)
    insertions = sum(expected is None for expected, _ in alignment)
    return ErrorCounts(hits, len(alignment) - hits - deletions - insertions, deletions, insertions)


def _total(utterances: Sequence[UtteranceScore]) -> tuple[ErrorCounts, ErrorCounts | None]:
    characters = [u.characters for u in utterances if u.characters is not None]
    total = sum(characters, ErrorCounts()) if characters else None
    return sum((u.tokens for u in utterances), ErrorCounts()), total


def _commonest(counts: Counter[Any], most: int) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


def _groups(pairs: Sequence[Scored]) -> tuple[np.ndarray, Literal["utterances", "speakers"]]:
    """For each utterance the number of what is resampled together with it, and what that is."""
    names = [scored.speaker for scored in pairs]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if None in numbers or len(numbers) < SPEAKERS_FOR_RESAMPLING:
        return np.arange(len(pairs)), "utterances"
    return np.array([numbers[name] for name in names]), "speakers"


def _sums(counts: Sequence[ErrorCounts], groups: np.ndarray) -> np.ndarray:
    """(groups, 2): errors and reference lengths."""
    errors = np.bincount(groups, weights=[one.errors for one in counts])
    lengths = np.bincount(groups, weights=[one.reference_length for one in counts])
    return np.stack([errors, lengths], axis=1)


def _interval(
    counts: Sequence[ErrorCounts],
    groups: np.ndarray,
    unit: Literal["utterances", "speakers"],
    resamples: int,
    seed: int,
) -> Interval | None:
    table = _sums(counts, groups)
    if len(table) < 2:
        return None
    low, high = np.quantile(resampled_rates(table, resamples, seed), (0.025, 0.975))
    return Interval(float(low), float(high), unit, resamples)


def resampled_rates(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples,) rates of as many rows of `table` (errors, lengths) as it has, drawn with replacement."""
    random = np.random.default_rng(seed)
    rows = len(table)
    block = max(1, 4_000_000 // rows)
    rates = []
    for start in range(0, resamples, block):
        drawn = random.integers(rows, size=(min(block, resamples - start), rows))
        rates.append(table[drawn, 0].sum(axis=1) / np.maximum(1, table[drawn, 1].sum(axis=1)))
    return np.concatenate(rates)
