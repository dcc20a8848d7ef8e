"""Language models as tables that a person reads in a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from firstwords.decoding.kneser_ney import OrderSummary
from firstwords.decoding.ngram import NgramModel, Perplexity


def print_orders(summaries: Sequence[OrderSummary], model: NgramModel, console: Console | None = None) -> None:
    """What was found in each order, what was kept, and the discounts."""
    console = console or Console()
    table = _table("order", "n-grams", "kept", "D1", "D2", "D3+")
    for number, one in enumerate(summaries, 1):
        discounts = [f"{value:.3f}" for value in one.discounts]
        table.add_row(str(number), f"{one.found:,}", f"{one.kept:,}", *discounts)
    console.print(table)
    if fallen := [str(number) for number, one in enumerate(summaries, 1) if one.fallback]:
        console.print(
            f"order {', '.join(fallen)}: the text is too small or too regular for discounts of its own; "
            "took 0.5, 1, 1.5",
            style="dim",
        )
    kept = sum(one.kept for one in summaries[: model.order])
    console.print(f"{len(model.words):,} words, {kept:,} n-grams, model of order {model.order}", style="dim")


def print_perplexities(results: Mapping[str, Perplexity], characters: bool, console: Console | None = None) -> None:
    """Perplexity and out-of-vocabulary rate of each text; for character models bits per character, too."""
    console = console or Console()
    unit = "characters" if characters else "words"
    names = ["text", "sentences", unit, "unknown", "perplexity", "without unknown"]
    table = _table(*names, *(["bits per character"] if characters else []))
    for name, one in results.items():
        cells = [
            name,
            f"{one.sentences:,}",
            f"{one.words:,}",
            f"{one.unknown_rate:.2%}",
            f"{one.including_unknown:.2f}",
            f"{one.excluding_unknown:.2f}",
        ]
        if characters:
            cells.append(f"{math.log2(one.including_unknown):.3f}")
        table.add_row(*cells)
    console.print(table)
    console.print(f"perplexity of {unit} and sentence ends", style="dim")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 and name == "text" else "right")
    return table
