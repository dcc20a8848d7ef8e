"""Frames of a recording to one vector, or to one for each fixed window, as they come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.errors import ConfigError

Level = Literal["frame", "utterance", "window"]
Pooled = Literal["mean", "statistics"]


@dataclass(frozen=True)
class PoolConfig:
    """What gets a vector."""

    level: Level = "frame"
    """Every frame; the utterance as a whole; or windows of a fixed length."""
    pool: Pooled = "mean"
    """Of an utterance or window: the mean of its frames (D), or mean and standard deviation (2 D)."""
    window: float = 1.0
    """Seconds of a window."""
    hop: float = 0.5
    """Seconds from the start of one window to that of the next."""

    def check(self, stride: int) -> None:
        """Raises ConfigError: windows of less than a frame (`stride` samples), or no way forward."""
        frame = stride / SAMPLE_RATE
        if self.level == "window" and not (frame <= self.window < math.inf and frame <= self.hop < math.inf):
            raise ConfigError(
                f"windows of {self.window} s every {self.hop} s: both must be at least a frame ({frame:g} s)"
            )


def pooled(
    parts: Iterable[Tensor], config: PoolConfig, stride: int = 320, receptive_field: int = 400
) -> Iterator[Tensor]:
    """Rows (n, D), or (n, 2 D) with statistics, float32, of frames (t, D) that come in parts of any lengths.

    A frame belongs to the windows in which the middle of its receptive field lies. Windows begin every `hop` seconds;
    the last one ends with the recording and may be shorter. Sums are in float64.

    Args:
        parts: the frames of one recording; at the level of frames they pass as they are.
        config: what gets a vector.
        stride: samples from one frame to the next.
        receptive_field: samples that a frame sees.
    """
    if config.level == "frame":
        yield from parts
    elif config.level == "utterance":
        yield _utterance(parts, config.pool)
    else:
        yield from _windows(parts, config, stride, receptive_field)


def window_times(config: PoolConfig, count: int, seconds: float) -> list[tuple[float, float]]:
    """Start and end of `count` windows of a recording, seconds."""
    starts = [number * config.hop for number in range(count)]
    return [(start, max(start, min(start + config.window, seconds))) for start in starts]


def _utterance(parts: Iterable[Tensor], pool: Pooled) -> Tensor:
    count = 0
    shift = total = squares = torch.zeros(0)
    for part in parts:
        frames = part.double()
        if not count:
            shift = frames.mean(0)  # near the mean, so that an offset costs the variance no digits
            total, squares = torch.zeros_like(shift), torch.zeros_like(shift)
        frames = frames - shift
        total, squares, count = total + frames.sum(0), squares + frames.square().sum(0), count + len(frames)
    mean = total / count
    return _row(mean + shift, squares / count - mean.square(), pool)


def _windows(parts: Iterable[Tensor], config: PoolConfig, stride: int, receptive_field: int) -> Iterator[Tensor]:
    def first_frame(seconds: float) -> int:
        """The first whose middle is not before that time."""
        return max(0, math.ceil(round((seconds * SAMPLE_RATE - receptive_field / 2) / stride, 9)))

    def last_frame(number: int) -> int:
        """The frame after the last of a window."""
        start = number * config.hop
        return max(first_frame(start) + 1, first_frame(start + config.window))

    held: Tensor | None = None
    gone = number = covered = 0  # frames that are no longer held, windows given, the frame after the last of them
    for part in parts:
        held = part if held is None else torch.cat([held, part])
        while gone + len(held) >= (end := last_frame(number)):
            begin = first_frame(number * config.hop)
            yield _pool(held[begin - gone : end - gone], config.pool)
            number, covered = number + 1, end
            drop = min(max(0, first_frame(number * config.hop) - gone), len(held))
            held, gone = held[drop:], gone + drop
    begin = first_frame(number * config.hop)
    if held is not None and begin < gone + len(held) and covered < gone + len(held):  # frames that no window has
        yield _pool(held[begin - gone :], config.pool)


def _pool(frames: Tensor, pool: Pooled) -> Tensor:
    frames = frames.double()
    return _row(frames.mean(0), frames.var(0, correction=0), pool)


def _row(mean: Tensor, variance: Tensor, pool: Pooled) -> Tensor:
    both = mean if pool == "mean" else torch.cat([mean, variance.clamp_min(0).sqrt()])
    return both.float()[None]
