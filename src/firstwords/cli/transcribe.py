"""firstwords transcribe RUN RECORDING..."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.cli.options import parse, several
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.corpus.parallel import track
from firstwords.errors import AudioError, CorpusError
from firstwords.formats import write_transcripts
from firstwords.recognizer import Recognizer, Source


@dataclass
class Arguments:
    """Recordings to text.

    Text: one line a recording, its name and a tab before it where there are several. Recordings that cannot be read
    are named and left out.
    """

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt."""
    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("RECORDING")]
    """Files, folders (searched for recordings), corpus folders or manifests."""
    format: Literal["text", "jsonl"] = "text"
    """Plain text, or JSON Lines with id, text and duration."""
    out: Path | None = None
    """Write here instead of to the terminal."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""


def run(arguments: list[str]) -> int:
    """Transcribes; 2 where not a single recording could be read."""
    chosen = parse(Arguments, arguments, "transcribe", flags=True)
    sources = [source for place in chosen.recordings for source in _sources(place)]
    if not chosen.recordings:
        raise CorpusError("nothing to transcribe: name recordings, folders or a corpus")
    if not sources:
        raise CorpusError(f"no recording in {', '.join(map(str, chosen.recordings))}")
    recognizer = Recognizer.load(chosen.recognizer, chosen.device, chosen.adapter)
    skipped: list[str] = []

    def skip(name: str, error: AudioError) -> None:
        skipped.append(name)
        print(f"left out: {error}", file=sys.stderr)

    transcripts = recognizer.stream(sources, batch_seconds=chosen.batch_seconds, skip=skip)
    shown = track(transcripts, len(sources), "transcribing") if len(sources) > 1 else transcripts
    with nullcontext(sys.stdout) if chosen.out is None else open(chosen.out, "w", encoding="utf-8") as lines:
        write_transcripts(shown, lines, chosen.format, named=len(sources) > 1)
    if skipped:
        print(f"{len(skipped)} of {len(sources)} recordings were left out", file=sys.stderr)
    return 2 if len(skipped) == len(sources) else 0


def _sources(place: Path) -> Sequence[Source]:
    """The recordings that a file or folder stands for."""
    if (place.is_dir() and (place / MANIFEST_NAME).is_file()) or place.suffix == ".jsonl":
        return list(read_manifest(place))
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    return [place]
