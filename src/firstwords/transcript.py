"""What was said in a recording, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from firstwords.decoding.aligned_text import Alignment
from firstwords.decoding.words import Character, Word, separator
from firstwords.text.alphabet import Alphabet

__all__ = ["Character", "Transcript", "Word", "aligned_transcript"]


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording. `firstwords.formats` writes it in more ways than are methods here."""

    text: str
    duration: float
    """Seconds."""
    id: str = ""
    """The utterance's id, or the file's path."""
    words: tuple[Word, ...] = ()
    """The words of `text` with their times."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON: times in seconds to the millisecond, confidences to four digits."""
        return {
            "id": self.id,
            "text": self.text,
            "duration": round(self.duration, 4),
            "words": [
                _timed(word) | {"characters": [_timed(character) for character in word.characters]}
                for word in self.words
            ],
        }

    def to_srt(self) -> str:
        """SubRip subtitles."""
        return self._in("srt")

    def to_vtt(self) -> str:
        """WebVTT subtitles."""
        return self._in("vtt")

    def to_textgrid(self) -> str:
        """A Praat TextGrid with tiers of words and characters."""
        return self._in("textgrid")

    def to_ctm(self) -> str:
        """NIST's time-marked conversation format, a line a word."""
        return self._in("ctm")

    def to_audacity(self) -> str:
        """A label track for Audacity, a line a word."""
        return self._in("audacity")

    def _in(self, name: str) -> str:
        from firstwords.formats import render  # it builds upon this module

        return render(self, name)


def aligned_transcript(
    alignment: Alignment, alphabet: Alphabet, name: str = "", units: Literal["words", "characters"] = "words"
) -> Transcript:
    """An alignment as a transcript, so that it can be written in the same formats.

    Args:
        alignment: of a text.
        alphabet: of the recogniser.
        name: of the recording.
        units: "characters" makes each character a word of its own.
    """
    words = alignment.words
    if units == "characters":
        words = tuple(
            Word(part.text, part.start, part.end, part.confidence, (part,))
            for word in words
            for part in word.characters
        )
    text = separator(alphabet).join(word.text for word in alignment.words)
    return Transcript(text, alignment.duration, name, words)


def _timed(part: Word | Character) -> dict[str, Any]:
    sure = None if part.confidence is None else round(part.confidence, 4)
    return {"text": part.text, "start": round(part.start, 3), "end": round(part.end, 3), "confidence": sure}
