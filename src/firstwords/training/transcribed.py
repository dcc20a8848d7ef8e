"""Transcribed utterances: their alphabet, their labels, and which of them can be learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError, TextError
from firstwords.text.alphabet import Alphabet, transcript_of
from firstwords.training.data import Skipped
from firstwords.training.finetune_config import FinetuneDataConfig, TextConfig

Item = TypeVar("Item")


def transcripts_of(utterances: Sequence[Utterance], text: TextConfig) -> list[str]:
    """Those that there are. Raises CorpusError where there are none."""
    transcripts = [t for u in utterances if (t := transcript_of(u, text.units))]
    if not transcripts:
        key = "text" if text.units == "characters" else "phones"
        raise CorpusError(f"none of {len(utterances)} training utterances has a transcript (manifest key {key!r})")
    return transcripts


class LabelledUtterances:
    """Sorts out utterances with a transcript that fits their frames; the others are noted and left out.

    Args:
        alphabet: spells them.
        frames: frames of so many samples.
        needed: frames that labels need at the least.
        data, text: what the run says about both.
        skipped: where the others are noted.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        frames: Callable[[int], int],
        needed: Callable[[list[int]], int],
        data: FinetuneDataConfig,
        text: TextConfig,
        skipped: Skipped,
    ) -> None:
        self.alphabet, self.frames, self.needed = alphabet, frames, needed
        self.data, self.text, self.skipped = data, text, skipped
        self.labels: dict[str, list[int]] = {}
        """Of every utterance that was kept, by its id."""

    def usable(self, utterances: Sequence[Utterance], strict: bool) -> list[Utterance]:
        """Those that can be learnt from or validated on.

        Args:
            utterances: with transcripts or without.
            strict: leave out a transcript that the alphabet cannot spell, whatever `text.unknown` says.

        Raises:
            TextError: not strict, and some have characters that no training transcript has.
        """
        kept, foreign = [], []
        for utterance in utterances:
            transcript = transcript_of(utterance, self.text.units)
            if transcript is None or not transcript.strip():
                continue  # audio without text is no fault of a corpus
            try:
                labels = self.alphabet.encode(transcript)
            except TextError as error:
                if not strict and self.text.unknown == "error":
                    foreign.append(transcript)
                else:
                    self.skipped.add(utterance.id, f"utterance {utterance.id}: {error}")
                continue
            seconds, limit = utterance.duration or 0, self.data.max_seconds
            frames, needed = self.frames(round(seconds * SAMPLE_RATE)), self.needed(labels)
            what = ""
            if not labels:
                what = f"nothing left of its text: {transcript!r}"
            elif seconds > limit:
                what = f"{seconds:.1f} s, above max_seconds {limit:g}"
            elif frames < needed:
                what = f"{frames} frames, its labels need {needed}"
            if what:
                self.skipped.add(utterance.id, f"utterance {utterance.id}: {what}")
            else:
                self.labels[utterance.id] = labels
                kept.append(utterance)
        if foreign:
            missing = ", ".join(f"{symbol!r} ({count})" for symbol, count in self.alphabet.missing(foreign).items())
            raise TextError(
                f"{len(foreign)} validation transcripts have characters that no training transcript has: {missing}; "
                "correct them, or leave those utterances out with --text.unknown drop"
            )
        return kept


def some_hours(utterances: list[Utterance], hours: float, seed: int) -> list[Utterance]:
    """Utterances up to `hours` of audio, drawn at random with the speakers taking turns; all where hours is 0."""
    if hours <= 0:
        return utterances
    random = np.random.default_rng(seed)
    by_speaker: dict[str | None, list[Utterance]] = {}
    for number in random.permutation(len(utterances)):
        by_speaker.setdefault(utterances[number].speaker, []).append(utterances[number])
    chosen: list[Utterance] = []
    left = hours * 3600
    while by_speaker:
        for speaker in list(by_speaker):
            utterance = by_speaker[speaker].pop()
            if not by_speaker[speaker]:
                del by_speaker[speaker]
            if (utterance.duration or 0) <= left:
                chosen.append(utterance)
                left -= utterance.duration or 0
    return chosen


def validation_sample(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """At most so many of them, evenly spread over their ids."""
    return _spread(sorted(utterances, key=lambda u: u.id), most)


def few(pairs: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Three references and hypotheses, evenly spread over the ids."""
    return [pairs[name] for name in _spread(sorted(pairs), 3)]


def _spread(ranked: list[Item], most: int) -> list[Item]:
    """At most so many, at even distances."""
    return ranked[:: max(1, len(ranked) // max(1, most))][:most]


def example_lines(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """References and hypotheses below each other, for the console."""
    return [f"{'':>15}reference   {one}\n{'':>15}hypothesis  {other}" for one, other in pairs]
