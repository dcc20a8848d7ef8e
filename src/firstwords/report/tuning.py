"""Trials of weights as a table."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from firstwords.tuning import Tuning

SHOWN = 12


def print_tuning(found: Tuning, console: Console | None = None) -> None:
    """Prints the best trials, the best first, and where one began."""
    console = console or Console()
    first, best = found.trials[0], found.best
    ranked = sorted(found.trials, key=lambda trial: (trial.errors.errors, trial.settings.beam))
    shown = ranked[:SHOWN] + ([first] if first not in ranked[:SHOWN] else [])
    opened = len({trial.settings.unknown_score for trial in found.trials}) > 1
    table = Table(
        title=f"{len(found.trials)} trials, the best {min(SHOWN, len(ranked))}",
        title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    names = ["error rate", "wrong", "sub", "del", "ins", "weight", "word score", "unknown", "beam", "found"]
    for name in names:
        if name != "unknown" or opened:
            table.add_column(name, justify="left" if name == "found" else "right", no_wrap=True)
    for trial in shown:
        errors, settings = trial.errors, trial.settings
        cells = [f"{100 * errors.rate:.2f} %", str(errors.errors)]
        cells += [str(errors.substitutions), str(errors.deletions), str(errors.insertions)]
        cells += [f"{settings.lm_weight:.3f}", f"{settings.word_score:.3f}"]
        cells += [f"{settings.unknown_score:.3f}"] if opened else []
        table.add_row(*cells, str(settings.beam), trial.stage, style="bold" if trial is best else "")
    console.print(table)
    console.print(
        f"{100 * first.errors.rate:.2f} % to begin with, {100 * best.errors.rate:.2f} % at best, "
        f"over {best.errors.reference_length} words",
        style="dim",
    )
    if (sure := found.calibration) is not None:
        before, after = (f"{100 * error:.1f} %" for error in (sure.error_before, sure.error))
        console.print(
            f"Word confidences: temperature {sure.temperature:.2f}, expected calibration error {after} "
            f"({before} before) over {sure.words} words",
            style="dim",
        )
