"""Transcripts and alignments as text, JSON, subtitles, and for the programs that annotate speech."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TextIO, get_args

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.decoding.words import Character, Word
from firstwords.errors import FirstwordsError
from firstwords.subtitles import SubtitleConfig, subtitles
from firstwords.transcript import Transcript

Format = Literal["text", "json", "jsonl", "srt", "vtt", "textgrid", "ctm", "audacity"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[Format, str] = {
    "text": ".txt", "json": ".json", "jsonl": ".jsonl", "srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid",
    "ctm": ".ctm", "audacity": ".labels.txt",
}  # fmt: skip
"""What the file of a recording ends in."""
TOGETHER: tuple[Format, ...] = ("text", "jsonl", "ctm")
"""Formats in which several recordings go in one file."""


class FormatError(FirstwordsError):
    """A way to write transcripts that there is not, or not for several recordings at once."""


def render(transcript: Transcript, name: str) -> str:
    """A transcript in a format, with its last newline.

    Raises:
        FormatError: no such format.
    """
    if name not in FORMATS:
        raise FormatError(f"no format {name!r}; there are: {', '.join(FORMATS)}")
    return _WRITERS[name](transcript)


def write_transcripts(transcripts: Iterable[Transcript], lines: TextIO, name: Format, named: bool) -> None:
    """Writes transcripts one after the other, as they come.

    Args:
        transcripts: any number; several only in a format of `TOGETHER`.
        lines: where to.
        name: the format.
        named: with "text", the id and a tab stand before each line.
    """
    for transcript in transcripts:
        lines.write(f"{transcript.id}\t" if named and name == "text" else "")
        lines.write(render(transcript, name))
        lines.flush()


def write_files(transcripts: Iterable[Transcript], folder: Path, name: Format) -> list[Path]:
    """Writes one file a recording into `folder`, named like the recording, as they come.

    Two recordings of the same name in different folders get the folders' names before theirs, as many as tell them
    apart; utterances of a corpus are named by their id.

    Raises:
        FormatError: a file cannot be written.
    """
    written: list[Path] = []
    taken: set[str] = set()
    for transcript in transcripts:
        path = folder / f"{_free_name(transcript.id, taken)}{ENDINGS[name]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_text(render(transcript, name), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise FormatError(f"{path}: cannot be written ({error.strerror})") from error
        written.append(path)
    return written


def _free_name(identifier: str, taken: set[str]) -> str:
    place = Path(identifier)
    if place.suffix.lower() in AUDIO_SUFFIXES:
        place = place.with_suffix("")
    parts = [part for part in place.parts if part not in ("/", "..")] or ["recording"]
    for count in range(1, len(parts) + 1):
        name = "-".join(parts[-count:])
        if name not in taken:
            break
    number = 2
    base = name
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _text(transcript: Transcript) -> str:
    return transcript.text + "\n"


def _json(transcript: Transcript) -> str:
    return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=1) + "\n"


def _jsonl(transcript: Transcript) -> str:
    return json.dumps(transcript.to_dict(), ensure_ascii=False) + "\n"


def _srt(transcript: Transcript) -> str:
    blocks = []
    for number, shown in enumerate(subtitles(transcript.words, transcript.duration, SubtitleConfig()), 1):
        times = f"{_clock(shown.start, ',')} --> {_clock(shown.end, ',')}"
        blocks.append("\n".join([str(number), times, *shown.lines]) + "\n")
    return "\n".join(blocks)


def _vtt(transcript: Transcript) -> str:
    blocks = ["WEBVTT\n"]
    for shown in subtitles(transcript.words, transcript.duration, SubtitleConfig()):
        lines = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in shown.lines]
        blocks.append("\n".join([f"{_clock(shown.start, '.')} --> {_clock(shown.end, '.')}", *lines]) + "\n")
    return "\n".join(blocks)


def _ctm(transcript: Transcript) -> str:
    """file channel start duration word [confidence]; no field holds a space."""
    name = "_".join(transcript.id.split()) or "recording"
    lines = []
    for word in transcript.words:
        sure = "" if word.confidence is None else f" {word.confidence:.4f}"
        text = "_".join(word.text.split())
        lines.append(f"{name} 1 {word.start:.3f} {max(word.end - word.start, 0):.3f} {text}{sure}\n")
    return "".join(lines)


def _audacity(transcript: Transcript) -> str:
    return "".join(f"{word.start:.6f}\t{word.end:.6f}\t{word.text}\n" for word in transcript.words)


def _textgrid(transcript: Transcript) -> str:
    """Long text format. A tier's intervals fill the recording without gap or overlap; silence is an empty one."""
    characters = [character for word in transcript.words for character in word.characters]
    tiers = [("words", _intervals(transcript.words)), ("characters", _intervals(characters))]
    end = max([transcript.duration, *(intervals[-1][1] for _, intervals in tiers if intervals)])
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_praat(end)}",
        "tiers? <exists>", f"size = {len(tiers)}", "item []:",
    ]  # fmt: skip
    for number, (name, intervals) in enumerate(tiers, 1):
        last = intervals[-1][1] if intervals else 0.0
        if last < end:
            intervals.append((last, end, ""))
        lines += [
            f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"', "        xmin = 0",
            f"        xmax = {_praat(end)}", f"        intervals: size = {len(intervals)}",
        ]  # fmt: skip
        for place, (first, until, text) in enumerate(intervals, 1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{place}]:", f"            xmin = {_praat(first)}",
                f"            xmax = {_praat(until)}", f'            text = "{quoted}"',
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _intervals(parts: Sequence[Word | Character]) -> list[tuple[float, float, str]]:
    """With empty ones between, up to the end of the last. Praat knows no interval without length: a millisecond."""
    filled: list[tuple[float, float, str]] = []
    place = 0.0
    for part in parts:
        first = max(round(part.start, 6), place)
        last = max(round(part.end, 6), first + 0.001)
        if first > place:
            filled.append((place, first, ""))
        filled.append((first, last, part.text))
        place = last
    return filled


def _praat(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _clock(seconds: float, mark: str) -> str:
    """hh:mm:ss and milliseconds after `mark`."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


_WRITERS: dict[str, Callable[[Transcript], str]] = {
    "text": _text, "json": _json, "jsonl": _jsonl, "srt": _srt, "vtt": _vtt, "textgrid": _textgrid, "ctm": _ctm,
    "audacity": _audacity,
}  # fmt: skip
