"""Span masking (wav2vec 2.0 section 3.1; fairseq compute_mask_indices), drawn one utterance at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from firstwords.errors import ConfigError


@dataclass(frozen=True)
class SpanMaskConfig:
    """Which frames (or channels) are masked."""

    probability: float = 0.65
    """Span starts per frame times span length (the paper's p = 0.065 times 10); overlaps leave about 49 % masked."""
    length: int = 10
    """Frames of a span. Source: wav2vec 2.0 section 4.2."""
    distribution: Literal["static", "uniform", "normal", "poisson"] = "static"
    """Span lengths: all alike, U{other..2*length}, N(length, other) or Poisson(length). Source: published models."""
    other: float = 0.0
    """Second parameter of the distribution."""
    overlap: bool = True
    """May spans overlap? Off is an ablation of the paper (9.15 against 7.97 WER)."""
    min_space: int = 1
    """Frames left between spans that may not overlap. Source: fairseq."""
    min_spans: int = 2
    """Spans in every utterance, however short. Source: fairseq (time); 0 for channels."""
    equalize: bool = False
    """Unmask single frames until all utterances of a batch have as many masked frames, as the released code does."""
    dropout: float = 0.0
    """Share of masked frames that is unmasked again, at random. Source: released models."""

    def __post_init__(self) -> None:
        if self.length < 1 or not min(self.probability, self.other, self.min_space) >= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "mask: length must be at least 1; probability, other and min_space not below 0; dropout from 0 to "
                f"below 1; found {self.length}; {self.probability}, {self.other}, {self.min_space}; {self.dropout}"
            )


@dataclass(frozen=True)
class Spans:
    """The spans drawn for one utterance."""

    starts: np.ndarray
    """(n,) first frame of each span."""
    lengths: np.ndarray
    """(n,) frames of each span; the end may lie beyond the utterance."""
    size: int
    """Frames of the utterance."""

    def mask(self) -> np.ndarray:
        """(size,) bool, True where a span lies."""
        edges = np.zeros(self.size + 1, dtype=np.int64)
        np.add.at(edges, self.starts, 1)
        np.add.at(edges, np.minimum(self.starts + self.lengths, self.size), -1)
        return np.cumsum(edges[:-1]) > 0

    def centres(self) -> np.ndarray:
        """(size,) bool, True at the middle frame of each span."""
        centres = np.zeros(self.size, dtype=bool)
        centres[np.minimum(self.starts + self.lengths // 2, self.size - 1)] = True
        return centres


def draw_spans(size: int, config: SpanMaskConfig, random: np.random.Generator) -> Spans:
    """Draws the spans of an utterance of `size` frames.

    The number of spans is probability * size / length, rounded up or down at random so that its mean is exact. Starts
    are drawn without replacement from [0, size - shortest), hence with static lengths the last frame is never masked.
    """
    count = int(config.probability * size / config.length + random.random())
    count = min(max(count, config.min_spans), size)
    if count == 0:
        return Spans(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), size)
    lengths = _draw_lengths(count, config, random)
    if not config.overlap:
        return _apart(size, lengths, config.min_space, random)
    shortest = int(lengths.min())
    if size - shortest <= count:
        shortest = max(size - count - 1, 0)
    starts = random.choice(size - shortest, count, replace=False)
    return Spans(np.sort(starts), lengths, size)


def draw_mask(size: int, config: SpanMaskConfig, random: np.random.Generator) -> np.ndarray:
    """(size,) bool mask of one utterance; at least one frame stays unmasked."""
    return leave_one(draw_spans(size, config, random).mask())


def leave_one(mask: np.ndarray) -> np.ndarray:
    """The mask, with the last frame unmasked where all are masked (an utterance too short for its spans)."""
    if len(mask) and mask.all():
        mask = mask.copy()
        mask[-1] = False
    return mask


def thin_masks(masks: list[np.ndarray], config: SpanMaskConfig, random: np.random.Generator) -> list[np.ndarray]:
    """Unmasks single frames of a batch's masks: down to the smallest count (`equalize`), then a share (`dropout`)."""
    fewest = min((int(mask.sum()) for mask in masks), default=0)
    thinned = []
    for mask in masks:
        frames = np.flatnonzero(mask)
        keep = fewest if config.equalize else len(frames)
        keep -= round(keep * config.dropout)
        if keep < len(frames):
            mask = mask.copy()
            mask[random.choice(frames, len(frames) - keep, replace=False)] = False
        thinned.append(mask)
    return thinned


def _draw_lengths(count: int, config: SpanMaskConfig, random: np.random.Generator) -> np.ndarray:
    if config.distribution == "uniform":
        lengths = random.integers(int(config.other), 2 * config.length + 1, count)
    elif config.distribution == "normal":
        lengths = np.rint(random.normal(config.length, config.other, count))
    elif config.distribution == "poisson":
        lengths = random.poisson(config.length, count)
    else:
        lengths = np.full(count, config.length)
    return np.maximum(lengths, 1).astype(np.int64)


def _apart(size: int, lengths: np.ndarray, space: int, random: np.random.Generator) -> Spans:
    """Places spans with `space` frames between them at least, all arrangements alike; drops what does not fit."""
    while len(lengths) > 1 and lengths.sum() + space * (len(lengths) - 1) > size - 1:
        lengths = lengths[:-1]
    lengths = np.minimum(lengths, max(size - 1, 1))
    free = size - int(lengths.sum()) - space * (len(lengths) - 1)
    gaps = np.sort(random.integers(0, free + 1, len(lengths)))
    before = np.concatenate([[0], np.cumsum(lengths[:-1] + space)])
    return Spans(gaps + before, lengths, size)
