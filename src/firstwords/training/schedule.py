"""Learning rate as a function of the update (fairseq polynomial_decay, tri_stage and cosine)."""

from __future__ import annotations

import math

from firstwords.training.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, update: int, steps: int) -> float:
    """The rate of update `update` (the first is 0) of `steps`."""
    if config.kind == "linear":
        return _linear(config, update, steps)
    if config.kind == "cosine":
        return _cosine(config, update, steps)
    return _tri_stage(config, update, steps)


def _linear(config: ScheduleConfig, update: int, steps: int) -> float:
    """Rises to the peak over the warm-up, then falls linearly to 0."""
    warmup = round(config.warmup * steps)
    if update < warmup:
        return config.peak * (update + 1) / warmup
    return config.peak * (1 - (update - warmup) / max(1, steps - warmup))


def _cosine(config: ScheduleConfig, update: int, steps: int) -> float:
    """Rises linearly to the peak, then falls to last_scale times the peak along half a cosine."""
    warmup = round(config.warmup * steps)
    if update < warmup:
        return config.peak * (config.first_scale + (1 - config.first_scale) * update / warmup)
    fallen = (1 - math.cos(math.pi * (update - warmup) / max(1, steps - warmup))) / 2
    return config.peak * (1 - (1 - config.last_scale) * fallen)


def _tri_stage(config: ScheduleConfig, update: int, steps: int) -> float:
    """Rises linearly, holds, then decays exponentially to last_scale times the peak, which it keeps."""
    warmup, hold = round(config.warmup * steps), round(config.hold * steps)
    decay = steps - warmup - hold
    if update < warmup:
        return config.peak * (config.first_scale + (1 - config.first_scale) * update / warmup)
    if update < warmup + hold:
        return config.peak
    progress = min(1.0, (update - warmup - hold) / max(1, decay))
    return config.peak * config.last_scale**progress
