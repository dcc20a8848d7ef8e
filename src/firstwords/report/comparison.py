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
    names = list(results)
    first = results[names[0]]
    if len(results) == 1:
        parts = []
        if first.oracle is not None:
            parts.append(f"best of each n-best list: {first.score.name} {_rate(first.oracle)} %")
        if (factor := first.real_time_factor) is not None:
            parts.append(
                f"real-time factor {factor:.3f} ({first.audio_seconds:.0f} s of audio in {first.seconds:.1f} s)"
            )
        console.print("; ".join(parts), style="dim")
        return
    score = first.score
    table = Table(title=f"{len(score.utterances)} utterances", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False)  # fmt: skip
    table.add_column("", overflow="fold")
    oracle = any(one.oracle for one in results.values())
    columns = [score.name, "95 %", *(["CER", "95 %"] if score.characters else []), *(["oracle"] if oracle else []),
               "speed", "difference", "95 %", "p"]  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, one in results.items():
        cells = [Text(name), _rate(one.score.tokens), _between(one.score.interval)]
        if score.characters:
            cells += [_rate(one.score.characters), _between(one.score.character_interval)]
        if oracle:
            cells.append(_rate(one.oracle))
        factor = one.real_time_factor
        cells.append(f"{factor:.3f}" if factor is not None else "–")
        if one is first:
            cells += ["", "", ""]
        else:
            pairs = [[u.scored for u in result.score.utterances] for result in (first, one)]
            found = compare(*pairs, units=score.units)
            style = "bold" if found.significant else ""
            cells += [Text(f"{100 * found.difference:+.2f}", style), _between(found.interval), f"{found.p_value:.4f}"]
        table.add_row(*cells)
    console.print(table)
    console.print(
        f"Per cent. Differences from {names[0]}: paired bootstrap over {first.score.interval.unit if first.score.interval else 'utterances'}, "
        "bold where the interval leaves out zero. Speed: seconds of work for a second of audio.",
        style="dim",
        markup=False,
    )


def _rate(counts: ErrorCounts | None) -> str:
    return f"{100 * counts.rate:.2f}" if counts is not None else "–"


def _between(interval: Interval | None) -> str:
    return f"{100 * interval.low:.2f} – {100 * interval.high:.2f}" if interval else "–"
