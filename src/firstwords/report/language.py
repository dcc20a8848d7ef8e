"""Language models as tables that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from firstwords.corpus.manifest import MANIFEST_NAME
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


def print_perplexities(results: Mapping[str, Perplexity], unit: str, console: Console | None = None) -> None:
    """Perplexity, out-of-vocabulary rate and bits per character of each text.

    Args:
        unit: what the model foresees: "words", "characters", "pieces", "phonemes".
    """
    console = console or Console()
    table = _table("text", "sentences", unit, "OOV", "perplexity", "no OOV", "bits/char")
    names = [path.parent.name if path.name == MANIFEST_NAME else path.name for path in map(Path, results)]
    for name, (place, one) in zip(names, results.items(), strict=True):
        table.add_row(
            name if names.count(name) == 1 else place,
            f"{one.sentences:,}",
            f"{one.words:,}",
            f"{one.unknown_rate:.2%}",
            f"{one.including_unknown:.2f}",
            f"{one.excluding_unknown:.2f}",
            f"{one.bits_per_character:.3f}",
        )
    console.print(table)
    console.print(
        f"perplexity of {unit} and sentence ends; OOV: {unit} that the model lacks, which cost what <unk> does "
        "(no OOV: left out of the count)",
        style="dim",
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        if name == "text":
            table.add_column(name, overflow="fold", min_width=10)
        else:
            table.add_column(name, justify="right", no_wrap=True)
    return table
