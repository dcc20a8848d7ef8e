"""An alignment as a picture: waveform, spectrogram, posteriors, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstwords.audio import SAMPLE_RATE, read_audio
from firstwords.decoding.aligned_text import Alignment
from firstwords.errors import AlignmentError
from firstwords.losses.ctc import BLANK
from firstwords.recognizer import Recognizer
from firstwords.text.alphabet import BOUNDARY

WINDOW, HOP = 512, 128
"""Of the spectrogram: 32 ms, every 8 ms."""
FLOOR_DB = -70.0
SHOWN = 0.05
"""Labels that reach this probability somewhere get a row."""
CONTEXT = 3.0
"""Seconds heard on either side of what is shown."""

_INK, _GREY, _MARK = "#20303c", "#8a949b", "#d9661f"


def plot_alignment(
    path: Path, recognizer: Recognizer, recording: Path, alignment: Alignment, start: float = 0.0, seconds: float = 15.0
) -> None:
    """Draws a stretch of a recording with what the recogniser heard and where the words were laid.

    Args:
        path: .png, .svg or .pdf.
        recognizer: the one that aligned.
        recording: the file.
        alignment: of the text.
        start: seconds into the recording.
        seconds: how much to show.

    Raises:
        AlignmentError: nothing to show there, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    end = min(start + seconds, alignment.duration)
    if not 0 <= start < end:
        raise AlignmentError(f"nothing to draw at {start:.1f} s of a recording of {alignment.duration:.1f} s")
    before = max(0.0, start - CONTEXT)
    heard = read_audio(recording, before, end + CONTEXT - before)
    samples = heard[round((start - before) * SAMPLE_RATE) : round((end - before) * SAMPLE_RATE)]
    figure = Figure(figsize=(min(max(10.0, 1.2 * (end - start)), 40), 8.8), layout=ConstrainedLayoutEngine())
    waveform, words, spectrogram, posteriors = figure.subplots(4, 1, sharex=True, height_ratios=[1, 1, 1.6, 2.2])
    draw_waveform(waveform, samples, start)
    _draw_words(words, alignment, start, end)
    draw_spectrogram(spectrogram, samples, start, end)
    _draw_posteriors(posteriors, recognizer, heard, before, start, end)
    for axes in (waveform, spectrogram, posteriors):
        for word in alignment.words:
            if word.end > start and word.start < end:
                axes.axvline(word.start, color=_MARK, linewidth=0.8, alpha=0.8)
                axes.axvline(word.end, color=_MARK, linewidth=0.8, alpha=0.4, linestyle=":")
    posteriors.set_xlim(start, end)
    posteriors.set_xlabel("seconds")
    figure.suptitle(f"{recording.name}, {start:.1f} to {end:.1f} s", fontsize=12, fontweight="bold")
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:  # ValueError: an ending that matplotlib does not know
        raise AlignmentError(f"{path}: cannot be written ({error})") from error


def draw_waveform(axes: Any, samples: np.ndarray, start: float) -> None:
    """Lowest and highest sample of every few milliseconds."""
    size = max(1, len(samples) // 3000)
    parts = samples[: len(samples) // size * size].reshape(-1, size)
    times = start + (np.arange(len(parts)) + 0.5) * size / SAMPLE_RATE
    axes.fill_between(times, parts.min(1), parts.max(1), color=_INK, linewidth=0.4)
    peak = max(float(np.abs(samples).max()), 1e-4)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([])
    axes.set_ylabel("waveform")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_words(axes: Any, alignment: Alignment, start: float, end: float) -> None:
    """A box a word, paler the less it fits; its score below."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("words")
    axes.spines[["top", "right", "left"]].set_visible(False)
    for word in alignment.words:
        if word.end <= start or word.start >= end:
            continue
        score = word.confidence
        colour = _GREY if score is None else _MARK
        shade = 0.25 if score is None else 0.1 + 0.45 * score
        axes.axvspan(word.start, word.end, 0.08, 0.92, color=colour, alpha=shade, linewidth=0)
        middle = (max(word.start, start) + min(word.end, end)) / 2
        room = (min(word.end, end) - max(word.start, start)) / (end - start)
        steep = room < 0.009 * (len(word.text) + 1)
        axes.text(middle, 0.62, word.text, ha="center", va="center", fontsize=8 if steep else 10, clip_on=True,
                  rotation=60 if steep else 0)  # fmt: skip
        if room > 0.025:
            axes.text(middle, 0.18, "*" if score is None else f"{score:.2f}", ha="center", va="center", fontsize=7,
                      color=_INK, clip_on=True)  # fmt: skip


def draw_spectrogram(axes: Any, samples: np.ndarray, start: float, end: float) -> None:
    """Levels in decibels, 32 ms at a time."""
    padded = torch.nn.functional.pad(torch.from_numpy(samples), (WINDOW // 2, WINDOW // 2))
    windows = padded.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    level = 20 * torch.log10(torch.fft.rfft(windows).abs() + 1e-8)
    top = float(level.max())
    axes.imshow(
        level.T.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=top + FLOOR_DB, vmax=top,
        extent=(start, end, 0, SAMPLE_RATE / 2000), interpolation="nearest",
    )  # fmt: skip
    axes.set_ylabel("kHz")


def _draw_posteriors(
    axes: Any, recognizer: Recognizer, heard: np.ndarray, before: float, start: float, end: float
) -> None:
    """A row for each label that was likely somewhere, in the order of the alphabet; blanks in the lowest."""
    logits, _ = recognizer.emissions([torch.from_numpy(heard)])
    chances = logits[0].float().softmax(-1).cpu().numpy()
    clock = recognizer.clock
    edges = np.array([clock.seconds(frame) for frame in range(len(chances) + 1)]) + before
    inside = (edges[1:] > start) & (edges[:-1] < end)
    symbols = recognizer.alphabet.symbols
    rows = [row for row in range(len(symbols)) if row == BLANK or chances[inside, row].max(initial=0) > SHOWN]
    rows = sorted(rows, key=lambda row: (row != BLANK, symbols[row] != BOUNDARY, symbols[row]))
    axes.pcolormesh(edges, np.arange(len(rows) + 1), chances[:, rows].T, cmap="Blues", vmin=0, vmax=1)
    axes.set_yticks(np.arange(len(rows)) + 0.5, ["blank" if row == BLANK else symbols[row] for row in rows], fontsize=8)
    axes.set_ylabel("labels")
