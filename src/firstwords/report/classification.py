"""A classifier's scores as tables, and its confusions as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstwords.class_scoring import ClassificationScore
from firstwords.errors import CheckpointError
from firstwords.scoring import Interval
from firstwords.verification import VerificationScore

NAMED = 40
"""Up to so many classes the picture names each and writes the counts."""


def print_classification(
    score: ClassificationScore, console: Console | None = None, classes: int = 20, confusions: int = 10
) -> None:
    """Prints accuracy and macro-F1 with intervals, the classes, and what is taken for what.

    Args:
        classes: the most classes to list, those with the lowest F1.
        confusions: entries of that list.
    """
    console = console or Console()
    table = _table("")
    for name in ("", "%", "95 % interval"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("accuracy", f"{100 * score.accuracy:.2f}", between(score.accuracy_interval))
    table.add_row("macro-F1", f"{100 * score.macro_f1:.2f}", between(score.macro_f1_interval))
    console.print(table)
    there = sum(one.utterances > 0 for one in score.classes)
    note = f"{len(score.utterances)} utterances of {there} classes; the commonest alone: {100 * score.majority:.2f} %."
    if score.accuracy_interval is not None:
        used = score.accuracy_interval
        note += f" Intervals: percentile bootstrap, {used.resamples} resamples of {used.unit}."
    console.print(note, style="dim")
    if score.unknown:
        shown = ", ".join(score.unknown[:8])
        console.print(f"{len(score.unknown)} classes that the classifier does not have, counted as wrong: {shown}")
    listed = sorted((one for one in score.classes if one.utterances), key=lambda one: (one.f1, one.label))[:classes]
    left_out = there - len(listed)
    table = _table(f"Classes ({left_out} better ones not shown)" if left_out else "Classes")
    for name in ("class", "utterances", "found", "right", "precision", "recall", "F1"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for one in listed:
        rates = (f"{100 * value:.1f} %" for value in (one.precision, one.recall, one.f1))
        table.add_row(Text(one.label), str(one.utterances), str(one.found), str(one.right), *rates)
    console.print(table)
    if pairs := score.commonest(confusions):
        table = _table("Commonest confusions")
        table.add_column("times", justify="right")
        table.add_column("class → taken for")
        for reference, found, times in pairs:
            table.add_row(str(times), Text(f"{reference} → {found}"))
        console.print(table)


def print_verification(score: VerificationScore, console: Console | None = None) -> None:
    """Prints the equal error rate with its interval, and the detection cost."""
    console = console or Console()
    table = _table("Speaker verification")
    for name in ("", "", "95 % interval"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("equal error rate", f"{100 * score.equal_error_rate:.2f} %", between(score.interval))
    table.add_row(f"least detection cost (prior {score.prior:g})", f"{score.detection_cost:.3f}", "")
    table.add_row("threshold (cosine)", f"{score.threshold:.3f}", "")
    console.print(table)
    note = f"{score.same:,} pairs by one speaker, {score.different:,} by two."
    if score.interval is not None:
        note += f" Interval: percentile bootstrap, {score.interval.resamples} resamples of {score.interval.unit}."
    console.print(note, style="dim")


def between(interval: Interval | None) -> str:
    """An interval for a person."""
    return "" if interval is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def plot_confusions(path: Path, score: ClassificationScore, title: str = "") -> None:
    """Draws the confusion matrix: a row for each class, its shares over what its utterances were taken for.

    Many classes are not named; the picture then tells whether errors gather in blocks or lie everywhere.

    Args:
        path: .png, .svg or .pdf.
        score: of a classifier.
        title: over the picture; accuracy and number of utterances are added.

    Raises:
        CheckpointError: it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    there = [i for i, one in enumerate(score.classes) if one.utterances or one.found]
    counts = score.confusions[np.ix_(there, there)]
    names = [score.labels[i] for i in there]
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    size, few = len(names), len(names) <= NAMED
    side = min(max(4.5, 0.42 * size + 2), 15) if few else 9.0
    figure = Figure(figsize=(side + 1.2, side + 0.6), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    # with many classes single errors would vanish: a root makes a tenth as visible as a third
    image = axes.imshow(shares if few else np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if few:
        steep = max(map(len, names)) > 2
        axes.set_xticks(range(size), names, rotation=60 if steep else 0, ha="right" if steep else "center")
        axes.set_yticks(range(size), names)
        letters = max(5, min(10, 260 // size))
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.55 else "#20303c"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=letters)
    else:
        axes.set_xlabel(f"taken for (one of {size} classes)")
        axes.set_ylabel(f"is (one of {size} classes)")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="share of the class")
    if not few:
        ticks = np.array([0, 0.05, 0.2, 0.5, 1.0])
        bar.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{value:g}" for value in ticks])
    about = f"accuracy {100 * score.accuracy:.1f} % of {len(score.utterances)} utterances"
    axes.set_title(f"{title}: {about}" if title else about, fontsize=11)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def _table(title: str) -> Table:
    return Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
