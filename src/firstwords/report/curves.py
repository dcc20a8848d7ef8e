"""The curves of runs as a picture: what a log says, at a glance."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firstwords.errors import CheckpointError
from firstwords.training.run import LOG, read_log

CURVES = "curves.png"
Records = Sequence[Mapping[str, Any]]
"""Lines of a run's log."""

MANY_RUNS = 5
"""With more the legend would hide their curves."""
LOSS_CEILING = 6.0
"""Bits per label; a guess among 27 equally likely letters costs 4.75."""
RATE_CEILING = 110.0
"""Percent; above 100 a recogniser writes more than was said."""

COLOURS = ("#1f6fb4", "#d9661f", "#3a8f4d", "#8457a8", "#c23b6b", "#1a9aa0", "#8a6d1f", "#30363d", "#e0a100")
GREY = "#7f7f7f"
STEP = "accuracy_step_"
"""Figures of the log: accuracy of the predictions so many steps ahead (1 is the first)."""


def plot_run(folder: Path) -> Path | None:
    """Draws a run's log into its `curves.png`; None where the log has nothing to draw yet.

    Raises:
        CheckpointError: no log there, or the picture cannot be written.
    """
    if not (folder / LOG).is_file():
        raise CheckpointError(f"{folder}: no {LOG} there")
    records = read_log(folder)
    path = folder / CURVES
    if any("bits_per_label" in record or "valid_bits_per_label" in record for record in records):
        plot_curves(path, words={"": records}, title=folder.name)
    elif any("bits_per_decision" in record or "valid_bits_per_decision" in record for record in records):
        plot_curves(path, deciding=records, title=folder.name)
    elif any("bits_per_character" in record or "valid_bits_per_character" in record for record in records):
        plot_curves(path, reading=records, title=folder.name)
    elif any("unigram_bits" in record or "valid_unigram_bits" in record for record in records):
        plot_curves(path, codes=records, title=folder.name)
    elif any("bits" in record or "valid_bits" in record for record in records):
        plot_curves(path, listening=records, title=folder.name)
    else:
        return None
    return path


def leave_curves(folder: Path) -> None:
    """`plot_run` for the end of a run: whatever goes wrong with a picture is said in the log and costs nothing else."""
    with contextlib.suppress(Exception):
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it announces its font cache
        plot_run(folder)


def plot_curves(
    path: Path,
    listening: Records | None = None,
    words: Mapping[str, Records] | None = None,
    title: str = "",
    reading: Records | None = None,
    deciding: Records | None = None,
    codes: Records | None = None,
) -> None:
    """Draws a row of panels for each kind of run: pre-training, fine-tunings one over the other, a language model, a
    classifier.

    Args:
        path: .png, .svg or .pdf.
        listening: log of a pre-training run: loss beside chance level, accuracy, codes in use.
        words: logs of fine-tuning runs by name: loss, label and word error rate on validation utterances.
        title: over everything.
        reading: log of a run that learnt a language model: loss, perplexity, rate.
        deciding: log of a run that learnt classes: loss beside chance level, accuracy, macro-F1 or equal error rate.
        codes: log of a run of BERT over codes: loss beside that of frequencies alone, accuracy, rate.

    Raises:
        CheckpointError: the picture cannot be written.
    """
    others = [
        (draw, log)
        for draw, log in ((_draw_reading, reading), (_draw_deciding, deciding), (_draw_codes, codes))
        if log is not None
    ]
    figure, panels = sheet((listening is not None) + bool(words) + len(others), title)
    if listening is not None:
        _draw_listening(panels[0], listening)
    if words:
        _draw_words(panels[int(listening is not None)], words)
    for row, (draw, log) in zip(panels[len(panels) - len(others) :], others, strict=True):
        draw(row, log)
    write_sheet(path, figure, panels, "update")


def sheet(rows: int, title: str = "", below: float = 0.0) -> tuple[Any, Any]:
    """A figure and its (rows, 3) panels; `below`: inches of room for a legend under them."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1)
    figure = Figure(figsize=(12.5, 0.4 * bool(title) + 3.5 * rows + below), layout=layout)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure, figure.subplots(rows, 3, squeeze=False)


def write_sheet(path: Path, figure: Any, panels: Any, axis: str) -> None:
    """Gives all panels the same look, and writes the picture.

    Raises:
        CheckpointError: it cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(axes.get_xlabel() or axis)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=axis == "update"))
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def _draw_listening(panels: Any, records: Records) -> None:
    """Loss, accuracy, codes: training thin, validation with dots."""
    loss, accuracy, codes = panels
    if steps := _steps(records):
        _draw_predicting(panels, records, steps)
        return
    for axes, name in ((loss, "bits"), (accuracy, "accuracy")):
        scale = 100 if name == "accuracy" else 1
        line(axes, records, name, COLOURS[0], "training", scale)
        line(axes, records, f"valid_{name}", COLOURS[1], "validation", scale, dots=True)
    chance = next((record["chance_bits"] for record in records if "chance_bits" in record), None)
    chance = chance or next((r["valid_chance_bits"] for r in records if "valid_chance_bits" in r), None)
    if chance is not None:
        mark_chance(loss, accuracy, chance)
    loss.set(title="Listening: contrastive loss", ylabel="bits")
    accuracy.set(title="Listening: hidden sound told from distractors", ylabel="% of masked frames")
    accuracy.set_ylim(bottom=0)
    _draw_code_use(codes, records)
    for axes in panels:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)


def _draw_code_use(codes: Any, records: Records) -> None:
    """How many entries of the codebooks are in use."""
    line(codes, records, "codes_perplexity", COLOURS[0], "codes chosen")
    line(codes, records, "probabilities_perplexity", COLOURS[2], "their probabilities")
    codes.set(title="Listening: codes in use (perplexity)", ylabel="summed over codebooks")
    codes.set_ylim(bottom=0)


def _steps(records: Records) -> list[int]:
    """The future steps whose accuracy a log has: those of wav2vec and vq-wav2vec."""
    names = {key for record in records for key in record}
    return sorted(int(name.removeprefix(STEP)) for name in names if name.startswith(STEP))


def _draw_predicting(panels: Any, records: Records, steps: Sequence[int]) -> None:
    """Loss, accuracy over the updates of some of the future steps, and of all steps at the end (or codes in use)."""
    from matplotlib import colormaps, colors
    from matplotlib.ticker import MaxNLocator

    loss, accuracy, ending = panels
    coded = any("codes_perplexity" in record for record in records)
    line(loss, records, "bits", COLOURS[0], "training")
    line(loss, records, "valid_bits", COLOURS[1], "validation", dots=True)
    shades = colormaps["viridis"]
    for step in steps:
        shade = colors.to_hex(shades(0.9 * (step - steps[0]) / max(1, steps[-1] - steps[0])))
        named = step in (steps[0], steps[len(steps) // 2], steps[-1])
        line(accuracy, records, f"{STEP}{step}", shade, f"step {step}" if named else "", 100, width=1.2)
    chance = next((r["chance_bits"] for r in records if "chance_bits" in r), None)
    guess = next((r["chance_accuracy"] for r in records if "chance_accuracy" in r), None)
    if chance is not None and guess is not None:
        mark_chance(loss, accuracy, chance, guess)
        if not coded:
            ending.axhline(100 * guess, color=GREY, linewidth=1, linestyle="--")
    if chance is not None:  # the first updates of a binary loss are far above everything that matters
        low, high = loss.get_ylim()
        loss.set_ylim(low, min(high, 1.3 * chance))
    loss.set(title="Listening: noise-contrastive loss", ylabel="bits a prediction")
    accuracy.set(title="Listening: future told from distractors", ylabel="% of predictions")
    for name, colour, label in (("", COLOURS[0], "training"), ("valid_", COLOURS[1], "validation")):
        if coded:
            break
        last = next((r for r in reversed(records) if f"{name}{STEP}{steps[0]}" in r), None)
        if last is not None:
            there = [step for step in steps if f"{name}{STEP}{step}" in last]
            values = [100 * last[f"{name}{STEP}{step}"] for step in there]
            ending.plot(
                there, values, color=colour, marker="o", markersize=4, label=f"{label}, update {last['update']}"
            )
    if coded:
        _draw_code_use(ending, records)
    else:
        ending.set(title="Listening: accuracy by step, at the end", ylabel="% of predictions", xlabel="step")
        ending.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (accuracy, ending):
        axes.set_ylim(bottom=0)
    for axes in panels:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)


def mark_chance(loss: Any, accuracy: Any, chance: float, guess: float | None = None) -> None:
    """What guessing costs, in both panels; `guess`: how often it is right, where the loss does not say."""
    loss.axhline(chance, color=GREY, linewidth=1, linestyle="--")
    loss.annotate(
        f"chance, {chance:.2f} bits",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=GREY,
        fontsize=9,
    )
    low, high = loss.get_ylim()
    loss.set_ylim(min(low, chance - 0.2), max(high, chance + 0.15 * (chance - min(low, chance - 0.2))))
    accuracy.axhline(100 * (2**-chance if guess is None else guess), color=GREY, linewidth=1, linestyle="--")


def _draw_words(panels: Any, runs: Mapping[str, Records]) -> None:
    """Loss, CER, WER; a colour for each run. Where a language model reads, the best path is drawn dotted."""
    loss, characters, words = panels
    for (name, records), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
        line(loss, records, "bits_per_label", colour, "", width=1)
        line(loss, records, "valid_bits_per_label", colour, name, dots=True)
        for axes, rate in ((characters, "cer"), (words, "wer")):
            line(axes, records, f"valid_{rate}", colour, name, 100, dots=True, last="{:.0f} %")
            line(axes, records, f"valid_path_{rate}", colour, "", 100, dots=True, width=1, style=":")
    loss.set(title="Words: loss (thin: training)", ylabel="bits per label")
    drawn = [value for line in loss.lines for value in line.get_ydata() if math.isfinite(value)]
    if drawn:  # the first updates are far above everything that matters
        loss.set_ylim(0, 1.1 * min(max(drawn), LOSS_CEILING))
    records = [record for log in runs.values() for record in log]
    which = "dotted: best path" if any("valid_path_cer" in record for record in records) else "validation"
    characters.set(title=f"Words: label error rate ({which})", ylabel="%")
    words.set(title=f"Words: word error rate ({which})", ylabel="%")
    for axes in (characters, words):
        axes.set_ylim(0, RATE_CEILING)
    crowded = len(runs) > MANY_RUNS  # their names once, small, below the curves
    for axes in (characters, words) if crowded else panels:
        if any(name for name in axes.get_legend_handles_labels()[1]):
            axes.legend(frameon=False, fontsize=7 if crowded else 9, loc="lower left" if crowded else "best")


def _draw_reading(panels: Any, records: Records) -> None:
    """Loss, perplexity, rate: training thin, validation with dots."""
    loss, perplexity, rate = panels
    for axes, name in ((loss, "bits_per_character"), (perplexity, "perplexity")):
        line(axes, records, name, COLOURS[0], "training")
        line(axes, records, f"valid_{name}", COLOURS[1], "validation", dots=True, last="{:.2f}")
        axes.legend(frameon=False, fontsize=9)
    loss.set(title="Reading: loss", ylabel="bits per character")
    perplexity.set(title="Reading: perplexity of a symbol")
    perplexity.set_yscale("log")
    line(rate, records, "learning_rate", COLOURS[2], "")
    rate.set(title="Learning rate")


def _draw_deciding(panels: Any, records: Records) -> None:
    """Loss, accuracy, and what else validation says: training thin, validation with dots."""
    loss, accuracy, other = panels
    for axes, name, scale in ((loss, "bits_per_decision", 1), (accuracy, "accuracy", 100)):
        line(axes, records, name, COLOURS[0], "training", scale)
        line(axes, records, f"valid_{name}", COLOURS[1], "validation", scale, dots=True, last="{:.1f}")
    verifies = any("valid_eer" in record for record in records)
    chance = next((record["chance_bits"] for record in records if "chance_bits" in record), None)
    if chance is not None and not verifies:  # a margin makes the loss another one
        mark_chance(loss, accuracy, chance)
    loss.set(title="Classes: loss", ylabel="bits a decision")
    accuracy.set(title="Classes: accuracy", ylabel="%")
    accuracy.set_ylim(0, 103)
    line(other, records, "valid_macro_f1", COLOURS[1], "macro-F1", 100, dots=True, last="{:.1f} %")
    line(other, records, "valid_eer", COLOURS[3], "equal error rate", 100, dots=True, last="{:.1f} %")
    other.set(title="Classes: validation", ylabel="%")
    other.set_ylim(0, 103)
    for axes in panels:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)


def _draw_codes(panels: Any, records: Records) -> None:
    """Loss, accuracy, rate: training thin, validation with dots."""
    loss, accuracy, rate = panels
    for axes, name, scale in ((loss, "bits", 1), (accuracy, "accuracy", 100)):
        line(axes, records, name, COLOURS[0], "training", scale)
        line(axes, records, f"valid_{name}", COLOURS[1], "validation", scale, dots=True, last="{:.2f}")
    line(loss, records, "unigram_bits", COLOURS[2], "frequencies alone", width=1.2, style="--")
    chance = next((r[key] for r in records for key in ("chance_bits", "valid_chance_bits") if key in r), None)
    if chance is not None:
        mark_chance(loss, accuracy, chance)
    loss.set(title="Codes: loss of a hidden combination", ylabel="bits")
    accuracy.set(title="Codes: hidden combinations foretold", ylabel="%")
    accuracy.set_ylim(bottom=0)
    line(rate, records, "learning_rate", COLOURS[3], "")
    rate.set(title="Learning rate")
    for axes in (loss, accuracy):
        axes.legend(frameon=False, fontsize=9)


def line(
    axes: Any,
    records: Records,
    key: str,
    colour: str,
    label: str,
    scale: float = 1,
    dots: bool = False,
    width: float = 1.8,
    last: str = "",
    axis: str = "update",
    style: str = "-",
) -> None:
    """One figure of the log over another (the updates); `last` writes the final value into the legend."""
    points = [(r[axis], scale * r[key]) for r in records if axis in r and isinstance(r.get(key), int | float)]
    if not points:
        return
    updates, values = zip(*points, strict=True)
    if last:
        label = f"{label}: {last.format(values[-1])}" if label else last.format(values[-1])
    axes.plot(
        updates,
        values,
        color=colour,
        linewidth=width,
        linestyle=style,
        marker="o" if dots else None,
        markersize=4,
        label=label or "_nolegend_",
    )
