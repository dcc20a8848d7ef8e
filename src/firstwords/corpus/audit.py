"""What is in a corpus, and what in it will hurt training."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firstwords.audio import SAMPLE_RATE, probe, read_native, to_mono
from firstwords.corpus.importers.common import Problem, lost_utterance
from firstwords.corpus.parallel import map_in_order, track
from firstwords.corpus.prepare import SplitSummary
from firstwords.corpus.shards import MINIMUM_SAMPLES
from firstwords.corpus.utterance import SLACK_SECONDS, Utterance
from firstwords.errors import AudioError, CorpusError

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""The convolutions of wav2vec 2.0's feature encoder, in samples of the layer below."""

SHORT_SECONDS = 2.0
"""Pre-training crops and batches suffer from many utterances below this."""
LONG_SECONDS = 30.0
"""Above this, fine-tuning needs much memory for one utterance."""
RARE_CHARACTER = 10
"""A character seen less often than this is hardly learned."""
FRAME_SECONDS = 0.02
"""Length of the stretches whose level tells silence from sound."""
SILENT_DB = -60.0
"""dB below full scale: nothing is heard at this level."""
FULL_SCALE = 0.999
"""A run of three samples or more at this level or above is a cut peak."""
CLIPPED_SHARE = 1e-4
"""Share of samples in cut peaks above which a recording counts as clipped."""

LENGTH_EDGES = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 600.0, float("inf"))
"""Seconds between which the histogram counts."""


@dataclass(frozen=True)
class Measurement:
    """What one recording, or stretch of one, turned out to be."""

    seconds: float
    sample_rate: int
    channels: int
    peak: float
    """Largest absolute sample, full scale is 1."""
    level_db: float
    """Root mean square in dB below full scale, -120 for digital silence."""
    silence: float
    """Share of 20 ms frames without sound, 1 for a silent recording."""
    clipped: float
    """Share of samples in cut peaks."""
    digest: bytes
    """Hash of the samples: equal for equal sound, whatever lossless format holds it."""
    claims: str | None = None
    """Where the manifest contradicts the file."""


@dataclass
class Audit:
    """What `audit` found. Lists hold utterance ids in the order of the corpus; times are in seconds."""

    utterances: int = 0
    splits: dict[str, SplitSummary] = field(default_factory=dict)
    """Amounts of readable audio by split, "" for none."""
    lengths: list[float] = field(default_factory=list)
    levels_db: list[float] = field(default_factory=list)
    """One for each of `lengths`."""
    sample_rates: Counter[int] = field(default_factory=Counter)
    recorded_rates: Counter[int] = field(default_factory=Counter)
    """As `sample_rates`, but the rate before conversion where the manifest has it (key `src_rate`)."""
    channels: Counter[int] = field(default_factory=Counter)
    silent_seconds: float = 0.0
    """Audio without sound, pauses included."""
    silent: list[str] = field(default_factory=list)
    """Recordings without any sound."""
    mostly_silent: list[str] = field(default_factory=list)
    """More than half of it is silence."""
    clipped: list[str] = field(default_factory=list)
    unreadable: list[Problem] = field(default_factory=list)
    """Broken, missing, empty, cut short, or holding NaN."""
    too_short: list[str] = field(default_factory=list)
    """Below 400 samples at 16 kHz: not one frame."""
    short: list[str] = field(default_factory=list)
    """Below two seconds."""
    long: list[str] = field(default_factory=list)
    """Above half a minute."""
    duplicates: list[list[str]] = field(default_factory=list)
    """Groups of utterances with the same samples."""
    claims: list[Problem] = field(default_factory=list)
    """Durations and rates in the manifest that the file contradicts."""
    characters: Counter[str] = field(default_factory=Counter)
    rare_characters: dict[str, str] = field(default_factory=dict)
    """Characters seen less than 10 times, each with an utterance that has it."""
    crowded: list[tuple[str, int, int]] = field(default_factory=list)
    """Utterances with more labels than frames: (id, frames needed, frames)."""
    shared_speakers: dict[str, list[str]] = field(default_factory=dict)
    """Speakers in two splits, by "train and test" and so on."""
    shared_sentences: dict[str, list[str]] = field(default_factory=dict)
    """Transcripts in two splits."""
    problems: list[Problem] = field(default_factory=list)
    """What the importer had to say."""

    @property
    def seconds(self) -> float:
        """Readable audio."""
        return sum(amounts.seconds for amounts in self.splits.values())

    def histogram(self) -> list[tuple[float, float, int]]:
        """(from seconds, to seconds, count) between LENGTH_EDGES, empty ends left out."""
        counts = np.histogram(self.lengths, bins=LENGTH_EDGES)[0].tolist()
        bins = list(zip(LENGTH_EDGES, LENGTH_EDGES[1:], counts, strict=False))
        filled = [index for index, (_, _, count) in enumerate(bins) if count]
        return bins[filled[0] : filled[-1] + 1] if filled else []


def audit(utterances: Sequence[Utterance], problems: Sequence[Problem] = (), workers: int | None = None) -> Audit:
    """Reads every utterance once and reports what is there.

    Args:
        utterances: of a manifest, or as an importer gives them.
        problems: what the importer had to say, passed on in the result.
        workers: decoding threads; None for one per core.

    Raises:
        CorpusError: there are no utterances.
    """
    if not utterances:
        raise CorpusError("no utterances to audit; is the split's name right?")
    result = Audit(utterances=len(utterances), problems=list(problems))
    whole = Counter((utterance.audio, utterance.offset) for utterance in utterances)

    def attempt(utterance: Utterance) -> Measurement | Problem:
        try:
            return measure(utterance, alone=whole[utterance.audio, utterance.offset] == 1)
        except AudioError as error:
            return lost_utterance(utterance.id, error)

    sounds: dict[bytes, list[str]] = {}
    outcomes = track(map_in_order(attempt, utterances, workers), len(utterances), "listening")
    for utterance, outcome in zip(utterances, outcomes, strict=True):
        if isinstance(outcome, Problem):
            result.unreadable.append(outcome)
        else:
            _count(result, utterance, outcome)
            if outcome.silence < 1:
                sounds.setdefault(outcome.digest, []).append(utterance.id)
    result.duplicates = [ids for ids in sounds.values() if len(ids) > 1]
    rare = {character for character, count in result.characters.items() if count < RARE_CHARACTER}
    for utterance in utterances:
        for character in rare.intersection(utterance.text or ""):
            result.rare_characters.setdefault(character, utterance.id)
    result.shared_speakers = _shared(utterances, "speaker")
    result.shared_sentences = _shared(utterances, "text")
    return result


def measure(utterance: Utterance, alone: bool = False) -> Measurement:
    """Decodes one utterance.

    Args:
        alone: no other utterance uses the same recording, so a manifest that names fewer seconds than it has is told.

    Raises:
        AudioError: it cannot be read, or holds NaN.
    """
    source = utterance.source()
    name = f"{utterance.audio}" if isinstance(source, Path) else f"{utterance.audio} at byte {utterance.offset}"
    native, rate = read_native(source, utterance.start, utterance.duration)
    samples = to_mono(native, rate, name=name)
    seconds = len(samples) / SAMPLE_RATE
    claims = []
    if (claimed := utterance.extras.get("sample_rate")) is not None and claimed != rate:
        claims.append(f"the manifest says {claimed} Hz, the recording {rate} Hz")
    if utterance.duration is not None:
        there = max(seconds, probe(source).duration) if alone and not utterance.start else seconds
        if abs(there - utterance.duration) > SLACK_SECONDS:
            claims.append(f"the manifest says {utterance.duration:.2f} s, the recording holds {there:.2f} s")
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return Measurement(
        seconds=seconds,
        sample_rate=rate,
        channels=native.shape[1],
        peak=float(np.abs(native).max()),
        level_db=10 * np.log10(max(power, 1e-12)),
        silence=silence_share(samples),
        clipped=clipped_share(native),
        digest=hashlib.blake2b(native.tobytes(), digest_size=16, person=str(rate).encode()).digest(),
        claims="; ".join(claims) or None,
    )


def silence_share(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> float:
    """Share of 20 ms frames (0 to 1) that hold no sound.

    A frame is silent below -60 dB, or where it is within 6 dB of the recording's noise floor (the 5th percentile of
    its frames) and at least 20 dB below its loud parts (the 95th). A recording whose loud parts lie below -60 dB is
    silent as a whole.
    """
    size = round(FRAME_SECONDS * sample_rate)
    frames = samples[: max(len(samples) // size, 1) * size].astype(np.float64)
    if len(frames) >= size:
        frames = frames.reshape(-1, size)
    power = np.atleast_1d(np.square(frames).mean(axis=-1))
    levels = 10 * np.log10(np.maximum(power, 1e-12))
    floor, loud = np.percentile(levels, (5, 95))
    if loud < SILENT_DB:
        return 1.0
    return float(np.mean(levels < max(SILENT_DB, min(loud - 20.0, floor + 6.0))))


def clipped_share(samples: np.ndarray) -> float:
    """Share of samples (0 to 1) in runs of three or more at full scale; samples (n, channels)."""
    high = np.abs(samples) >= FULL_SCALE
    if np.count_nonzero(high) < 3:
        return 0.0
    middle = high[:-2] & high[1:-1] & high[2:]
    runs = np.zeros_like(high)
    for shift in range(3):
        runs[shift : shift + len(middle)] |= middle
    return float(runs.mean())


def frames_of(samples: int) -> int:
    """Frames that the feature encoder makes of so many samples at 16 kHz."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        samples = max((samples - kernel) // stride + 1, 0)
    return samples


def frames_needed(labels: str) -> int:
    """Frames that CTC needs for a transcript: one a character, and a blank between two equal ones."""
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def _count(result: Audit, utterance: Utterance, found: Measurement) -> None:
    """Adds one utterance to the result."""
    id = utterance.id
    result.splits.setdefault(utterance.split or "", SplitSummary()).add(utterance, found.seconds)
    result.lengths.append(found.seconds)
    result.levels_db.append(found.level_db)
    result.sample_rates[found.sample_rate] += 1
    recorded = utterance.extras.get("src_rate")
    result.recorded_rates[recorded if isinstance(recorded, int) else found.sample_rate] += 1
    result.channels[found.channels] += 1
    result.silent_seconds += found.silence * found.seconds
    samples = round(found.seconds * SAMPLE_RATE)
    for true, ids in (
        (found.silence == 1, result.silent),
        (0.5 < found.silence < 1, result.mostly_silent),
        (found.clipped > CLIPPED_SHARE, result.clipped),
        (samples < MINIMUM_SAMPLES, result.too_short),
        (MINIMUM_SAMPLES <= samples < SHORT_SECONDS * SAMPLE_RATE, result.short),
        (found.seconds > LONG_SECONDS, result.long),
    ):
        if true:
            ids.append(id)
    if found.claims is not None:
        result.claims.append(Problem(id, found.claims, lost=False))
    if utterance.text is not None:
        result.characters.update(utterance.text)
        if (needed := frames_needed(utterance.text)) > (frames := frames_of(samples)):
            result.crowded.append((id, needed, frames))


def _shared(utterances: Sequence[Utterance], key: str) -> dict[str, list[str]]:
    """Values of `key` that occur in two splits, for every pair of splits that shares some."""
    values: dict[str, dict[str, None]] = {}
    for utterance in utterances:
        if utterance.split is not None and (value := getattr(utterance, key)) is not None:
            values.setdefault(utterance.split, {})[value] = None
    names = sorted(values, key=lambda name: ({"train": 0, "dev": 1, "test": 2}.get(name, 3), name))
    pairs: Iterator[tuple[str, str]] = itertools.combinations(names, 2)
    shared = {f"{a} and {b}": [value for value in values[a] if value in values[b]] for a, b in pairs}
    return {pair: both for pair, both in shared.items() if both}
