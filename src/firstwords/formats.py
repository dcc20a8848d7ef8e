"""Transcripts as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal, TextIO

from firstwords.recognizer import Transcript


def write_transcripts(
    transcripts: Iterable[Transcript], lines: TextIO, kind: Literal["text", "jsonl"], named: bool
) -> None:
    """Writes transcripts as they come.

    Args:
        transcripts: any number.
        lines: where to.
        kind: "text": a line each; "jsonl": a JSON object each.
        named: with "text", the id and a tab stand before each line.
    """
    for transcript in transcripts:
        if kind == "jsonl":
            line = json.dumps(transcript.to_dict(), ensure_ascii=False)
        else:
            line = f"{transcript.id}\t{transcript.text}" if named else transcript.text
        lines.write(line + "\n")
        lines.flush()
