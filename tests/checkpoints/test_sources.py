"""Wherever a model may come from; names on the hub without a network."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from small import KINDS, recogniser, saved

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.sources import is_hub_name, open_checkpoint
from firstwords.errors import CheckpointError, MissingExtraError


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing run in a folder that exists is never asked of the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_hub_name("facebook/wav2vec2-base-960h") and is_hub_name("someone/model@v1.0")
    for place in ("runs/listne", "model", "./model", "../model", "/a/b", "a/b/c", "a/b c"):
        assert not is_hub_name(place), place
    with pytest.raises(CheckpointError, match="no run here"):
        open_checkpoint("runs/listne")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"firstwords\[huggingface\]"):
        open_checkpoint("someone/model")


class TestHub:
    def hub(self, monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
        """A huggingface_hub that notes what it is asked for."""
        asked: list[dict[str, Any]] = []

        def snapshot_download(**values: Any) -> str:
            asked.append(values)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        module = types.ModuleType("huggingface_hub")
        module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        return asked

    def test_download(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Configuration, vocabulary and safe weights only: no pickle where there are safe ones, and no code."""
        write_huggingface(recogniser(KINDS["base"]), tmp_path / "cache", "test")
        asked = self.hub(monkeypatch, tmp_path / "cache")
        checkpoint, where = open_checkpoint("someone/model@v2")
        assert checkpoint.kind == "ctc" and where == "someone/model@v2"
        assert [(a["repo_id"], a["revision"]) for a in asked] == [("someone/model", "v2")]
        assert not any(pattern.endswith((".py", ".bin", ".bin*")) for pattern in asked[0]["allow_patterns"])

    def test_pickled_weights_as_a_last_resort(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.hub(monkeypatch, tmp_path)
        with pytest.raises(CheckpointError):
            open_checkpoint("someone/model")
        assert len(asked) == 2 and "pytorch_model*.bin*" in asked[1]["allow_patterns"]

    def test_offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub(monkeypatch, ConnectionError("offline mode is enabled\nlong story"))
        with pytest.raises(CheckpointError, match=r"someone/model: .* \(ConnectionError: offline mode is enabled\)"):
            open_checkpoint("someone/model")


def test_runs_come_first(tmp_path: Path) -> None:
    """A folder of ours stays ours, whatever lies beside it."""
    saved(recogniser(KINDS["base"]), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    checkpoint, _ = open_checkpoint(tmp_path)
    assert "imported" not in checkpoint.state
    with pytest.raises(CheckpointError, match="no adapter 'swa'"):
        open_checkpoint(tmp_path, adapter="swa")
