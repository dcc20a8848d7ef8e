"""What codes stand for, drawn: the figure of wav2vec 2.0's appendix, and how alike languages use codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from firstwords.codes import CodeCounts
from firstwords.cooccurrence import Table, entropy, similarities
from firstwords.errors import CorpusError
from firstwords.report.codes import LEAST_FRAMES, Arranged, arrange, informations, name_of_codes, whole

DRAWN = 1500
"""Most codes of the heat map, the most used ones; more would be thinner than a line."""
_INK, _BLUE, _GREY = "#30363d", "#1f6fb4", "#7f7f7f"


def plot_codes(path: Path, found: CodeCounts, title: str = "") -> None:
    """Draws P(phone | code) with the codes sorted by phone, how often each is used, and how much it tells of phone and
    speaker.

    Args:
        path: .png, .svg or .pdf.
        found: with phone counts.
        title: over everything.

    Raises:
        CorpusError: nothing to draw, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if found.phones is None:
        raise CorpusError("no phone times, so that there is nothing to draw")
    order = arrange(found.phones)
    shown = np.sort(np.argsort(-order.counts, kind="stable")[:DRAWN])
    height = max(5.0, 0.19 * len(order.names))
    figure = Figure(figsize=(14, height + 4.6), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
    grid = figure.add_gridspec(2, 3, height_ratios=[height, 3.2], width_ratios=[1, 1, 1])
    _draw_map(figure, figure.add_subplot(grid[0, :]), found, order, shown)
    _draw_use(figure.add_subplot(grid[1, 0]), found)
    _draw_dots(figure.add_subplot(grid[1, 1]), found)
    _draw_information(figure.add_subplot(grid[1, 2]), found)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    _save(figure, path)


def _draw_map(figure: Any, axes: Any, found: CodeCounts, order: Arranged, shown: np.ndarray) -> None:
    """Rows are phones, columns codes of equal width."""
    picture = axes.imshow(
        order.shares[shown].T, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, len(shown), len(order.names) - 0.5, -0.5),
    )  # fmt: skip
    shares = found.phones.label_counts() / found.phones.total if found.phones is not None else np.zeros(0)
    by_name = dict(zip(found.phones.names if found.phones is not None else (), shares, strict=True))
    axes.set_yticks(
        range(len(order.names)), [f"{name}  {100 * by_name[name]:.1f} %" for name in order.names], fontsize=8
    )
    cuts = np.flatnonzero(np.diff(order.best[shown])) + 1
    for cut in cuts:
        axes.axvline(cut, color="#cccccc", linewidth=0.5)
    covered = order.counts[shown].sum() / order.counts.sum()
    what = name_of_codes(found)
    part = "" if len(shown) == len(order.codes) else f", the {len(shown)} most used ({100 * covered:.0f} % of frames)"
    axes.set_xlabel(
        f"{len(order.codes)} {what} in use{part}, sorted by the {found.kind[:-1]} that each comes with most"
    )
    axes.set_ylabel(f"{found.kind} (share of all frames)")
    title = f"P({found.kind[:-1]} | code)"
    if found.kind == "characters":
        title += ": characters, as a recogniser of letters laid them, in the place of phones"
    axes.set_title(title, fontsize=11)
    figure.colorbar(picture, ax=axes, pad=0.01, fraction=0.02)


def _draw_use(axes: Any, found: CodeCounts) -> None:
    """Frames of each code by rank, both on log scales, beside equal use."""
    counts = np.sort(found.usage.code_counts())[::-1]
    axes.plot(np.arange(1, len(counts) + 1), 100 * counts / counts.sum(), color=_BLUE, linewidth=1.8)
    axes.axhline(100 / len(counts), color=_GREY, linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="code, by use", ylabel="% of frames")
    axes.set_title(
        f"Use: {len(counts)} of {found.entries**found.groups:,} possible, perplexity {2 ** entropy(counts):.0f}",
        fontsize=11,
    )
    _plain(axes)


def _draw_dots(axes: Any, found: CodeCounts) -> None:
    """What each code tells of phone and speaker; averaged over frames the axes give the mutual informations."""
    if found.phones is None:
        return
    sides = [(f"bits about the {found.kind[:-1]}", found.phones)]
    if (speakers := whole(found, "speaker")) is not None and len(speakers.names) > 1:
        sides.append(("bits about the speaker", speakers))
    values, known = [], found.usage.used
    sizes = np.zeros(len(known))
    for _, table in sides:
        column = np.full(len(known), np.nan)
        places = np.searchsorted(known, table.used)
        enough = table.code_counts() >= LEAST_FRAMES
        column[places[enough]] = table.code_information()[enough]
        sizes[places] = table.code_counts()
        values.append(column)
    if len(sides) == 1:
        axes.hist(values[0][~np.isnan(values[0])], bins=30, color=_BLUE)
        axes.set(xlabel=sides[0][0], ylabel="codes")
    else:
        area = 6 + 120 * sizes / max(sizes.max(), 1)
        axes.scatter(values[0], values[1], s=area, color=_BLUE, alpha=0.45, linewidths=0)
        axes.set(xlabel=sides[0][0], ylabel=sides[1][0])
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_title(f"What each code tells (codes of {LEAST_FRAMES} frames and more)", fontsize=11)
    _plain(axes)


def _draw_information(axes: Any, found: CodeCounts) -> None:
    """Mutual information with everything counted; the grey part is about what chance gives."""
    rows = list(informations(found).items())
    for place, (_, one) in enumerate(rows):
        axes.barh(place, one.bits, color=_BLUE, height=0.6)
        axes.barh(place, min(one.chance, one.bits), color="#b8c4d0", height=0.6)
        axes.text(one.bits, place, f" {one.bits:.2f} bits, {100 * one.share:.0f} % of {one.label_entropy:.2f}",
                  va="center", fontsize=9, color=_INK)  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.9 * max([one.bits for _, one in rows] + [0.01]))
    axes.set_title("What codes tell: mutual information\n(grey: about what chance gives)", fontsize=11)
    axes.set_xlabel("bits")
    _plain(axes)


def plot_similarity(path: Path, found: CodeCounts, name: str, title: str = "") -> None:
    """Draws how alike the code use of languages (or of any field's values) is, and that use itself.

    Left: 1 - Jensen-Shannon divergence of each two; on the diagonal, of two halves of the same. Right: the share of
    each code among each language's frames, codes sorted by the language that they belong to most.

    Raises:
        CorpusError: fewer than two values, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    table = whole(found, name)
    if table is None or len(table.names) < 2:
        raise CorpusError(f"code use by {name}: the utterances have {_values(table)}; at least two are needed")
    order = np.argsort(table.names)
    names = [table.names[place] for place in order]
    matrix = similarities(found.fields[name])[np.ix_(order, order)]
    side = min(max(3.6, 0.42 * len(names) + 2), 14)
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(side + 8.4, side + 0.5), layout=layout)
    left, right = figure.subplots(1, 2, width_ratios=[side, 8])
    low = float(np.floor(20 * np.nanmin(matrix)) / 20)
    picture = left.imshow(matrix, cmap="viridis", vmin=low, vmax=1)
    if len(names) <= 16:
        for row in range(len(names)):
            for column in range(len(names)):
                value = matrix[row, column]
                dark = value < (1 + low) / 2
                left.text(column, row, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=9,
                          color="white" if dark else "black")  # fmt: skip
    size = 9 if len(names) <= 20 else 6
    left.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0, fontsize=size)
    left.set_yticks(range(len(names)), names, fontsize=size)
    left.set_title("How alike codes are used\n(1 − Jensen-Shannon divergence; diagonal: two halves)", fontsize=10)
    figure.colorbar(picture, ax=left, fraction=0.046, pad=0.03)
    _draw_shares(right, table, order, names)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    _save(figure, path)


def _draw_shares(axes: Any, table: Table, order: np.ndarray, names: list[str]) -> None:
    """P(language | code) if all languages had as many frames: columns as wide as the codes' use."""
    matrix = table.dense()[:, order].astype(float)
    use = matrix / np.maximum(matrix.sum(0), 1)
    given = use / np.maximum(use.sum(1, keepdims=True), 1e-30)
    rows = np.lexsort((given.max(1) * np.where(given.argmax(1) % 2, 1, -1), given.argmax(1)))
    edges = np.concatenate([[0], np.cumsum(use.mean(1)[rows])]) * 100
    axes.pcolormesh(edges, np.arange(len(names) + 1), given[rows].T, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=9 if len(names) <= 20 else 6)
    axes.set_xlabel("codes, as wide as they are used, % of frames")
    axes.set_title("Whose codes: P(row | code), were there equally much of each", fontsize=10)


def _values(table: Table | None) -> str:
    return "none" if table is None or not table.names else f"{table.names[0]!r} alone"


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise CorpusError(f"{path}: cannot be written ({error})") from error
