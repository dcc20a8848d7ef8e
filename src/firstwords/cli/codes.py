"""firstwords codes MODEL CORPUS"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from firstwords.cli.options import parse, several
from firstwords.codes import check_field, choose_codes, count_codes
from firstwords.corpus.intervals import FIELD, SILENCE, open_alignments
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AlignmentError, ConfigError
from firstwords.evaluation import in_splits
from firstwords.phone_times import FileTimes, ManifestTimes, RecognizerTimes, Times
from firstwords.recognizer import Recognizer
from firstwords.report.code_pictures import plot_codes, plot_similarity
from firstwords.report.codes import print_codes, print_similarity, write_counts, write_summary
from firstwords.training.data import read_corpora


@dataclass
class Arguments:
    """What a code stands for: which phones each codebook entry (or k-means unit) comes with, and how much codes tell of
    phone, speaker and language.

    When phones were said comes from a recogniser (--recognizer), from files (--alignments), or from the manifest
    (--field). With --by language alone no phones are needed.
    """

    model: tyro.conf.Positional[str]
    """A pre-training run or checkpoint with a quantiser, ours or others'; any model with --units."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests."""
    out: Path = Path("codes")
    """Folder for codes.png, codes.csv (counts) and codes.json, and a picture for --by."""
    recognizer: str | None = None
    """Lay transcripts over the recordings with this recogniser: phones, if it was fine-tuned with --text.units
    phonemes, else characters."""
    espeak: str | None = None
    """With a recogniser of espeak-ng's phones: tell phones of utterances that have text only, in this language of
    espeak-ng ("manifest": each utterance's own)."""
    alignments: Path | None = None
    """Take phone times from a folder of files named by utterance (.TextGrid, .json, .ctm, .phn), or from one .ctm or
    .jsonl of many."""
    tier: str | None = None
    """Which tier of those TextGrids, or "words" of .json; otherwise phones, else characters."""
    field: str | None = None
    """Take phone times from this key of the manifest: [[label, start, end], ...]. "segments" is looked for anyway."""
    by: tuple[str, ...] = ()
    """Also compare code use by language, speaker or any other key of the manifest."""
    split: str | None = None
    """Which utterances; everything otherwise."""
    layer: int | None = None
    """With --units: the layer, 0 for the input of the first block."""
    units: Path | None = None
    """Count units of these k-means centroids (firstwords units) over a layer, not codes of a quantiser."""
    codebook: int | None = None
    """Count the entries of one codebook by themselves (0 is the first), not those of all together."""
    speech: bool = False
    """Leave out frames outside all phones, which are a class of their own otherwise."""
    stress: bool = False
    """Keep the stress of ARPAbet's vowels (AH0, AH1)."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = 60.0
    """Most audio at once."""


def run(arguments: list[str]) -> None:
    """Counts, prints, draws."""
    chosen = parse(Arguments, arguments, "codes", flags=True)
    utterances = in_splits(read_corpora(chosen.corpus), chosen.split, ", ".join(map(str, chosen.corpus)))
    for name in chosen.by:
        check_field(utterances, name)
    times = _times(chosen, utterances)
    codes = choose_codes(chosen.model, chosen.layer, chosen.units, chosen.device)
    fields = dict.fromkeys(("speaker", "language", *chosen.by))
    found = count_codes(codes, utterances, times, list(fields), chosen.batch_seconds, chosen.stress)
    if chosen.speech and found.phones is not None:
        found.phones = found.phones.without(SILENCE)
    if chosen.codebook is not None:
        found = found.of_codebook(chosen.codebook)
    for reason in list(found.left_out.values())[:5]:
        print(f"left out: {reason}", file=sys.stderr)
    if len(found.left_out) > 5:
        print(f"left out: {len(found.left_out)} in all, named in {chosen.out / 'codes.json'}", file=sys.stderr)
    print_codes(found)
    write_counts(chosen.out / "codes.csv", found)
    write_summary(chosen.out / "codes.json", found, {"model": chosen.model}, chosen.by)
    written = ["codes.csv", "codes.json"]
    name = Path(chosen.model).name if chosen.units is None else f"{Path(chosen.model).name}, {chosen.units.name}"
    title = f"{name} on {', '.join(path.stem if path.suffix else path.name for path in chosen.corpus)}"
    if found.phones is not None:
        plot_codes(chosen.out / "codes.png", found, title)
        written.append("codes.png")
    for name in chosen.by:
        print_similarity(found, name)
        plot_similarity(chosen.out / f"{name}.png", found, name, title)
        written.append(f"{name}.png")
    print(f"wrote {', '.join(written)} into {chosen.out}", file=sys.stderr)


def _times(chosen: Arguments, utterances: list[Utterance]) -> Times | None:
    """Who tells when phones were said."""
    asked = [name for name in ("recognizer", "alignments", "field") if getattr(chosen, name) is not None]
    if len(asked) > 1:
        raise ConfigError(f"phone times from --{asked[0]} or from --{asked[1]}? Name one")
    if chosen.espeak is not None and chosen.recognizer is None:
        raise ConfigError("--espeak tells phones, not when they were said: give --recognizer too")
    if chosen.tier is not None and chosen.alignments is None:
        raise ConfigError("--tier chooses among those of --alignments, which is not given")
    if chosen.recognizer is not None:
        return RecognizerTimes(Recognizer.load(chosen.recognizer, chosen.device), chosen.espeak)
    if chosen.alignments is not None:
        return FileTimes(open_alignments(chosen.alignments, chosen.tier))
    if chosen.field is not None or any(FIELD in utterance.extras for utterance in utterances):
        return ManifestTimes(chosen.field or FIELD)
    if not chosen.by:
        raise AlignmentError(
            f'when was each phone said? Give --recognizer RUN, --alignments FOLDER, or a manifest with "{FIELD}"; '
            "code use alone needs none of them: --by speaker"
        )
    return None
