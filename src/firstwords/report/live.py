"""A transcript on a terminal while it grows."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from firstwords.live import LiveTranscript


def show_live(transcripts: Iterable[LiveTranscript], out: Path | None = None) -> None:
    """Shows the stable text, the rest dim behind it, with latency and compute below; Ctrl-C ends it.

    Where the output is no terminal, stable words are written as they become so.

    Args:
        transcripts: of `Recognizer.listen`.
        out: a file for the text at the end.
    """
    console = Console()
    last: LiveTranscript | None = None
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=10, vertical_overflow="visible") as live:
                for last in transcripts:
                    live.update(_screen(last))
        else:
            written = ""
            for last in transcripts:
                new = last.stable[len(written) :]
                written = last.stable
                if new:
                    print(new, end="", flush=True)
    except KeyboardInterrupt:
        pass
    if not console.is_terminal:
        print()
    if last is not None:
        if out is not None:
            out.write_text(last.text + "\n", encoding="utf-8")
        print(_figures(last), file=sys.stderr)


def _screen(transcript: LiveTranscript) -> Text:
    return Text.assemble(
        transcript.stable, " ", (transcript.tentative, "dim"), "\n", (_figures(transcript), "dim italic")
    )


def _figures(transcript: LiveTranscript) -> str:
    behind = "" if transcript.compute < 1 else "; too slow to keep up, try a larger --step"
    return (
        f"{transcript.seconds:.1f} s heard, stable after {transcript.latency:.2f} s, "
        f"{transcript.compute:.2f} s of computing a second{behind}"
    )
