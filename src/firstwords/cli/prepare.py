"""firstwords prepare: recordings in any layout to a manifest, and shards if asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstwords.cli.options import parse
from firstwords.corpus.importers import LAYOUTS, ImportOptions
from firstwords.corpus.prepare import PROBLEMS_NAME, Prepared, PrepareOptions, SplitSummary, prepare, summarise

SHOWN = 5
"""Problems of each kind that are printed; the file has them all."""


@dataclass
class Arguments:
    """Recordings in any layout to a corpus: OUT/manifest.jsonl, and OUT/shards if asked.

    Layouts: a folder of audio with or without NAME.txt beside NAME.wav; a CSV or TSV with paths and transcripts (Common
    Voice, LJ Speech); LibriSpeech and Libri-Light; a Kaldi data directory; fairseq's .tsv with .ltr, .wrd or .phn;
    a manifest. Every recording is read once; those that cannot be used are left out and named in OUT/problems.tsv.
    """

    source: tyro.conf.Positional[Path]
    """File or folder to import."""
    out: tyro.conf.Positional[Path]
    """Folder of the corpus."""
    corpus: tyro.conf.OmitArgPrefixes[PrepareOptions] = field(default_factory=PrepareOptions)
    reading: tyro.conf.OmitArgPrefixes[ImportOptions] = field(default_factory=ImportOptions)


def run(arguments: list[str]) -> None:
    """Prepares, and prints what there is now."""
    given = parse(Arguments, arguments, "prepare", flags=True)
    print_prepared(prepare(given.source, given.out, given.corpus, given.reading))


def print_prepared(prepared: Prepared) -> None:
    """Amounts by split, then what was left out and what else is not as it should be."""
    console = Console(highlight=False)
    if prepared.layout is not None:
        console.print(Text(f"read as {prepared.layout}: {LAYOUTS[prepared.layout]}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("split", "utterances", "hours", "transcribed h", "speakers"):
        table.add_column(column, justify="left" if column == "split" else "right")
    splits = summarise(prepared.utterances)
    total = SplitSummary()
    for utterance in prepared.utterances:
        total.add(utterance, utterance.duration or 0.0)
    for name, amounts in [*splits.items(), *([("all", total)] if len(splits) > 1 else [])]:
        table.add_row(name or "(none)", *_cells(amounts))
    console.print(table)
    for note in prepared.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for lost in (True, False):
        problems = [problem for problem in prepared.problems if problem.lost is lost]
        if problems:
            what = "left out" if lost else "kept, but not as it should be"
            console.print(Text(f"{len(problems)} {what}:", style="bold"))
        for problem in problems[:SHOWN]:
            console.print(Text(f"  {problem.where}: {problem.what}"), soft_wrap=True)
        if len(problems) > SHOWN:
            console.print(f"  ... and {len(problems) - SHOWN} more")
    if prepared.problems:
        console.print(Text(f"all of them: {prepared.manifest.parent / PROBLEMS_NAME}"), soft_wrap=True)
    console.print(Text(f"wrote {prepared.manifest}"), soft_wrap=True)


def _cells(amounts: SplitSummary) -> tuple[str, ...]:
    hours, transcribed = amounts.seconds / 3600, amounts.transcribed_seconds / 3600
    return f"{amounts.utterances:,}", f"{hours:.2f}", f"{transcribed:.2f}", str(len(amounts.speakers) or "?")
