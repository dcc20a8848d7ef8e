"""The curves of a sweep's members in one picture: label-free figures, the losses, and error rates where known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firstwords.errors import CheckpointError
from firstwords.report.curves import COLOURS, CURVES, GREY, sheet, write_sheet
from firstwords.training.run import LOG, STATUS, read_log

Series = dict[int, list[tuple[float, float]]]
"""Each member's (update, value)."""


def plot_sweep(folder: Path) -> Path | None:
    """Draws a sweep's log into its `curves.png`; None where the log has nothing to draw yet.

    All members are drawn thin, the chosen one thick.

    Raises:
        CheckpointError: no log there, or the picture cannot be written.
    """
    if not (folder / LOG).is_file():
        raise CheckpointError(f"{folder}: no {LOG} there")
    records = read_log(folder)
    if not any("valid_members" in record for record in records):
        return None
    chosen = _chosen(folder)
    figure, panels = sheet(2, folder.name)
    known = any(any(value is not None for value in record.get("valid_per", [])) for record in records)
    drawn = (
        (panels[0][0], "valid_weighted", "Perplexity over (phones used)²: lower is better", "valid_members", 1.0),
        (panels[0][1], "valid_fluency", "Fluency: 0 as shuffled, 1 as real text", "valid_members", 1.0),
        (panels[0][2], "valid_used", "Phones used", "valid_members", 100.0),
        (panels[1][0], "told_generated", "Discriminator: cost of generated phones", "running", 1 / math.log(2)),
        (panels[1][1], "penalty", "Gradient penalty (before its weight)", "running", 1.0),
    )
    for axes, name, title, members, scale in drawn:
        _draw(axes, series(records, name, members), chosen, scale)
        axes.set(title=title)
    _logarithmic(panels[0][0])
    panels[0][0].legend(frameon=False, fontsize=9)
    panels[0][1].axhline(1, color=GREY, linewidth=1, linestyle="--")
    panels[0][1].set_ylim(bottom=max(-1.0, panels[0][1].get_ylim()[0]))
    panels[0][2].set(ylabel="%")
    panels[0][2].set_ylim(0, 105)
    panels[1][0].set(ylabel="bits an utterance")
    last = panels[1][2]
    if known:
        _draw(last, series(records, "valid_per", "valid_members"), chosen, 100.0)
        last.set(title="Phone error rate (known here, never used)", ylabel="%")
        last.set_ylim(0, 110)
    else:
        _draw(last, series(records, "choices", "running"), chosen, 1.0)
        last.set(title="Symbols chosen (perplexity)")
        last.set_ylim(bottom=0)
    write_sheet(folder / CURVES, figure, panels, "update")
    return folder / CURVES


def series(records: Sequence[Mapping[str, Any]], name: str, members: str) -> Series:
    """Each member's values of one figure over the updates."""
    found: Series = {}
    for record in records:
        if name in record and members in record:
            for member, value in zip(record[members], record[name], strict=False):
                if value is not None:
                    found.setdefault(member, []).append((record["update"], value))
    return found


def _chosen(folder: Path) -> int | None:
    try:
        chosen = json.loads((folder / STATUS).read_text(encoding="utf-8")).get("chosen")
    except (OSError, ValueError):
        return None
    return chosen if isinstance(chosen, int) else None


def _draw(axes: Any, values: Series, chosen: int | None, scale: float) -> None:
    """Every member thin and pale, the chosen one over them."""
    for member, points in sorted(values.items(), key=lambda item: item[0] == chosen):
        updates, heights = zip(*points, strict=True)
        own = member == chosen
        axes.plot(
            updates,
            [scale * height for height in heights],
            color=COLOURS[1] if own else COLOURS[0],
            linewidth=2.2 if own else 0.8,
            alpha=1.0 if own else 0.45,
            marker="o" if len(points) == 1 else None,
            label=f"chosen: member {member}" if own else "_nolegend_",
        )


def _logarithmic(axes: Any) -> None:
    """A logarithmic scale with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
