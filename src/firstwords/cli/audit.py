"""firstwords audit: what is in a corpus, and what will hurt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from firstwords.cli.options import parse
from firstwords.corpus.audit import audit
from firstwords.corpus.importers import LAYOUTS, ImportOptions, import_corpus
from firstwords.report.audit import plot_audit, print_audit, write_json


@dataclass
class Arguments:
    """What is in a corpus and what will hurt: lengths, silence, clipping, broken files, duplicates, transcripts.

    Every recording is decoded once; nothing is changed.
    """

    source: tyro.conf.Positional[Path]
    """A manifest, a corpus folder, or recordings in any layout that `firstwords prepare` takes."""
    split: str | None = None
    """Only this split."""
    json: Path | None = None
    """Also write every number and list to this file."""
    plot: Path | None = None
    """Also draw lengths and levels into this file (.png, .svg, .pdf)."""
    workers: int | None = None
    """Decoding threads; without this one per core."""
    reading: tyro.conf.OmitArgPrefixes[ImportOptions] = field(default_factory=ImportOptions)


def run(arguments: list[str]) -> None:
    """Audits, prints, and writes what is asked for."""
    given = parse(Arguments, arguments, "audit", flags=True)
    found = import_corpus(given.source, given.reading)
    chosen = [item for item in found.utterances if given.split in (None, item.split)]
    result = audit(chosen, found.problems, given.workers)
    if found.layout is not None:
        print(f"read as {found.layout}: {LAYOUTS[found.layout]}\n")
    print_audit(result, Console(highlight=False))
    if given.json is not None:
        write_json(result, given.json)
        print(f"wrote {given.json}")
    if given.plot is not None:
        plot_audit(result, given.plot)
        print(f"wrote {given.plot}")
