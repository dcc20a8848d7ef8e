"""What codes stand for, as a picture (the figure of wav2vec 2.0's appendix), as tables, and as files of counts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as Shown

from firstwords.codes import CodeCounts
from firstwords.cooccurrence import Information, Table, entropy, information, purity, similarities
from firstwords.corpus.intervals import SILENCE
from firstwords.errors import CorpusError

DRAWN = 1500
"""Most codes of the heat map, the most used ones; more would be thinner than a line."""
LEAST_FRAMES = 100
"""Codes of fewer frames have no dot: what they seem to tell is chance."""
CLASSES = (
    ("stops", "P B T D K G Q DX BCL DCL GCL PCL TCL KCL"), ("affricates", "CH JH"),
    ("fricatives", "F V TH DH S Z SH ZH HH HV"), ("nasals", "M N NG EM EN ENG NX"), ("approximants", "L R W Y EL WH"),
    ("vowels", "IY IH IX EH AE AA AH AX AX-H AXR ER AO UH UW UX EY AY OY AW OW"),
)  # fmt: skip
"""ARPAbet by manner of articulation: the order of the rows where the labels are such phones."""
_INK, _BLUE, _ORANGE, _GREY = "#30363d", "#1f6fb4", "#d9661f", "#7f7f7f"


@dataclass(frozen=True)
class Arranged:
    """Codes sorted by the phone that they come with most, rows sorted by kind of phone."""

    codes: np.ndarray
    """(K,) codes."""
    counts: np.ndarray
    """(K,) frames of each."""
    shares: np.ndarray
    """(K, P) P(phone | code)."""
    names: list[str]
    """P phones, in the order of the columns of `shares`."""
    best: np.ndarray
    """(K,) index of each code's commonest phone."""


def arrange(table: Table) -> Arranged:
    """A table in the order in which it is drawn: within a phone, the codes that are surest of it come first."""
    order = sorted(range(len(table.names)), key=lambda place: _rank(table.names[place]))
    matrix = table.dense()[:, order]
    counts = matrix.sum(1)
    shares = matrix / np.maximum(counts, 1)[:, None]
    best = shares.argmax(1)
    rows = np.lexsort((-shares.max(1), best))
    names = [table.names[place] for place in order]
    return Arranged(table.used[rows], counts[rows], shares[rows], names, best[rows])


def _rank(name: str) -> tuple[int, int, str]:
    """Silence first, ARPAbet by manner, anything else by its letters."""
    if name == SILENCE:
        return (-1, 0, name)
    bare = name.upper().rstrip("012")
    for number, (_, members) in enumerate(CLASSES):
        if name.isascii() and bare in members.split() and not (len(name) == 1 and name.islower()):
            return (number, members.split().index(bare), name)
    return (len(CLASSES), 0, name)


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
    what = _name_of_codes(found)
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


def _name_of_codes(found: CodeCounts) -> str:
    return "codes" if found.groups == 1 else f"{ {2: 'pairs', 3: 'triples'}.get(found.groups, 'tuples') } of entries"


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


def whole(found: CodeCounts, name: str) -> Table | None:
    """Both halves of a field's counts together; None where it was not counted."""
    if name not in found.fields:
        return None
    first, second = found.fields[name]
    together = Table(
        np.concatenate([first.codes, second.codes]), np.concatenate([first.labels, second.labels]),
        np.concatenate([first.counts, second.counts]), first.names,
    )  # fmt: skip
    return together.taking(together.codes)


def informations(found: CodeCounts) -> dict[str, Information]:
    """What the codes tell of phones and of every field that has more than one value."""
    tables = {found.kind[:-1]: found.phones} | {name: whole(found, name) for name in found.fields}
    return {name: information(one) for name, one in tables.items() if one is not None and len(one.names) > 1}


def print_codes(found: CodeCounts, console: Console | None = None) -> None:
    """Prints what was counted, what the codes tell, and for each phone the codes that stand for it."""
    console = console or Console(highlight=False)
    counts = found.usage.code_counts()
    console.print(
        f"{found.utterances} utterances, {found.seconds / 3600:.2f} h, {counts.sum():,} frames: {len(counts)} "
        f"{_name_of_codes(found)} in use of {found.entries**found.groups:,} possible, "
        f"perplexity {2 ** entropy(counts):.0f}"
    )
    if found.phones is not None and found.aligned < found.utterances:
        console.print(f"{found.utterances - found.aligned} utterances have no {found.kind[:-1]} times", style="yellow")
    for name, count in found.lacking.items():
        if 0 < count < found.utterances:
            console.print(f"{count} utterances have no {name}", style="yellow")
    if told := informations(found):
        shown = _shown("What codes tell", "of the", "bits", "by chance", "of", "share")
        for name, one in told.items():
            shown.add_row(name, f"{one.bits:.3f}", f"{one.chance:.3f}", f"{one.label_entropy:.3f}", f"{one.share:.3f}")
        console.print(shown)
    if found.phones is not None:
        phone_purity, cluster_purity = purity(found.phones)
        console.print(
            f"{found.kind[:-1]} purity {phone_purity:.3f}, cluster purity {cluster_purity:.3f}, "
            f"PNMI {information(found.phones).share:.3f}"
        )
        console.print(_phones(found, found.phones))


def print_similarity(found: CodeCounts, name: str, console: Console | None = None, most: int = 12) -> None:
    """Prints the matrix of `plot_similarity`, of the values with the most frames."""
    console = console or Console(highlight=False)
    table = whole(found, name)
    if table is None or len(table.names) < 2:
        return
    frames = table.label_counts()
    matrix = similarities(found.fields[name])
    kept = sorted(np.argsort(-frames, kind="stable")[:most], key=lambda place: table.names[place])
    shown = _shown(f"How alike codes are used by {name}", "", "frames", *(table.names[place] for place in kept))
    for row in kept:
        cells = ["–" if np.isnan(matrix[row, column]) else f"{matrix[row, column]:.3f}" for column in kept]
        shown.add_row(table.names[row], f"{frames[row]:,}", *cells)
    console.print(shown)
    console.print("1 - Jensen-Shannon divergence; on the diagonal, of two halves of the same", style="dim")


def _phones(found: CodeCounts, table: Table) -> Shown:
    """A row for each phone."""
    order = arrange(table)
    frames = dict(zip(table.names, table.label_counts(), strict=True))
    shown = _shown(
        f"Codes of each {found.kind[:-1]}", found.kind[:-1], "% of frames", "codes", "recall", "the surest, P of it"
    )
    for place, name in enumerate(order.names):
        own = np.flatnonzero(order.best == place)
        hits = (order.shares[own, place] * order.counts[own]).sum()
        enough = own[order.counts[own] >= min(LEAST_FRAMES, table.total / 1000)][:3]
        best = ", ".join(f"{_code(found, order.codes[one])} {order.shares[one, place]:.2f}" for one in enough)
        share = 100 * frames[name] / table.total
        shown.add_row(name, f"{share:.1f}", str(len(own)), f"{hits / max(frames[name], 1):.2f}", best)
    return shown


def _code(found: CodeCounts, code: int) -> str:
    return "-".join(map(str, found.entries_of(np.array([code]))[0]))


def _shown(title: str, *columns: str) -> Shown:
    shown = Shown(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        words = number == 0 or name.startswith("the surest")
        shown.add_column(name, justify="left" if words else "right", no_wrap=True)
    return shown


def write_counts(path: Path, found: CodeCounts) -> None:
    """Writes a line for each code: its entries, frames, what it tells of the phone (bits), and frames of each phone.

    Raises:
        CorpusError: it cannot be written.
    """

    def write(lines: IO[str]) -> None:
        rows = csv.writer(lines)
        order = None if found.phones is None else arrange(found.phones)
        names = [] if order is None else order.names
        entries = [f"entry_{number}" for number in range(found.groups)]
        rows.writerow([*entries, "frames", *(["best", "share", "bits"] if order is not None else []), *names])
        used = dict(zip(found.usage.used.tolist(), found.usage.code_counts().tolist(), strict=True))
        if order is not None and found.phones is not None:
            bits = dict(zip(found.phones.used.tolist(), found.phones.code_information().tolist(), strict=True))
            for code, count, shares, best in zip(
                order.codes.tolist(), order.counts, order.shares, order.best, strict=True
            ):
                cells = np.rint(shares * count).astype(int).tolist()
                own = found.entries_of(np.array([code]))[0].tolist()
                rows.writerow([*own, used.pop(code), names[best], f"{shares[best]:.4f}", f"{bits[code]:.4f}", *cells])
        for code, count in used.items():
            rows.writerow([*found.entries_of(np.array([code]))[0].tolist(), count])

    _whole(path, write)


def write_summary(path: Path, found: CodeCounts, about: dict[str, Any], by: Sequence[str] = ()) -> None:
    """Writes everything that was printed as JSON, with the counts by field; similarities of the fields in `by`.

    Raises:
        CorpusError: it cannot be written.
    """
    counts = found.usage.code_counts()
    values: dict[str, Any] = about | {
        "utterances": found.utterances, "aligned": found.aligned, "seconds": round(found.seconds, 2),
        "frames": int(counts.sum()), "codebooks": found.groups, "entries": found.entries, "codes_used": len(counts),
        "perplexity": 2 ** entropy(counts), "left_out": found.left_out, "lacking": found.lacking,
        "information": {
            name: {"bits": one.bits, "chance": one.chance, "label_entropy": one.label_entropy, "share": one.share}
            for name, one in informations(found).items()
        },
    }  # fmt: skip
    if found.phones is not None:
        phone_purity, cluster_purity = purity(found.phones)
        values[found.kind] = {
            "phone_purity": phone_purity, "cluster_purity": cluster_purity, "pnmi": information(found.phones).share,
            "frames": dict(zip(found.phones.names, found.phones.label_counts().tolist(), strict=True)),
        }  # fmt: skip
    for name in by:
        matrix = similarities(found.fields[name])
        table = whole(found, name)
        values.setdefault("similarity", {})[name] = {
            "values": list(table.names) if table is not None else [],
            "frames": table.label_counts().tolist() if table is not None else [],
            "matrix": [[None if np.isnan(cell) else round(cell, 5) for cell in row] for row in matrix.tolist()],
        }
    _whole(path, lambda lines: lines.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n"))


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise CorpusError(f"{path}: cannot be written ({error})") from error


def _whole(path: Path, write: Callable[[IO[str]], Any]) -> None:
    """Writes a text file whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="utf-8", newline="") as lines:
            write(lines)
        part.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error
