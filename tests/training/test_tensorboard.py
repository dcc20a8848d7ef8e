"""The log reaches TensorBoard, or the missing extra is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny import PRETRAIN, settings

from firstwords.errors import MissingExtraError
from firstwords.training.run import Run


def test_figures_are_written_as_events(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Run(tmp_path / "run", "pretrain", settings(PRETRAIN), {}, tensorboard=True)
    run.log({"update": 5, "bits": 6.5, "health": "healthy"})
    run.log({"update": 10, "bits": 6.25, "health": "healthy"})
    events = accumulators.EventAccumulator(str(run.folder))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("bits")] == [(5, 6.5), (10, 6.25)]
    assert "health" not in events.Tags()["scalars"]


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"firstwords\[tensorboard\]"):
        Run(tmp_path / "run", "pretrain", settings(PRETRAIN), {}, tensorboard=True)
