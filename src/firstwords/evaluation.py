"""A recogniser over a corpus: every transcript beside its reference, and the error rates."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError, TextError
from firstwords.listening import listen, references_of
from firstwords.recognizer import Recognizer
from firstwords.scoring import ErrorCounts, Score, Scored, score, word_errors
from firstwords.text.alphabet import Alphabet


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what was left out of them."""

    score: Score
    skipped: dict[str, str]
    """Utterances whose recording could not be read, with the reason."""
    untranscribed: int
    """Utterances without a reference."""
    audio_seconds: float = 0.0
    """Of the utterances that were scored."""
    seconds: float = 0.0
    """That transcribing them took, reading included."""
    oracle: ErrorCounts | None = None
    """Errors of the reading of each n-best list that has the fewest; None where there was one reading."""

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work for a second of audio; None where it was not measured."""
        return self.seconds / self.audio_seconds if self.audio_seconds else None

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return self.score.to_dict() | {
            "skipped": self.skipped,
            "untranscribed": self.untranscribed,
            "audio_seconds": self.audio_seconds,
            "seconds": self.seconds,
            "oracle": self.oracle.to_dict() if self.oracle else None,
        }


def evaluate(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    unknown: Literal["error", "count"] = "error",
    batch_seconds: float = 60.0,
    nbest: int = 1,
) -> Evaluation:
    """Transcribes utterances and scores them against their references, both spelt as the alphabet spells.

    Args:
        recognizer: what is tested.
        utterances: those without a reference are left out and counted.
        unknown: what to do where a reference has characters that the alphabet lacks: refuse, or count what the
            recogniser cannot write as errors.
        batch_seconds: most audio that the network sees at once.
        nbest: above 1, how good the best of the decoder's readings is, is counted too ("oracle").

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

    begun = time.perf_counter()
    oracle = None
    if nbest > 1:
        heard = listen(recognizer, transcribed, skip, batch_seconds)
        readings = recognizer.decoder([one.emissions for one in heard])
        texts = [[alphabet.decode(reading.labels) for reading in found] for found in readings]
        pairs = [Scored(one.id, one.reference, found[0], speakers[one.id])
                 for one, found in zip(heard, texts, strict=True)]  # fmt: skip
        oracle = sum((_fewest(one.reference, found) for one, found in zip(heard, texts, strict=True)), ErrorCounts())
    else:
        transcripts = recognizer.stream(transcribed, batch_seconds=batch_seconds, skip=skip)
        pairs = [
            Scored(found.id, references[found.id], found.text, speakers[found.id])
            for found in track(transcripts, len(transcribed), "transcribing")
        ]
    seconds = time.perf_counter() - begun
    if not pairs:
        raise CorpusError(f"none of {len(transcribed)} recordings could be read; first: {next(iter(skipped.values()))}")
    units: Literal["words", "phonemes"] = "words" if alphabet.units == "characters" else "phonemes"
    durations = {utterance.id: utterance.duration or 0.0 for utterance in transcribed}
    audio = sum(durations[scored.id] for scored in pairs)
    return Evaluation(score(pairs, units), skipped, len(utterances) - len(transcribed), audio, seconds, oracle)


def read_evaluation(path: Path) -> Evaluation:
    """What `firstwords evaluate --json` wrote.

    Raises:
        CorpusError: it is something else.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        names = ("id", "reference", "hypothesis", "speaker")
        pairs = [Scored(*(one[name] for name in names)) for one in values["details"]]
        kinds = ("hits", "substitutions", "deletions", "insertions")
        oracle = values.get("oracle")
        counts = ErrorCounts(*(oracle[kind] for kind in kinds)) if oracle else None
        return Evaluation(
            score(pairs, "words" if "wer" in values else "phonemes"),
            values.get("skipped", {}),
            values.get("untranscribed", 0),
            values.get("audio_seconds", 0.0),
            values.get("seconds", 0.0),
            counts,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"{path}: not what firstwords evaluate --json writes ({type(error).__name__}: {error})"
        ) from error


def is_corpus(place: Path) -> bool:
    """Whether a name on the command line is a corpus, and not a recogniser or an earlier evaluation."""
    if place.is_dir():
        return not any(place.glob("*.safetensors"))
    return place.suffix not in (".json", ".safetensors")


def _fewest(reference: str, texts: Sequence[str]) -> ErrorCounts:
    """Of the text with the fewest word errors; the boundary between words of phones is no token."""
    return min((word_errors(*(one.replace("|", " ") for one in (reference, text))) for text in texts),
               key=lambda errors: errors.errors)  # fmt: skip


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
