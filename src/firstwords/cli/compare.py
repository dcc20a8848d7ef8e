"""firstwords compare RUN... [--reference NAME]"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.cli.options import parse, several
from firstwords.errors import ConfigError
from firstwords.report.compare import pages, plot_comparison, print_comparison
from firstwords.report.reference import Curve, keep, load_reference, read_runs, reference_names, references_of


@dataclass
class Facts:
    """What a reference curve says about itself, besides what the run's folder knows."""

    recipe: str = ""
    """Name of the recipe."""
    corpus: str = ""
    """What was listened to."""
    hardware: str = ""
    """What it ran on."""
    commit: str = ""
    """Of the code that it ran with."""
    source: str = ""
    """Where more is written about it."""


@dataclass
class Arguments:
    """Runs over reference curves: loss beside chance level, accuracy, codes in use, error rates."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("RUN")]
    """Folders of runs, of either kind."""
    reference: tuple[str, ...] = ("auto",)
    """Reference curves by name, or .jsonl files; "auto": those of the runs' recipes; "none"."""
    out: Path = Path("compare.png")
    """The picture (.png, .svg, .pdf); of runs of both kinds, two with the kind in their names."""
    keep: str | None = None
    """Write the one run given as a reference curve, thinned: a name, or the path of a .jsonl file."""
    facts: Annotated[Facts, tyro.conf.arg(name="")] = field(default_factory=Facts)


def run(arguments: list[str]) -> None:
    """Draws, prints; or keeps a curve."""
    chosen = parse(Arguments, arguments, "compare", flags=True)
    runs = read_runs(chosen.runs)
    console = Console(highlight=False)
    if chosen.keep is not None:
        if len(runs) > 1:
            raise ConfigError(f"--keep takes one run, {len(runs)} were given")
        path = Path(chosen.keep if chosen.keep.endswith(".jsonl") else f"{chosen.keep}.jsonl")
        curve = keep(runs[0], path, vars(chosen.facts))
        console.print(f"{path}: {len(curve.records)} of {len(runs[0].records)} lines; compare with --reference {path}")
        return
    references = _references(chosen.reference, runs, console)
    for kind, path in pages(chosen.out, runs).items():
        drawn, under = ([curve for curve in curves if curve.kind == kind] for curves in (runs, references))
        plot_comparison(path, drawn, under)
        print_comparison(drawn, under, console)
        console.print(f"drawn: {path}")


def _references(names: tuple[str, ...], runs: list[Curve], console: Console) -> list[Curve]:
    if names == ("none",):
        return []
    if names != ("auto",):
        return [load_reference(name) for name in names]
    found = references_of(runs)
    have = {curve.kind for curve in found}
    for kind in sorted({one.kind for one in runs} - have):
        recipes = sorted({str(one.about.get("recipe", "unknown")) for one in runs if one.kind == kind})
        there = ", ".join(reference_names(kind))
        console.print(f"no reference curve for recipe {', '.join(recipes)}; --reference takes {there}")
    return found
