"""Several evaluations side by side: rates with intervals, the best of the n-best, speed, and what differs by chance."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstwords.evaluation import Evaluation
from firstwords.scoring import ErrorCounts, Interval, compare


def print_comparison(results: Mapping[str, Evaluation], console: Console | None = None) -> None:
    """Prints a line for each; several are compared with the first one. One alone has a line for oracle and speed.

    Raises:
        CorpusError: they were not run on the same utterances with the same references.
    """
    console = console or Console()
    first = next(iter(results.values()))
    if len(results) == 1:
        parts = []
        if first.oracle is not None:
            parts.append(f"best of each n-best list: {first.score.name} {_rate(first.oracle)} %")
        if (factor := first.real_time_factor) is not None:
            parts.append(
                f"real-time factor {factor:.3f}: {first.audio_seconds:.0f} s of audio in {first.seconds:.0f} s"
            )
        console.print("; ".join(parts), style="dim")
        return
    console.print(_rates(results))
    console.print("Per cent. Speed: seconds of work for a second of audio.", style="dim")
    console.print(_differences(results))
    unit = first.score.interval.unit if first.score.interval else "utterances"
    console.print(f"Paired bootstrap over {unit}; bold where the interval leaves out zero.", style="dim")


def _rates(results: Mapping[str, Evaluation]) -> Table:
    first = next(iter(results.values()))
    oracle = any(one.oracle for one in results.values())
    table = _table(f"{len(first.score.utterances)} utterances")
    columns = [first.score.name, "95 %", *(["CER", "95 %"] if first.score.characters else [])]
    for column in [*columns, *(["oracle"] if oracle else []), "speed"]:
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in results.items():
        cells = [_rate(one.score.tokens), _between(one.score.interval)]
        if first.score.characters:
            cells += [_rate(one.score.characters), _between(one.score.character_interval)]
        if oracle:
            cells.append(_rate(one.oracle))
        factor = one.real_time_factor
        table.add_row(Text(name), *cells, "–" if factor is None else f"{factor:.3f}")
    return table


def _differences(results: Mapping[str, Evaluation]) -> Table:
    """Of all but the first from the first."""
    (base, first), *others = results.items()
    table = _table(f"{first.score.name} minus that of {base}")
    for column in ("difference", "95 %", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in others:
        before, after = ([u.scored for u in result.score.utterances] for result in (first, one))
        found = compare(before, after, first.score.units)
        style = "bold" if found.significant else ""
        difference = Text(f"{100 * found.difference:+.2f}", style)
        table.add_row(Text(name), difference, _between(found.interval), f"{found.p_value:.4f}")
    return table


def _table(title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    return table


def _rate(counts: ErrorCounts | None) -> str:
    return f"{100 * counts.rate:.2f}" if counts is not None else "–"


def _between(interval: Interval | None) -> str:
    return f"{100 * interval.low:.2f} – {100 * interval.high:.2f}" if interval else "–"
