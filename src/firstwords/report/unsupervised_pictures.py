"""Pictures of a wav2vec-U run: how often each phone is said, and when the phones of one utterance."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firstwords.audio import SAMPLE_RATE
from firstwords.report.alignment import draw_spectrogram, draw_waveform
from firstwords.report.curves import COLOURS

TEXT, GENERATED, TRUE = "#b4bcc4", COLOURS[1], COLOURS[0]


def draw_phones(phones: Sequence[str], shares: Mapping[str, Sequence[float]]) -> bytes:
    """A PNG with a group of bars for each phone.

    Args:
        phones: the most frequent first.
        shares: by name ("text", "generator", ...) each phone's share, 0 to 1.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(12.5, 3.4), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    places, width = np.arange(len(phones)), 0.8 / len(shares)
    for number, (name, values) in enumerate(shares.items()):
        offset = (number - (len(shares) - 1) / 2) * width
        colour = (TEXT, GENERATED, TRUE)[number % 3]
        axes.bar(places + offset, 100 * np.asarray(values), width, label=name, color=colour)
    axes.set_xticks(places, list(phones))
    axes.set_xlim(-0.7, len(phones) - 0.3)
    axes.set(ylabel="% of phones")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def draw_said(samples: np.ndarray, rows: Mapping[str, Sequence[tuple[float, float, str]]], silence: str) -> bytes:
    """A PNG of an utterance: waveform, spectrogram, and a row of phones at their times for each name.

    Args:
        samples: (n,) at 16 kHz.
        rows: (start, end, phone) by name, in seconds.
        silence: the phone that is drawn pale and without its name.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    seconds = len(samples) / SAMPLE_RATE
    figure = Figure(
        figsize=(min(max(12.5, 2.6 * seconds), 40), 3.6 + 0.55 * len(rows)), layout=ConstrainedLayoutEngine()
    )
    heights = [1.0, 1.8, *(0.55 for _ in rows)]
    waveform, spectrogram, *others = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_waveform(waveform, samples, 0.0)
    draw_spectrogram(spectrogram, samples, 0.0, seconds)
    for axes, (name, spans), colour in zip(others, rows.items(), (GENERATED, TRUE) * len(rows), strict=False):
        _draw_spans(axes, spans, colour, silence)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    for start, end, _ in next(iter(rows.values()), ()):
        for edge in (start, end):
            for axes in (waveform, spectrogram):
                axes.axvline(edge, color=GENERATED, linewidth=0.6, alpha=0.7)
    (others[-1] if others else spectrogram).set_xlabel("seconds of speech, silences removed")
    waveform.set_xlim(0, seconds)
    return _png(figure)


def _draw_spans(axes: Any, spans: Sequence[tuple[float, float, str]], colour: str, silence: str) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    for number, (start, end, phone) in enumerate(spans):
        shade = 0.06 if phone == silence else 0.25 + 0.2 * (number % 2)
        axes.axvspan(start, end, 0.06, 0.94, color=colour, alpha=shade, linewidth=0)
        if phone != silence:
            height = 0.7 if number % 2 else 0.28  # names of short phones would stand over each other
            axes.text((start + end) / 2, height, phone, ha="center", va="center", fontsize=9, clip_on=True)


def as_image(png: bytes, alt: str) -> str:
    """An HTML image with the picture inside."""
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _png(figure: Any) -> bytes:
    packed = io.BytesIO()
    figure.savefig(packed, format="png", dpi=110)
    return packed.getvalue()
