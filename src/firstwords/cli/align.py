"""firstwords align RUN RECORDING TEXT"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from firstwords.cli.options import parse
from firstwords.decoding.alignment import AlignmentConfig
from firstwords.errors import AlignmentError
from firstwords.formats import Format, render
from firstwords.recognizer import Recognizer
from firstwords.segmentation import SegmentConfig, write_utterances
from firstwords.transcript import aligned_transcript


@dataclass
class Arguments:
    """When every word of a text was said in a recording, hours long if need be.

    Words that the recogniser's alphabet cannot spell (numbers, symbols) get their time too, and speech before and after
    the text is left alone.
    """

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run, or a checkpoint."""
    recording: tyro.conf.Positional[Path]
    """A recording of any length."""
    text: tyro.conf.Positional[Path]
    """A text file; line breaks and full stops end sentences. "-" reads the text from standard input."""
    format: Format = "textgrid"
    """A Praat TextGrid; JSON or JSON Lines; subtitles (srt, vtt); NIST's CTM; an Audacity label track."""
    out: Path | None = None
    """Write here instead of to the terminal."""
    units: Literal["words", "characters"] = "words"
    """What gets a line of its own in CTM, Audacity labels and subtitles (JSON and TextGrid hold both)."""
    plot: Path | None = None
    """Draw waveform, spectrogram, posteriors and words into this picture (.png, .svg, .pdf)."""
    plot_start: float = 0.0
    """Where the picture begins, seconds."""
    plot_seconds: float = 15.0
    """How much the picture shows."""
    segment: Path | None = None
    """Write a manifest of sentence-sized utterances into this folder: training data out of an audiobook."""
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    """What those utterances may be like."""
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    """How the text is laid over the recording."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""


def run(arguments: list[str]) -> None:
    """Aligns, writes, says how well it went."""
    chosen = parse(Arguments, arguments, "align", flags=True)
    text = _read_text(chosen.text)
    recognizer = Recognizer.load(chosen.recognizer, chosen.device)
    found = recognizer.align(chosen.recording, text, chosen.alignment)
    transcript = aligned_transcript(found, recognizer.alphabet, str(chosen.recording), chosen.units)
    with nullcontext(sys.stdout) if chosen.out is None else open(chosen.out, "w", encoding="utf-8") as lines:
        if chosen.out is not None or chosen.segment is None:
            lines.write(render(transcript, chosen.format))
    for line in found.remarks():
        print(line, file=sys.stderr)
    if chosen.segment is not None:
        count = write_utterances(chosen.recording, found, recognizer.alphabet, chosen.segment, chosen.segments)
        print(f"{count} utterances in {chosen.segment}", file=sys.stderr)
    if chosen.plot is not None:
        from firstwords.report.alignment import plot_alignment

        plot_alignment(chosen.plot, recognizer, chosen.recording, found, chosen.plot_start, chosen.plot_seconds)


def _read_text(place: Path) -> str:
    try:
        return sys.stdin.read() if str(place) == "-" else place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AlignmentError(f"{place}: not a readable text in UTF-8 ({error})") from error
