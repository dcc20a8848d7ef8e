"""A long recording and its text to utterances of a sentence or so: training data out of audiobooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest, write_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.aligned_text import Alignment, joined_text
from firstwords.decoding.words import Word
from firstwords.errors import ConfigError, CorpusError
from firstwords.text.alphabet import Alphabet


@dataclass(frozen=True)
class SegmentConfig:
    """What an utterance may be like."""

    min_seconds: float = 1.0
    """Shorter sentences join the next one, if that comes soon."""
    max_seconds: float = 20.0
    """Longer sentences are cut at their longest pauses."""
    padding: float = 0.2
    """Seconds kept before the first word and after the last, half the pause at the most."""
    min_score: float = 0.0
    """Utterances whose mean word score is lower are left out: they were probably not said as written."""

    def check(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.min_seconds < self.max_seconds or self.padding < 0 or not 0 <= self.min_score <= 1:
            raise ConfigError(
                f"utterances of {self.min_seconds} to {self.max_seconds} s, padding {self.padding} s, score at least "
                f"{self.min_score}: lengths must rise, padding be 0 or more, the score lie between 0 and 1"
            )


@dataclass(frozen=True)
class Segment:
    """An utterance within a recording."""

    text: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    score: float | None
    """Mean of its words' scores, 0 to 1; None where no word could be spelt."""
    words: tuple[Word, ...]


def segments(
    alignment: Alignment, alphabet: Alphabet, duration: float, config: SegmentConfig | None = None
) -> list[Segment]:
    """Utterances in the order of the recording that do not overlap.

    Args:
        alignment: of the whole text.
        alphabet: of the recogniser.
        duration: seconds of the recording.
        config: None: the defaults.

    Raises:
        ConfigError: values that contradict each other.
    """
    config = config or SegmentConfig()
    config.check()
    sentences: list[list[Word]] = []
    last = -1
    for word, number in zip(alignment.words, alignment.sentences, strict=True):
        if number != last:
            sentences.append([])
        sentences[-1].append(word)
        last = number
    groups: list[list[Word]] = []
    for sentence in sentences:
        for part in _split(sentence, config.max_seconds):
            short = groups and groups[-1][-1].end - groups[-1][0].start < config.min_seconds
            if short and part[-1].end - groups[-1][0].start <= config.max_seconds:
                groups[-1] += part
            else:
                groups.append(list(part))
    found = []
    for number, group in enumerate(groups):
        before = groups[number - 1][-1].end if number else 0.0
        after = groups[number + 1][0].start if number + 1 < len(groups) else duration
        start = max(group[0].start - config.padding, (before + group[0].start) / 2, 0.0)
        end = min(group[-1].end + config.padding, (group[-1].end + after) / 2, duration)
        scores = [word.confidence for word in group if word.confidence is not None]
        score = float(np.mean(scores)) if scores else None
        if end > start and (score is None or score >= config.min_score):
            found.append(Segment(joined_text(group, alphabet), start, end, score, tuple(group)))
    return found


def write_utterances(
    recording: Path, alignment: Alignment, alphabet: Alphabet, out: Path, config: SegmentConfig | None = None
) -> int:
    """Writes the manifest of a corpus: the utterances of `segments`, each a stretch of the recording.

    A manifest that is there keeps the utterances of other recordings, so several books make one corpus. Each line has
    `score`, and `words` with their times within the utterance.

    Returns:
        How many utterances it has of this recording.

    Raises:
        CorpusError: the manifest cannot be written, or none is left to write.
        ConfigError: values that contradict each other.
    """
    path = out / MANIFEST_NAME
    audio = recording.resolve()
    before = read_manifest(path) if path.is_file() else []
    others = [utterance for utterance in before if utterance.audio.resolve() != audio]
    found = segments(alignment, alphabet, alignment.duration, config)
    if not found:
        raise CorpusError(f"{recording}: no utterance left; lower --segments.min-score")
    made = []
    for number, segment in enumerate(found, 1):
        extras: dict[str, Any] = {
            "words": [
                [word.text, round(word.start - segment.start, 3), round(word.end - segment.start, 3)]
                for word in segment.words
            ]
        }
        if segment.score is not None:
            extras["score"] = round(segment.score, 4)
        start, duration = round(segment.start, 3), round(segment.end - segment.start, 3)
        name = f"{recording.stem}-{number:05d}"
        made.append(Utterance(name, audio, start, duration, segment.text, extras=extras))
    if clash := {utterance.id for utterance in others} & {utterance.id for utterance in made}:
        raise CorpusError(f"{path}: holds {min(clash)} of another recording; choose another folder, or rename the file")
    write_manifest([*others, *made], path)
    return len(made)


def _split(words: Sequence[Word], most: float) -> list[Sequence[Word]]:
    """Words in parts that last `most` seconds at the longest, cut at the longest pause in the middle half of each."""
    if words[-1].end - words[0].start <= most or len(words) < 2:
        return [words]
    begin, end = words[0].start, words[-1].end
    quarter = (end - begin) / 4

    def worth(cut: int) -> tuple[bool, float, float]:
        pause = words[cut].start - words[cut - 1].end
        middle = abs((words[cut].start + words[cut - 1].end) / 2 - (begin + end) / 2)
        return middle <= quarter, pause, -middle

    cut = max(range(1, len(words)), key=worth)
    return _split(words[:cut], most) + _split(words[cut:], most)
