"""Pooling: what a plain loop over windows gives, however the frames come."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from firstwords.pooling import PoolConfig, pooled, window_times

STRIDE, FIELD = 320, 400


def plain(frames: np.ndarray, window: float, hop: float) -> list[np.ndarray]:
    """The twin: every frame looked at for every window; the last window reaches the end."""
    middles = (np.arange(len(frames)) * STRIDE + FIELD / 2) / 16_000
    rows, covered, number = [], 0, 0
    while covered < len(frames):
        start = number * hop
        inside = np.flatnonzero((middles >= start - 1e-9) & (middles < start + window - 1e-9))
        if len(inside):
            rows.append(frames[inside].mean(0))
            covered = max(covered, inside[-1] + 1)
        elif (middles < start).all():
            break
        number += 1
    return rows


@pytest.mark.parametrize(("window", "hop"), [(1.0, 0.5), (0.25, 0.25), (0.1, 0.3), (0.5, 0.13), (9.0, 1.0)])
@pytest.mark.parametrize("count", [1, 7, 50, 163])
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_windows_are_those_of_a_plain_loop(window: float, hop: float, count: int, size: int) -> None:
    frames = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    config = PoolConfig("window", window=window, hop=hop)
    found = torch.cat(list(pooled(frames.split(size), config, STRIDE, FIELD)))
    np.testing.assert_allclose(found.numpy(), np.stack(plain(frames.double().numpy(), window, hop)), atol=1e-6)


def test_statistics_do_not_lose_digits_far_from_zero() -> None:
    frames = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) + 4000
    for size in (17, 5000):
        row = torch.cat(list(pooled(frames.split(size), PoolConfig("utterance", "statistics"))))[0].double()
        wanted = torch.cat([frames.double().mean(0), frames.double().std(0, correction=0)])
        torch.testing.assert_close(row, wanted, atol=0, rtol=1e-6)


def test_frames_pass_as_they_are_and_window_times_end_with_the_recording() -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    assert all(map(torch.equal, pooled(iter(parts), PoolConfig()), parts))
    times = window_times(PoolConfig("window", window=1.0, hop=0.5), 3, 1.7)
    assert times == [(0.0, 1.0), (0.5, 1.5), (1.0, 1.7)]
    assert math.isclose(times[-1][1], 1.7)
