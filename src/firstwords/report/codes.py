"""What codes stand for, as tables and as files of counts; `code_pictures` draws it."""

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

LEAST_FRAMES = 100
"""Codes of fewer frames have no dot: what they seem to tell is chance."""
CLASSES = (
    ("stops", "P B T D K G Q DX BCL DCL GCL PCL TCL KCL"), ("affricates", "CH JH"),
    ("fricatives", "F V TH DH S Z SH ZH HH HV"), ("nasals", "M N NG EM EN ENG NX"), ("approximants", "L R W Y EL WH"),
    ("vowels", "IY IH IX EH AE AA AH AX AX-H AXR ER AO UH UW UX EY AY OY AW OW"),
)  # fmt: skip
"""ARPAbet by manner of articulation: the order of the rows where the labels are such phones."""


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


def name_of_codes(found: CodeCounts) -> str:
    """What a code of that model is called."""
    return "codes" if found.groups == 1 else f"{ {2: 'pairs', 3: 'triples'}.get(found.groups, 'tuples') } of entries"


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
        f"{name_of_codes(found)} in use of {found.entries**found.groups:,} possible, "
        f"perplexity {2 ** entropy(counts):.0f}"
    )
    if found.phones is not None and found.aligned < found.utterances:
        console.print(f"{found.utterances - found.aligned} utterances have no {found.kind[:-1]} times", style="yellow")
    for name, count in found.lacking.items():
        if 0 < count < found.utterances:
            console.print(f"{count} utterances have no {name}", style="yellow")
    if told := informations(found):
        shown = _table("What codes tell", "of the", "bits", "by chance", "of", "share")
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
    console.print(f"How alike codes are used by {name}", style="bold")
    shown = _table(None, "", "frames", *(table.names[place] for place in kept))
    for row in kept:
        cells = ["–" if np.isnan(matrix[row, column]) else f"{matrix[row, column]:.3f}" for column in kept]
        shown.add_row(table.names[row], f"{frames[row]:,}", *cells)
    console.print(shown)
    console.print("1 - Jensen-Shannon divergence; on the diagonal, of two halves of the same", style="dim")


def _phones(found: CodeCounts, table: Table) -> Shown:
    """A row for each phone."""
    order = arrange(table)
    frames = dict(zip(table.names, table.label_counts(), strict=True))
    shown = _table(
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


def _table(title: str | None, *columns: str) -> Shown:
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

    _replace(path, write)


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
    _replace(path, lambda lines: lines.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n"))


def _replace(path: Path, write: Callable[[IO[str]], Any]) -> None:
    """Writes a text file whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="utf-8", newline="") as lines:
            write(lines)
        part.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error
