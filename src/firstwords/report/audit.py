"""An audit in words, tables, JSON and a picture."""

from __future__ import annotations

import json
import math
import os
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstwords.corpus.audit import LENGTH_EDGES, LONG_SECONDS, RARE_CHARACTER, SHORT_SECONDS, Audit
from firstwords.corpus.importers import Problem
from firstwords.errors import CorpusError

SHOWN = 3
"""Examples after a finding."""

BAR = 40
"""Characters of the longest bar."""


@dataclass(frozen=True)
class Finding:
    """Something in a corpus that hurts training."""

    what: str
    """What was found, a sentence."""
    mend: str
    """What to do about it, a sentence."""
    examples: tuple[str, ...]
    """Utterances or places, the first few."""


def findings(audit: Audit) -> list[Finding]:
    """Everything that will hurt, worst first."""
    found: list[Finding] = []

    def note(items: Sequence[Any], what: str, mend: str, show: Iterable[str] | None = None) -> None:
        if items:
            count, examples = len(items), list(items if show is None else show)
            one = count == 1
            words = {"s": "" if one else "s", "v": "s" if one else "", "are": "is" if one else "are"}
            sentence = what.format(n=f"{count:,}", have="has" if one else "have", **words)
            found.append(Finding(sentence, mend, tuple(examples[:SHOWN])))

    total = max(len(audit.lengths), 1)
    lost = [problem for problem in audit.problems if problem.lost]
    kept = [problem for problem in audit.problems if not problem.lost]
    note(lost, "{n} recording{s} could not be imported.", "Mend the source as said.", _places(lost))
    note(
        audit.unreadable,
        "{n} recording{s} cannot be used: broken, empty, cut short, or not numbers.",
        "Copy or convert them again; `firstwords prepare` leaves them out.",
        _places(audit.unreadable),
    )
    note(
        audit.claims,
        "{n} utterance{s} {are} not as the manifest says; training skips what holds less.",
        "Make the manifest anew: firstwords prepare.",
        _places(audit.claims),
    )
    note(
        audit.too_short,
        "{n} recording{s} {have} not even one frame (400 samples at 16 kHz).",
        "Leave them out; `prepare` does.",
    )
    note(
        audit.silent, "{n} recording{s} {are} silent throughout.", "Leave them out; check the microphone or the export."
    )
    note(
        audit.crowded,
        "{n} transcript{s} {have} more labels than there are frames, so CTC cannot spell them.",
        "Look whether text and audio belong together; fine-tuning leaves these out.",
        [f"{id} ({needed} frames needed, {frames} there)" for id, needed, frames in audit.crowded],
    )
    note(
        audit.clipped,
        "{n} recording{s} {are} clipped (more than 1 in 10,000 samples in cut peaks).",
        "Record at a lower level; what is there can be used, but distorted speech is harder to learn.",
    )
    note(
        audit.duplicates,
        "{n} sound{s} occur{v} more than once, sample by sample.",
        "Keep one of each; copies in two splits make scores look better than they are.",
        [" = ".join(ids[:3]) + (" ..." if len(ids) > 3 else "") for ids in audit.duplicates],
    )
    speakers = _union(audit.shared_speakers)
    voices = set().union(*(amounts.speakers for amounts in audit.splits.values()))
    note(
        speakers,
        "{n} speaker{s} {are} in more than one split (" + _pairs(audit.shared_speakers) + ").",
        "Scores then say little about new voices; "
        + (
            "split again: firstwords prepare --resplit --dev 0.1 --test 0.1."
            if len(voices) > 2
            else "record others to test on."
        ),
    )
    note(
        sentences := _union(audit.shared_sentences),
        "{n} sentence{s} {are} in more than one split (" + _pairs(audit.shared_sentences) + ").",
        "A recogniser may know them by heart; keep each sentence in one split, or say so beside the score.",
        [f'"{sentence}"' for sentence in sentences],
    )
    if len(audit.short) > 0.1 * total:
        what = f"{len(audit.short) / total:.0%} of the recordings are shorter than {SHORT_SECONDS:g} s."
        mend = "Pre-training learns from context: cut recordings less finely, or leave these out of it."
        found.append(Finding(what, mend, tuple(audit.short[:SHOWN])))
    note(
        audit.long,
        f"{{n}} recording{{s}} {{are}} longer than {LONG_SECONDS:g} s.",
        "Pre-training takes crops of them; for fine-tuning cut them at pauses, with their text.",
    )
    if len(audit.mostly_silent) > 0.05 * total:
        note(
            audit.mostly_silent, "{n} recording{s} {are} silent for more than half of their time.", "Trim long pauses."
        )
    narrow = [rate for rate in audit.recorded_rates if rate < 16_000]
    if narrow:
        count = sum(audit.recorded_rates[rate] for rate in narrow)
        what = f"{count:,} recordings were made at {' and '.join(f'{rate:,}' for rate in sorted(narrow))} Hz."
        mend = f"They hold nothing above {max(narrow) // 2:,} Hz; train and test on the same kind of sound."
        found.append(Finding(what, mend, ()))
    note(
        list(audit.rare_characters),
        f"{{n}} character{{s}} occur{{v}} less than {RARE_CHARACTER} times and will hardly be learned.",
        "Normalise the transcripts (digits, accents, punctuation), or check for typing errors.",
        [f"{_visible(c)} ({audit.characters[c]} x, first in {id})" for c, id in audit.rare_characters.items()],
    )
    note(
        kept,
        "{n} thing{s} in the source {are} not as expected.",
        "Nothing is lost, but look at them.",
        _places(kept),
    )
    return found


def print_audit(audit: Audit, console: Console) -> None:
    """The whole audit for a person to read."""
    console.print(_split_table(audit))
    if audit.lengths:
        console.print()
        _print_lengths(audit, console)
        console.print()
        _print_sound(audit, console)
    if audit.characters:
        console.print()
        _print_characters(audit, console)
    console.print()
    found = findings(audit)
    console.print(Text("what will hurt" if found else "nothing here will hurt", style="bold"))
    for finding in found:
        console.print(Text(f"- {finding.what} {finding.mend}"))
        for example in finding.examples:
            console.print(Text(f"    {example}", style="dim"), soft_wrap=True)


def write_json(audit: Audit, path: Path) -> None:
    """Every number and list of the audit, and the findings. Raises CorpusError where it cannot be written."""
    problems = {name: [vars(p) for p in getattr(audit, name)] for name in ("unreadable", "claims", "problems")}
    content = {
        "utterances": audit.utterances,
        "hours": audit.seconds / 3600,
        "splits": {
            name: {
                "utterances": amounts.utterances,
                "hours": amounts.seconds / 3600,
                "transcribed_hours": amounts.transcribed_seconds / 3600,
                "speakers": sorted(amounts.speakers),
            }
            for name, amounts in audit.splits.items()
        },
        "length_histogram": [
            {"from": low, "to": None if math.isinf(high) else high, "count": count}
            for low, high, count in audit.histogram()
        ],
        **{name: dict(getattr(audit, name)) for name in ("sample_rates", "recorded_rates", "channels", "characters")},
        "silent_hours": audit.silent_seconds / 3600,
        **{name: getattr(audit, name) for name in ("silent", "mostly_silent", "clipped", "too_short", "short", "long")},
        **{
            name: getattr(audit, name)
            for name in ("duplicates", "rare_characters", "shared_speakers", "shared_sentences")
        },
        "crowded": [{"id": id, "needed": needed, "frames": frames} for id, needed, frames in audit.crowded],
        **problems,
        "findings": [vars(finding) for finding in findings(audit)],
    }
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error


def plot_audit(audit: Audit, path: Path) -> None:
    """Histogram of lengths, and level over length of every recording. Raises CorpusError where it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(audit.lengths, bins=min(60, max(10, len(audit.lengths) // 10)), color="tab:blue")
    left.set(
        xlabel="length (s)",
        ylabel="recordings",
        title=f"{audit.seconds / 3600:.2f} h in {len(audit.lengths):,} recordings",
    )
    right.plot(audit.lengths, audit.levels_db, ".", markersize=3, alpha=0.5, color="tab:blue")
    right.set(xlabel="length (s)", ylabel="level (dB, full scale is 0)", title="level over length")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise CorpusError(f"{path}: cannot be written ({error})") from error


def _split_table(audit: Audit) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("split", "recordings", "hours", "transcribed h", "speakers"):
        table.add_column(column, justify="left" if column == "split" else "right")
    order = {"train": 0, "dev": 1, "test": 2}
    for name, amounts in sorted(audit.splits.items(), key=lambda item: (order.get(item[0], 3), item[0])):
        hours, transcribed = amounts.seconds / 3600, amounts.transcribed_seconds / 3600
        speakers = str(len(amounts.speakers) or "?")
        table.add_row(name or "(none)", f"{amounts.utterances:,}", f"{hours:.2f}", f"{transcribed:.2f}", speakers)
    return table


def _print_lengths(audit: Audit, console: Console) -> None:
    shortest, longest = min(audit.lengths), max(audit.lengths)
    middle = f"median {statistics.median(audit.lengths):.2f}, mean {statistics.fmean(audit.lengths):.2f}"
    console.print(Text(f"lengths in seconds: {shortest:.2f} to {longest:.2f}, {middle}", style="bold"))
    bins = audit.histogram()
    most = max(count for _, _, count in bins)
    for low, high, count in bins:
        name = f"over {LENGTH_EDGES[-2]:g}" if math.isinf(high) else f"{low:g} - {high:g}"
        console.print(
            Text(f"  {name:>11}  {count:>7,}  {'#' * math.ceil(BAR * count / most)}".rstrip()), soft_wrap=True
        )


def _print_sound(audit: Audit, console: Console) -> None:
    console.print(Text("sound", style="bold"))
    rates = _shares(audit.sample_rates, "{:,} Hz")
    lines = {"sample rates": rates, "channels": _shares(audit.channels, "{}")}
    if audit.recorded_rates != audit.sample_rates:
        lines["recorded at"] = _shares(audit.recorded_rates, "{:,} Hz")
    low, middle, high = (_percentile(audit.levels_db, share) for share in (0.05, 0.5, 0.95))
    span = f"nine in ten between {-high:.0f} and {-low:.0f} dB"
    lines["level"] = f"median {-middle:.0f} dB below full scale, {span}"
    lines["silence"] = f"{audit.silent_seconds / max(audit.seconds, 1e-9):.0%} of the time, pauses included"
    for name, value in lines.items():
        console.print(Text(f"  {name:<13} {value}"), soft_wrap=True)


def _print_characters(audit: Audit, console: Console) -> None:
    total = sum(audit.characters.values())
    console.print(Text(f"{len(audit.characters)} characters in {total:,} of transcripts, by count", style="bold"))
    items = [f"{_visible(character)}\u00a0{count:,}" for character, count in audit.characters.most_common()]
    listed = "  ".join(items[:100]) + ("  ..." if len(items) > 100 else "")
    filled = textwrap.fill(listed, console.width, initial_indent="  ", subsequent_indent="  ")  # breaks between items
    console.print(Text(filled.replace("\u00a0", " ")), soft_wrap=True)


def _union(pairs: dict[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(value for values in pairs.values() for value in values))


def _pairs(pairs: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(values):,} in {pair}" for pair, values in pairs.items())


def _places(problems: Iterable[Problem]) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in problems]


def _shares(counts: dict[int, int], form: str) -> str:
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{form.format(value)} ({count:,}, {count / total:.0%})" for value, count in ordered)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _visible(character: str) -> str:
    return "space" if character == " " else character if character.isprintable() else f"U+{ord(character):04X}"
