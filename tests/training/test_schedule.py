"""Learning rates at points computed by hand."""

from __future__ import annotations

import pytest

from firstwords.training.config import ScheduleConfig
from firstwords.training.schedule import learning_rate

LINEAR = ScheduleConfig("linear", peak=1.0, warmup=0.1)
TRI_STAGE = ScheduleConfig("tri-stage", peak=2.0, warmup=0.1, hold=0.4, first_scale=0.01, last_scale=0.05)


@pytest.mark.parametrize(
    ("update", "rate"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (11, 89 / 90), (55, 0.5), (99, 1 / 90)]
)
def test_linear(update: int, rate: float) -> None:
    assert learning_rate(LINEAR, update, 100) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("update", "rate"),
    [
        (0, 0.02),  # peak * first_scale
        (5, 0.02 + 1.98 / 2),
        (10, 2.0),
        (49, 2.0),
        (50, 2.0),
        (75, 2.0 * 0.05**0.5),
        (99, 2.0 * 0.05**0.98),
        (100, 0.1),  # peak * last_scale, and it stays there
        (500, 0.1),
    ],
)
def test_tri_stage(update: int, rate: float) -> None:
    assert learning_rate(TRI_STAGE, update, 100) == pytest.approx(rate)


@pytest.mark.parametrize("kind", ["linear", "tri-stage"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.08, 1.0])
def test_never_above_the_peak_nor_below_zero(kind: str, steps: int, warmup: float) -> None:
    config = ScheduleConfig(kind, peak=0.5, warmup=warmup, hold=0.0)  # type: ignore[arg-type]
    rates = [learning_rate(config, update, steps) for update in range(steps)]
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert rates[0] > 0
