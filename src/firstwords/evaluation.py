"""A recogniser over a corpus: every transcript beside its reference, and the error rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError, TextError
from firstwords.recognizer import Recognizer, Transcript
from firstwords.scoring import Score, Scored, score
from firstwords.text.alphabet import Alphabet, transcript_of


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what was left out of them."""

    score: Score
    skipped: dict[str, str]
    """Utterances whose recording could not be read, with the reason."""
    untranscribed: int
    """Utterances without a reference."""


def evaluate(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    unknown: Literal["error", "count"] = "error",
    batch_seconds: float = 60.0,
) -> Evaluation:
    """Transcribes utterances and scores them against their references, both spelt as the alphabet spells.

    Args:
        recognizer: what is tested.
        utterances: those without a reference are left out and counted.
        unknown: what to do where a reference has characters that the alphabet lacks: refuse, or count what the
            recogniser cannot write as errors.
        batch_seconds: most audio that the network sees at once.

    Raises:
        CorpusError: nothing to score.
        TextError: references with characters that the alphabet lacks (unknown="error").
    """
    alphabet = recognizer.alphabet
    references = references_of(alphabet, utterances)
    if not references:
        raise CorpusError(f"none of {len(utterances)} utterances has a reference transcript")
    if unknown == "error":
        _check_alphabet(alphabet, references)
    transcribed = [utterance for utterance in utterances if utterance.id in references]
    speakers = {utterance.id: utterance.speaker for utterance in transcribed}
    skipped: dict[str, str] = {}

    def skip(name: str, error: AudioError) -> None:
        skipped[name] = str(error)

    transcripts: Iterator[Transcript] = recognizer.stream(transcribed, batch_seconds=batch_seconds, skip=skip)
    pairs = [
        Scored(found.id, references[found.id], found.text, speakers[found.id])
        for found in track(transcripts, len(transcribed), "transcribing")
    ]
    if not pairs:
        raise CorpusError(f"none of {len(transcribed)} recordings could be read; first: {next(iter(skipped.values()))}")
    units: Literal["words", "phonemes"] = "words" if alphabet.units == "characters" else "phonemes"
    return Evaluation(score(pairs, units), skipped, len(utterances) - len(transcribed))


def references_of(alphabet: Alphabet, utterances: Sequence[Utterance]) -> dict[str, str]:
    """The transcripts of those that have one, by id, as the alphabet spells."""
    references = {}
    for utterance in utterances:
        text = transcript_of(utterance, alphabet.units)
        if text and (normal := alphabet.normalize(text)):
            references[utterance.id] = normal
    return references


def in_splits(utterances: Sequence[Utterance], split: str | None, where: str | Path) -> list[Utterance]:
    """Those of one split; all where `split` is None or no utterance has a split.

    Raises:
        CorpusError: no such split, naming those there are.
    """
    names = sorted({utterance.split for utterance in utterances if utterance.split is not None})
    if split is None or not names:
        return list(utterances)
    if split not in names:
        raise CorpusError(f"{where}: no utterance in split {split!r}; there are: {', '.join(names)}")
    return [utterance for utterance in utterances if utterance.split == split]


def _check_alphabet(alphabet: Alphabet, references: dict[str, str]) -> None:
    missing = alphabet.missing(references.values())
    if missing:
        symbols = ", ".join(f"{symbol!r} ({count})" for symbol, count in list(missing.items())[:12])
        concerned = sum(bool(alphabet.missing([text])) for text in references.values())
        raise TextError(
            f"{concerned} of {len(references)} references have characters that the recogniser's alphabet lacks: "
            f"{symbols}; correct them, or count them as errors with --unknown count"
        )
