"""firstwords transcribe RUN RECORDING..."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.cli.options import DecoderOptions, decoder_config, parse, say_note, several
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.corpus.parallel import AudioProgress
from firstwords.decoding.options import DecoderConfig
from firstwords.errors import AudioError, CorpusError
from firstwords.formats import TOGETHER, Format, FormatError, write_files, write_transcripts
from firstwords.live import LiveConfig, microphone
from firstwords.models.inference import Precision
from firstwords.recognizer import Recognizer, Settings
from firstwords.recording import Source, total_seconds
from firstwords.report.live import show_live
from firstwords.windows import WindowConfig


@dataclass
class Arguments:
    """Recordings of any length to text.

    Text: one line a recording, its name and a tab before it where there are several. Recordings that cannot be read
    are named and left out.
    """

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt."""
    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("RECORDING")] = ()
    """Files, folders (searched for recordings), corpus folders or manifests."""
    format: Format = "text"
    """Plain text; JSON or JSON Lines with the times and confidence of words and characters; subtitles (srt, vtt); a
    Praat TextGrid; NIST's CTM; an Audacity label track."""
    out: Path | None = None
    """A file to write to instead of the terminal, or a folder that gets one file a recording (so several recordings
    need one with json, srt, vtt, textgrid and audacity)."""
    microphone: bool = False
    """Transcribe what is being said, until Ctrl-C."""
    step: float = 0.5
    """With --microphone: seconds between two looks at what was heard."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    precision: Precision = "auto"
    """Of the network; "auto" takes bfloat16 where the hardware is fast at it."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""
    window_seconds: float = WindowConfig.seconds
    """Audio of a long recording that passes through the network at a time; inf hears it as a whole."""
    context_seconds: float = WindowConfig.context
    """What is heard beyond a window on either side."""
    pauses: Literal["auto", "voice", "blanks"] = "auto"
    """Where long recordings are cut for decoding: pauses by Silero's voice detector (the extra "vad"), or blanks."""
    times: Literal["alignment", "peaks"] = "alignment"
    """Word times by forced alignment of the text found, or from the peaks of its labels."""
    decoder: DecoderOptions = field(default_factory=DecoderConfig)


def run(arguments: list[str]) -> int:
    """Transcribes; 2 where not a single recording could be read."""
    chosen = parse(Arguments, arguments, "transcribe", flags=True)
    sources = [source for place in chosen.recordings for source in _sources(place)]
    if chosen.microphone and chosen.recordings:
        raise CorpusError("recordings or --microphone, not both")
    if not chosen.recordings and not chosen.microphone:
        raise CorpusError("nothing to transcribe: name recordings, folders or a corpus, or say --microphone")
    if not sources and not chosen.microphone:
        raise CorpusError(f"no recording in {', '.join(map(str, chosen.recordings))}")
    folder = chosen.out is not None and (chosen.out.is_dir() or not chosen.out.suffix)
    if len(sources) > 1 and chosen.format not in TOGETHER and not folder:
        raise FormatError(
            f"{len(sources)} recordings do not go into one {chosen.format} file: name a folder with --out, or take "
            f"--format {', '.join(TOGETHER[:-1])} or {TOGETHER[-1]}"
        )
    settings = Settings(
        windows=WindowConfig(chosen.window_seconds, chosen.context_seconds),
        pauses=chosen.pauses,
        times=chosen.times,
        batch_seconds=chosen.batch_seconds,
    )
    recognizer = Recognizer.load(
        chosen.recognizer,
        chosen.device,
        lm=decoder_config(chosen.decoder),
        precision=chosen.precision,
        adapter=chosen.adapter,
    )
    recognizer.settings = replace(settings, temperature=recognizer.settings.temperature)
    if chosen.microphone:
        rate, blocks = microphone()
        show_live(recognizer.listen(blocks, rate, LiveConfig(step=chosen.step)), chosen.out)
        return 0
    skipped: list[str] = []

    def skip(name: str, error: AudioError) -> None:
        skipped.append(name)
        print(f"left out: {error}", file=sys.stderr)

    with AudioProgress(total_seconds(sources), "transcribing") as progress:
        transcripts = recognizer.stream(sources, skip=skip, heard=progress.advance)
        if folder and chosen.out is not None:
            written = write_files(transcripts, chosen.out, chosen.format)
        else:
            with nullcontext(sys.stdout) if chosen.out is None else open(chosen.out, "w", encoding="utf-8") as lines:
                write_transcripts(transcripts, lines, chosen.format, named=len(sources) > 1)
    say_note(recognizer.decoder)
    if folder:
        print(f"{len(written)} files in {chosen.out}", file=sys.stderr)
    if progress.elapsed > 2:
        print(progress.summary, file=sys.stderr)
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
