"""When the generator said each phone: from its steps back to segments, frames and seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from firstwords.corpus.prepared import Prepared
from firstwords.models.wav2vec_u import Wav2VecUConfig


class Span(NamedTuple):
    """A phone and when it was said, in seconds of speech without its silences."""

    start: float
    end: float
    phone: str


def segment_edges(prepared: Prepared, split: str, number: int) -> np.ndarray:
    """(T + 1,) seconds: where each of an utterance's pooled segments begins, and the end of the last.

    Of version 2.0 they are frames. Raises CorpusError where files are missing.
    """
    pooled = prepared.features(split)
    if prepared.kind == "2.0":
        return np.arange(len(pooled[number]) + 1) * prepared.frame_seconds
    first, last = pooled.offsets[number : number + 2]
    frames: np.ndarray = np.append(0, np.cumsum(prepared.durations(split)[first:last], dtype=np.int64))
    return frames * prepared.frame_seconds


def said_spans(best: np.ndarray, phones: tuple[str, ...], config: Wav2VecUConfig, edges: np.ndarray) -> list[Span]:
    """Phones and their times, steps in a row with one phone as one.

    A step stands for the middle of the segments that its convolution sees, and reaches halfway to its neighbours.

    Args:
        best: (T',) the best phone of each of the generator's steps.
        phones: their names.
        config: of the networks, which say what a step sees.
        edges: `segment_edges`.
    """
    kernel, stride = config.generator.kernel, config.generator.stride
    middles = np.arange(len(best)) * stride - kernel // 2 + kernel / 2
    cuts = np.append(middles - stride / 2, middles[-1:] + stride / 2) / config.segmentation.pool
    return spans_of(best, phones, np.interp(cuts, np.arange(len(edges)), edges))


def spans_of(labels: np.ndarray, phones: tuple[str, ...], cuts: np.ndarray) -> list[Span]:
    """Runs of one label as spans.

    Args:
        labels: (T,) numbers of phones.
        cuts: (T + 1,) seconds: where each begins, and the end of the last.
    """
    if not len(labels):
        return []
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    ends = np.append(starts[1:], len(labels))
    spans = [
        Span(float(cuts[low]), float(cuts[high]), phones[labels[low]]) for low, high in zip(starts, ends, strict=True)
    ]
    return [span for span in spans if span.end > span.start]
