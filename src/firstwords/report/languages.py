"""What a run that learnt from several languages has to say of each: hours heard, held-out loss, use of codes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from firstwords.codes import CodeCounts, Codes, count_codes
from firstwords.cooccurrence import similarities
from firstwords.corpus.languages import NONE, language_of, languages_of, sampling_shares
from firstwords.corpus.utterance import Utterance
from firstwords.errors import FirstwordsError
from firstwords.report.code_pictures import plot_similarity
from firstwords.report.codes import print_similarity, whole
from firstwords.training.run import read_log

LANGUAGES = "languages.json"
PICTURE = "languages.png"


@dataclass(frozen=True)
class LanguageFigures:
    """One language of a run."""

    name: str
    corpus_hours: float
    """To learn from."""
    share: float
    """Asked for: of the audio heard."""
    heard_hours: float
    """Repeats counted."""
    figures: dict[str, float]
    """Of the last validation: bits, accuracy, codes_perplexity; empty where nothing was held out."""


def language_figures(
    records: Sequence[dict[str, Any]], training: Sequence[Utterance], alpha: float | None
) -> list[LanguageFigures]:
    """A run's languages, from its log and what it learnt from."""
    names = languages_of(training)
    seconds = np.zeros(len(names))
    for utterance in training:
        seconds[names.index(language_of(utterance))] += utterance.duration or 0.0
    shares = sampling_shares(seconds, 1.0 if alpha is None else alpha)
    found = []
    for number, name in enumerate(names):
        heard = next((r[f"hours/{name}"] for r in reversed(records) if f"hours/{name}" in r), 0.0)
        validated: dict[str, Any] = next((r for r in reversed(records) if f"valid_bits/{name}" in r), {})
        figures = {
            key.removeprefix("valid_").removesuffix(f"/{name}"): value
            for key, value in validated.items()
            if key.endswith(f"/{name}")
        }
        found.append(LanguageFigures(name, seconds[number] / 3600, float(shares[number]), heard, figures))
    return found


def print_languages(found: Sequence[LanguageFigures], console: Console) -> None:
    """A row for each language."""
    table = Table(title="Languages", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(
        ("language", "hours", "asked", "heard", "share", "held-out bits", "accuracy", "codes")
    ):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    total = sum(one.heard_hours for one in found)
    for one in found:
        figures = [f"{one.figures[key]:{form}}" if key in one.figures else "–"
                   for key, form in (("bits", ".3f"), ("accuracy", ".3f"), ("codes_perplexity", ".0f"))]  # fmt: skip
        heard = f"{100 * one.heard_hours / total:.1f} %" if total else "–"
        hours = f"{one.corpus_hours:.2f}", f"{100 * one.share:.1f} %", f"{one.heard_hours:.2f} h"
        table.add_row(one.name, *hours, heard, *figures)
    console.print(table)
    console.print(
        "hours to learn from; share of what is heard, as asked for; heard, repeats counted; loss and accuracy on "
        "held-out speech, and codes in use there (perplexity, summed over codebooks)",
        style="dim",
    )


def leave_languages(
    folder: Path,
    training: Sequence[Utterance],
    validation: Sequence[Utterance],
    alpha: float | None,
    codes: Codes | None,
    console: Console,
    seconds: float = 1800.0,
) -> None:
    """Tells at the end of a run what was heard of each language and how well it is known, and how alike languages use
    the codes, over the held-out utterances; leaves both in the run's folder. Whatever goes wrong costs the run nothing.

    Args:
        folder: of the run.
        training, validation: its utterances.
        alpha: of the sampling; None where there was none.
        codes: the model's quantiser; None where it has none.
        console: where to.
        seconds: most audio of each language that codes are counted over.
    """
    try:
        found = language_figures(read_log(folder), training, alpha)
        print_languages(found, console)
        values: dict[str, Any] = {
            "alpha": alpha,
            "languages": {
                one.name: {"corpus_hours": one.corpus_hours, "share_asked": one.share, "hours_heard": one.heard_hours}
                | one.figures
                for one in found
            },
        }
        counted = None if codes is None else _counted(codes, validation, seconds)
        if counted is not None and (table := whole(counted, "language")) is not None:
            print_similarity(counted, "language", console)
            matrix = similarities(counted.fields["language"]).tolist()
            cells = [[None if np.isnan(cell) else round(cell, 5) for cell in row] for row in matrix]
            values["similarity"] = {
                "languages": list(table.names),
                "frames": table.label_counts().tolist(),
                "matrix": cells,
            }
            logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it announces its font cache
            plot_similarity(folder / PICTURE, counted, "language", f"{folder.name}: held-out speech")
        (folder / LANGUAGES).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except (FirstwordsError, OSError, ImportError) as error:
        console.print(f"code use by language could not be told: {error}", style="yellow")


def _counted(codes: Codes, validation: Sequence[Utterance], seconds: float) -> CodeCounts | None:
    """Codes of the held-out utterances of two and more languages."""
    chosen: list[Utterance] = []
    for name in languages_of(validation):
        taken = 0.0
        for utterance in sorted((u for u in validation if u.language == name), key=lambda u: u.id):
            if taken < seconds:
                chosen.append(utterance)
                taken += utterance.duration or 0.0
    if len({language_of(utterance) for utterance in chosen} - {NONE}) < 2:
        return None
    return count_codes(codes, chosen, None, ("language",), progress=False)
