"""The stability matrix as a page: JSON, a table in Markdown, and a picture."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

SIDES = {"ours": "Firstwords", "peer": "Hugging Face's example"}
LOOKS = {"learns": "#3a8f4d", "at chance": "#e0b43c", "collapsed": "#c0392b", "": "#dddddd"}


def write_report(path: Path, cells: Sequence[Any], settings: Any) -> None:
    """Writes PATH.md, .json and .png of the cells that are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "date": datetime.date.today().isoformat(),
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()},
        "cells": [asdict(cell) for cell in cells],
    }
    for key in ("speech", "work", "out"):
        values["settings"].pop(key, None)
    path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    draw(path.with_suffix(".png"), cells, settings)
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# Stability\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    tables = "\n\n".join([counts(cells), matrix(cells, settings), sentences(cells)])
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


BEGIN, END = "<!-- tables: written by experiments/stability.py -->", "<!-- end of tables -->"
"""What stands around them in the page is a person's, and stays."""


def counts(cells: Sequence[Any]) -> str:
    """How many runs of each side ended how."""
    lines = ["| | runs | learn | at chance | collapsed |", "|---|---|---|---|---|"]
    for side, name in SIDES.items():
        ended = [cell.verdict for cell in cells if cell.side == side]
        if ended:
            each = " | ".join(str(ended.count(verdict)) for verdict in ("learns", "at chance", "collapsed"))
            lines.append(f"| {name} | {len(ended)} | {each} |")
    return "\n".join(lines)


def matrix(cells: Sequence[Any], settings: Any) -> str:
    """A row for each kind of data and audio per update, a column for each side and rate."""
    sides = [side for side in SIDES if any(cell.side == side for cell in cells)]
    columns = [(side, rate) for side in sides for rate in settings.rates]
    lines = [
        "| data | audio an update | " + " | ".join(f"{SIDES[side]}, {rate:g}" for side, rate in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for kind in settings.kinds:
        for seconds in settings.seconds:
            row = []
            for side, rate in columns:
                found = find(cells, side, kind, seconds, rate)
                row.append(
                    "not run"
                    if found is None
                    else f"{'' if found.verdict == 'learns' else found.verdict + ': '}{found.bits:.2f} bits, "
                    f"{100 * found.accuracy:.0f} %, {found.perplexity:.0f} codes"
                )
            lines.append(f"| {kind} | {seconds:g} s | " + " | ".join(row) + " |")
    return "\n".join(lines)


def sentences(cells: Sequence[Any]) -> str:
    """What our runs that do not learn said about themselves."""
    lines = ["| data | audio an update | peak rate | ended | said |", "|---|---|---|---|---|"]
    for cell in cells:
        if cell.side == "ours" and (cell.verdict != "learns" or cell.said):
            said = cell.said.split(" Mend:")[0] or "nothing"
            lines.append(f"| {cell.kind} | {cell.seconds:g} s | {cell.rate:g} | {cell.verdict} | {said} |")
    return "\n".join(lines) if len(lines) > 2 else "Every run of ours learns."


def draw(path: Path, cells: Sequence[Any], settings: Any) -> None:
    """A square for each run: its colour says how it ended, its number the loss on clean speech."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    sides = [side for side in SIDES if any(cell.side == side for cell in cells)]
    figure = Figure(figsize=(3 + 3.6 * len(sides), 1.6 + 0.55 * len(settings.kinds) * len(settings.seconds)))
    panels = figure.subplots(1, len(sides), squeeze=False)[0]
    rows = [(kind, seconds) for kind in settings.kinds for seconds in settings.seconds]
    for axes, side in zip(panels, sides, strict=True):
        for y, (kind, seconds) in enumerate(rows):
            for x, rate in enumerate(settings.rates):
                cell = find(cells, side, kind, seconds, rate)
                look = LOOKS[cell.verdict if cell is not None else ""]
                axes.add_patch(Rectangle((x, y), 0.94, 0.9, color=look))
                label = "" if cell is None else f"{cell.bits:.2f}"
                axes.text(x + 0.47, y + 0.45, label, ha="center", va="center", color="white", fontsize=11)
        axes.set(title=SIDES[side], xlim=(0, len(settings.rates)), ylim=(len(rows), 0), xlabel="peak learning rate")
        axes.set_xticks([x + 0.47 for x in range(len(settings.rates))], [f"{rate:g}" for rate in settings.rates])
        names = [f"{kind}, {seconds:g} s" for kind, seconds in rows] if side == sides[0] else [""] * len(rows)
        axes.set_yticks([y + 0.45 for y in range(len(rows))], names)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    handles = [Patch(color=colour, label=name or "not run") for name, colour in LOOKS.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"Loss in bits on clean speech after {settings.steps} updates (chance: 6.66)", fontsize=12)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=120)


def find(cells: Sequence[Any], side: str, kind: str, seconds: float, rate: float) -> Any:
    """The cell, or None."""
    wanted = (side, kind, seconds, rate)
    return next((c for c in cells if (c.side, c.kind, c.seconds, c.rate) == wanted), None)
