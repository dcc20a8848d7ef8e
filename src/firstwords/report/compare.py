"""Runs over reference curves: a picture, a table, and where each run stands, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from firstwords.report.curves import COLOURS, GREY, LOSS_CEILING, RATE_CEILING, line, mark_chance, sheet, write_sheet
from firstwords.report.reference import Curve, Kind

HOURS, UPDATES, VALID = "hours", "update", "valid_"
LEVEL = {"bits": 0.05, "accuracy": 0.01, "cer": 0.02, "wer": 0.02, "bits_per_label": 0.05}
"""Differences that one seed against another makes; below them two runs are level."""


@dataclass(frozen=True)
class Figure:
    """Something that is compared."""

    name: str
    """In the log, also with "valid_" before it."""
    words: str
    high_is_good: bool = False
    percent: bool = False

    def text(self, value: float) -> str:
        """A value for a person."""
        return f"{100 * value:.1f} %" if self.percent else f"{value:.2f} bits"


FIGURES: dict[Kind, tuple[Figure, ...]] = {
    "pretrain": (Figure("bits", "loss"), Figure("accuracy", "accuracy", high_is_good=True, percent=True)),
    "finetune": (
        Figure("cer", "CER", percent=True),
        Figure("wer", "WER", percent=True),
        Figure("bits_per_label", "loss"),
    ),
}
"""What a run is measured by, the most telling first."""


def pages(out: Path, curves: Sequence[Curve]) -> dict[Kind, Path]:
    """The picture of each kind of run among the curves: one is called `out`, two have their kind in the name."""
    kinds: list[Kind] = [kind for kind in FIGURES if any(c.kind == kind and not c.reference for c in curves)]
    if len(kinds) == 1:
        return {kinds[0]: out}
    return {kind: out.with_name(f"{out.stem}-{kind}{out.suffix}") for kind in kinds}


def axis_of(curves: Sequence[Curve]) -> str:
    """Hours of audio heard where all curves know them, else updates."""
    return HOURS if all(any(HOURS in r for r in curve.records) for curve in curves) else UPDATES


def plot_comparison(path: Path, runs: Sequence[Curve], references: Sequence[Curve]) -> None:
    """Draws runs of one kind in colour over references in grey.

    Raises:
        CheckpointError: the picture cannot be written.
    """
    curves = [*references, *runs]
    axis = axis_of(curves)
    figure, panels = sheet(1, below=0.28 * len(curves))
    looks: list[tuple[str, Any]] = [
        (GREY, style) for _, style in zip(references, ("--", ":", "-.", (0, (1, 3))) * len(curves), strict=False)
    ]
    looks += [(colour, "-") for _, colour in zip(runs, COLOURS * len(runs), strict=False)]
    draw = _draw_listening if runs[0].kind == "pretrain" else _draw_words
    for curve, (colour, style) in zip(curves, looks, strict=True):
        draw(panels[0], curve, colour, style, axis)
    if runs[0].kind == "pretrain":
        _finish_listening(panels[0], curves)
    else:
        _finish_words(panels[0])
    figure.legend(
        handles=[_handle(curve, *look) for curve, look in zip(curves, looks, strict=True)],
        loc="outside lower left",
        frameon=False,
        fontsize=9,
    )
    write_sheet(path, figure, panels, "hours of audio heard" if axis == HOURS else "update")


def _handle(curve: Curve, colour: str, style: Any) -> Any:
    from matplotlib.lines import Line2D

    facts = [str(curve.about[key]) for key in ("recipe", "corpus") if key in curve.about]
    name = f"{'reference ' if curve.reference else ''}{curve.name}" + (f"  ({'; '.join(facts)})" if facts else "")
    return Line2D([], [], color=colour, linestyle=style, linewidth=1.8, label=name)


def _draw_listening(panels: Sequence[Any], curve: Curve, colour: str, style: str, axis: str) -> None:
    """Validation thick where there is one, training thin."""
    loss, accuracy, codes = panels
    for axes, name, scale in ((loss, "bits", 1), (accuracy, "accuracy", 100)):
        validated = bool(curve.points(f"valid_{name}", axis))
        line(axes, curve.records, name, colour, "", scale, width=0.8 if validated else 1.8, axis=axis, style=style)
        line(axes, curve.records, f"valid_{name}", colour, "", scale, dots=not curve.reference, axis=axis, style=style)
    line(codes, curve.records, "codes_perplexity", colour, "", axis=axis, style=style)


def _finish_listening(panels: Sequence[Any], curves: Sequence[Curve]) -> None:
    loss, accuracy, codes = panels
    chances = {r[key] for c in curves for r in c.records for key in ("chance_bits", "valid_chance_bits") if key in r}
    for chance in sorted(chances):
        mark_chance(loss, accuracy, chance)
    loss.set(title="Contrastive loss (thin: training)", ylabel="bits")
    accuracy.set(title="Accuracy (thin: training)", ylabel="% of masked frames")
    codes.set(title="Codes in use (perplexity)", ylabel="summed over codebooks")
    for axes in (accuracy, codes):
        axes.set_ylim(bottom=0)


def _draw_words(panels: Sequence[Any], curve: Curve, colour: str, style: str, axis: str) -> None:
    loss, characters, words = panels
    dots = not curve.reference
    line(loss, curve.records, "bits_per_label", colour, "", width=0.8, axis=axis, style=style)
    line(loss, curve.records, "valid_bits_per_label", colour, "", dots=dots, axis=axis, style=style)
    line(characters, curve.records, "valid_cer", colour, "", 100, dots=dots, axis=axis, style=style)
    line(words, curve.records, "valid_wer", colour, "", 100, dots=dots, axis=axis, style=style)


def _finish_words(panels: Sequence[Any]) -> None:
    loss, characters, words = panels
    loss.set(title="Loss (thin: training)", ylabel="bits per label", ylim=(0, LOSS_CEILING))
    characters.set(title="Label error rate, validation", ylabel="%", ylim=(0, RATE_CEILING))
    words.set(title="Word error rate, validation", ylabel="%", ylim=(0, RATE_CEILING))


def print_comparison(runs: Sequence[Curve], references: Sequence[Curve], console: Console) -> None:
    """A table of final and best figures, and a sentence for each run and reference."""
    kind = runs[0].kind
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("listening" if kind == "pretrain" else "first words", no_wrap=True)
    titles = [f"{figure.words} (best)" for figure in FIGURES[kind]]
    for title in ("updates", "hours", *titles, *(["codes"] if kind == "pretrain" else [])):
        table.add_column(title, justify="right")
    for curve in [*runs, *references]:
        last = max((r["update"] for r in curve.records if "update" in r), default=0)
        hours = max((r[HOURS] for r in curve.records if HOURS in r), default=None)
        cells = [f"{last:,}", "" if hours is None else f"{hours:.2f}"]
        cells += [_last_and_best(curve, figure) for figure in FIGURES[kind]]
        if kind == "pretrain":
            codes = curve.points("codes_perplexity", UPDATES)
            cells.append(f"{codes[-1][1]:.0f}" if codes else "")
        table.add_row(curve.name, *cells, style="dim" if curve.reference else None, end_section=curve is runs[-1])
    console.print(table)
    for run in runs:
        for reference in references:
            console.print(f"{run.name}: {stand(run, reference)}", soft_wrap=True)


def _last_and_best(curve: Curve, figure: Figure) -> str:
    """Of the validations, else of training."""
    points = curve.points(VALID + figure.name, UPDATES) or curve.points(figure.name, UPDATES)
    if not points:
        return ""
    values = [value for _, value in points]
    best = max(values) if figure.high_is_good else min(values)
    last, top = (f"{100 * v:.1f}" if figure.percent else f"{v:.2f}" for v in (values[-1], best))
    return f"{last}{' %' if figure.percent else ''} ({top})"


def stand(run: Curve, reference: Curve) -> str:
    """Where a run stands against a reference at equal audio heard, in words; at equal updates where that is unknown."""
    axis = axis_of([run, reference])
    apart = ""
    for figure in FIGURES[run.kind]:
        for kinds in ((VALID, VALID), ("", ""), (VALID, ""), ("", VALID)):
            mine, theirs = (c.points(k + figure.name, axis) for c, k in zip((run, reference), kinds, strict=True))
            if not mine or not theirs:
                continue
            first, end = theirs[0][0], theirs[-1][0]
            reached = [point for point in mine if first <= point[0] <= end]
            if reached:
                text = _weigh(reached[-1], theirs, figure, axis, reference.name)
                if len(set(kinds)) > 1:
                    text += " (in validation here, in training there)" if kinds[0] else " (the reference in validation)"
                if mine[-1][0] > end:
                    text += f"; the reference ends there, the run went on to {figure.text(mine[-1][1])}"
                return text + _other_chance(run, reference, figure) + "."
            early = mine[-1][0] < first
            apart = f"begins at {_amount(first, axis)}" if early else f"ends before {_amount(mine[0][0], axis)}"
    if apart:
        return f"not to be compared with {reference.name}, which {apart}."
    return f"shares no figure with {reference.name}."


def _weigh(
    point: tuple[float, float], theirs: Sequence[tuple[float, float]], figure: Figure, axis: str, name: str
) -> str:
    """One point of a run against a reference, in words."""
    place, value = point
    places, values = zip(*theirs, strict=True)
    other = float(np.interp(place, places, values))
    better = (value - other) * (1 if figure.high_is_good else -1)
    judged = "level with" if abs(better) <= LEVEL[figure.name] else "ahead of" if better > 0 else "behind"
    text = (
        f"{judged} {name} after {_amount(place, axis)}: {figure.words} {figure.text(value)}, there {figure.text(other)}"
    )
    return text + (_as_far_as(theirs, value, figure, axis) if judged == "behind" else "")


def _as_far_as(theirs: Sequence[tuple[float, float]], value: float, figure: Figure, axis: str) -> str:
    """When the reference was where the run is now."""
    for (before, low), (after, high) in pairwise(theirs):
        if min(low, high) <= value <= max(low, high) and low != high:
            place = before + (after - before) * (value - low) / (high - low)
            return f", which had that after {_amount(place, axis)}"
    worse = value < theirs[0][1] if figure.high_is_good else value > theirs[0][1]
    return f", which was past that after {_amount(theirs[0][0], axis)}" if worse else ""


def _other_chance(run: Curve, reference: Curve, figure: Figure) -> str:
    """A warning where the two losses do not have the same chance level."""
    if run.kind != "pretrain":
        return ""
    mine, theirs = (
        next((r[key] for r in c.records for key in ("chance_bits", "valid_chance_bits") if key in r), None)
        for c in (run, reference)
    )
    if mine is None or theirs is None or abs(mine - theirs) < 0.01:
        return ""
    return f"; {figure.words} does not compare, as chance is {mine:.2f} bits here, {theirs:.2f} there"


def _amount(value: float, axis: str) -> str:
    return f"{value:.2f} h heard" if axis == HOURS else f"{value:,.0f} updates"
