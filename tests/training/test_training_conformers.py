"""Conformers are pre-trained, fine-tuned and adapted like every encoder; their statistics move when they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import assert_bitwise_equal, finetune, listened_to_five, pretrain, pretrain_arguments, tensors

from firstwords.checkpoints.own import Checkpoint, read_checkpoint
from firstwords.cli import main
from firstwords.config import merged
from firstwords.recognizer import Recognizer
from firstwords.training.run import Run

BLOCKS = {"block": "conformer", "conformer": {"kernel": 5}, "dropout": 0.1, "attention_dropout": 0.1}


def listening(**more: Any) -> dict[str, Any]:
    changes = {"steps": 4, "model": {"encoder": {"transformer": BLOCKS}}, "training": {"save_every": 2}}
    return merged(changes, more)


@pytest.fixture
def listened(tmp_path: Path) -> tuple[Path, Path]:
    return listened_to_five(tmp_path, listening())


@pytest.fixture
def corpus(listened: tuple[Path, Path]) -> Path:
    return listened[0]


@pytest.fixture
def base(listened: tuple[Path, Path]) -> Path:
    return listened[1]


def statistics(run: Path, file: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors(run / file).items() if ".running_" in name}


def test_listens_and_resumes(corpus: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are those of what was heard, and a run that was killed ends as if it had not been, bit by bit."""
    found = statistics(base)
    assert len(found) == 4
    assert all(not torch.equal(value, torch.full_like(value, float("variance" in n))) for n, value in found.items())
    save = Run.save_last

    def killed(self: Run, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        raise KeyboardInterrupt

    arguments = pretrain_arguments(corpus, tmp_path / "broken", changes=listening())
    monkeypatch.setattr(Run, "save_last", killed)
    assert main(arguments) == 130
    monkeypatch.undo()
    assert main(arguments) == 0
    assert_bitwise_equal(tmp_path / "broken", base)


def test_statistics_wait_for_the_output_layer(corpus: Path, base: Path, tmp_path: Path) -> None:
    """As long as only the output layer learns they stay; then they move, and the run transcribes and is converted."""
    for name, frozen in (("frozen", 1.0), ("learning", 0.5)):
        assert finetune(corpus, base, tmp_path / name, changes={"steps": 4, "frozen": frozen}) == 0
    before = statistics(base)
    frozen, learning = statistics(tmp_path / "frozen"), statistics(tmp_path / "learning")
    assert before.keys() == frozen.keys()
    assert all(torch.equal(value, frozen[name]) for name, value in before.items())
    assert not any(torch.equal(value, learning[name]) for name, value in before.items())
    assert main(["transcribe", str(tmp_path / "learning"), str(corpus / "0.wav")]) == 0
    assert main(["convert", str(tmp_path / "learning"), str(tmp_path / "theirs"), "--to", "huggingface"]) == 0
    assert finetune(corpus, tmp_path / "theirs", tmp_path / "again", changes={"steps": 2}) == 0
    assert pretrain(corpus, tmp_path / "more", "--from", tmp_path / "theirs", changes={"steps": 2}) == 0
    assert (
        read_checkpoint(tmp_path / "more" / "best.safetensors").config["encoder"]["transformer"]["block"] == "conformer"
    )


@pytest.mark.parametrize("method", ["adapter", "lora"])
def test_small_weights(method: str, corpus: Path, base: Path, tmp_path: Path) -> None:
    """They fit the base as it is: nothing of it moves in training, its statistics neither."""
    run = tmp_path / "run"
    adapt = {"method": method, "adapter_dim": 4, "low_rank": 2}
    changes = {"steps": 4, "adapt": adapt, "training": {"schedule": {"peak": 1e-2}}}
    assert finetune(corpus, base, run, changes=changes) == 0
    part = ".adapter." if method == "adapter" else ".low_rank."
    assert all(part in name or name.startswith("weights/output.") for name in tensors(run / "best.safetensors"))
    used = Recognizer.load(run, "cpu").model.state_dict()
    kept = read_checkpoint(base / "best.safetensors").weights
    same = [name for name in kept if ".running_" in name]
    assert same and all(torch.equal(used[name], kept[name]) for name in same)
    assert main(["convert", str(base), str(tmp_path / "whole"), "--adapter", str(run)]) == 0
