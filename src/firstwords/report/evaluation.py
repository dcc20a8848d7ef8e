"""A `Score` as tables that a person reads in a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from firstwords.scoring import ErrorCounts, Interval, Score, UtteranceScore, align

_DELETED, _INSERTED, _SUBSTITUTED = "red", "green", "yellow"


def print_score(
    score: Score, console: Console | None = None, top: int = 10, worst: int = 5, speakers: int = 20
) -> None:
    """Prints the rates, the commonest errors, the speakers and the worst utterances.

    Args:
        top: entries of each list of errors.
        worst: utterances to show word by word.
        speakers: the most speakers to list, those with the highest rates.
    """
    console = console or Console()
    console.print(_rates(score))
    console.print(_footnote(score), style="dim")
    if any((score.confusions, score.insertions, score.deletions)) and top > 0:
        console.print(_commonest(score, top))
    if len(score.speakers) > 1 and speakers > 0:
        console.print(_speakers(score, speakers))
    shown = [one for one in score.worst(worst) if one.tokens.errors]
    if shown:
        console.print(Text("Worst utterances", style="bold"))
        legend = Text.assemble(
            ("substituted", _SUBSTITUTED), "  ", ("deleted ***", _DELETED), "  ", ("*** inserted", _INSERTED)
        )
        console.print(legend)
        for one in shown:
            console.print(_utterance(one, score, console.width))


def _rates(score: Score) -> Table:
    count = len(score.utterances)
    table = _table(f"{count} utterance{'s' if count != 1 else ''}")
    for name in ("", "rate", "95 % interval", "wrong", "of", "sub", "del", "ins"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_row(*_counts_row(score.name, score.tokens, score.interval))
    if score.characters:
        table.add_row(*_counts_row("CER", score.characters, score.character_interval))
    share = f"{100 * score.sentence_error_rate:.1f} %"
    table.add_row("sentences", share, "", str(score.sentence_errors), str(len(score.utterances)), "", "", "")
    return table


def _counts_row(name: str, counts: ErrorCounts, interval: Interval | None) -> tuple[str, ...]:
    between = f"{100 * interval.low:.2f} – {100 * interval.high:.2f}" if interval else "–"
    parts = (counts.errors, counts.reference_length, counts.substitutions, counts.deletions, counts.insertions)
    return (name, f"{100 * counts.rate:.2f} %", between, *(str(part) for part in parts))


def _footnote(score: Score) -> str:
    if score.interval is None:
        return "One utterance alone has no interval."
    return f"Intervals: percentile bootstrap, {score.interval.resamples} resamples of {score.interval.unit}."


def _commonest(score: Score, top: int) -> Table:
    table = _table("Commonest errors")
    for name in ("times", "reference → heard", "times", "deleted", "times", "inserted"):
        table.add_column(name, justify="right" if name == "times" else "left")
    columns: tuple[list[Any], ...] = (score.confusions[:top], score.deletions[:top], score.insertions[:top])
    for row in range(max(len(entries) for entries in columns)):
        cells: list[Text] = []
        for entries in columns:
            if row < len(entries):
                *words, count = entries[row]
                cells += [Text(str(count)), Text(" → ".join(map(str, words)))]
            else:
                cells += [Text(), Text()]
        table.add_row(*cells)
    return table


def _speakers(score: Score, most: int) -> Table:
    left_out = len(score.speakers) - most
    title = f"Speakers ({left_out} better ones not shown)" if left_out > 0 else "Speakers"
    table = _table(title)
    for name in ("speaker", "utterances", "words" if score.units == "words" else "phones", score.name, "CER"):
        if name != "CER" or score.characters:
            table.add_column(name, justify="left" if name == "speaker" else "right")
    for one in score.speakers[:most]:
        cells = [str(one.utterances), str(one.tokens.reference_length), f"{100 * one.tokens.rate:.1f} %"]
        cells += [f"{100 * one.characters.rate:.1f} %"] if one.characters else []
        table.add_row(Text(one.speaker), *cells)
    return table


def _utterance(one: UtteranceScore, score: Score, width: int) -> RenderableType:
    """The reference over the hypothesis, token under token, in lines no wider than the terminal."""
    scored = one.scored
    who = f", {scored.speaker}" if scored.speaker else ""
    head = f"\n{scored.id}{who}: {one.tokens.errors} of {one.tokens.reference_length} wrong"
    parts: list[RenderableType] = [Text(head, style="dim")]
    reference, hypothesis = scored.reference, scored.hypothesis
    if score.units == "phonemes":
        reference, hypothesis = reference.replace("|", " "), hypothesis.replace("|", " ")
    above, below = _line("ref"), _line("hyp")
    for expected, found in align(reference, hypothesis):
        size = max(cell_len(expected or ""), cell_len(found or ""), 3 if None in (expected, found) else 1)
        if above.cell_len + size + 1 > width and above.cell_len > 5:
            parts += [above, below]
            above, below = _line("ref"), _line("hyp")
        style = ""
        if expected != found:
            style = _INSERTED if expected is None else _DELETED if found is None else _SUBSTITUTED
        for line, token in ((above, expected), (below, found)):
            shown = "*" * size if token is None else token
            line.append(shown, style=style).append(" " * (size - cell_len(shown) + 1))
    return Group(*parts, above, below)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _line(name: str) -> Text:
    return Text(f"{name:<5}", style="", no_wrap=True, overflow="crop")
