"""The fine-tuning task: every way to start runs; what is frozen stays; labels go with their own audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FINETUNE, finetune, finetuning, pretrain, tensors, write_corpus, write_recipe

from firstwords.cli import main
from firstwords.config import merged
from firstwords.corpus.batches import Position
from firstwords.training.run import read_log


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def listened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listened") / "run"
    assert pretrain(corpus, out, changes={"steps": 1}) == 0
    return out


VARIANTS: dict[str, dict[str, Any]] = {
    "method": {},
    "random weights": {"weights": "random"},
    "log-mel": {"frontend": "log_mel"},
    "dropouts": {"adapt": {"dropout": 0.2, "activation_dropout": 0.2, "layerdrop": 0.5, "final_dropout": 0.2}},
    "no masks": {"mask": {"probability": 0.0, "min_spans": 0}, "channel_mask": {"probability": 0.0}},
    "nothing frozen": {"frozen": 0.0, "adapt": {"gradient_scale": 1.0}},
    "only the output layer": {"frozen": 1.0},
    "a part of the hours": {"data": {"hours": 0.001}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs(variant: str, corpus: Path, listened: Path, tmp_path: Path) -> None:
    """To the end, with figures that are numbers, and only what may learn has changed."""
    changes = merged({"steps": 6, "data": {"held_out": 0.2}, "text": {"unknown": "drop"}}, VARIANTS[variant])
    assert finetune(corpus, listened, tmp_path / "run", changes=changes) == 0
    records = read_log(tmp_path / "run")
    valid = [record for record in records if "valid_wer" in record][-1]
    assert valid["valid_cer"] >= 0 and 0 <= valid["valid_blank_share"] <= 1
    assert all(value == value for record in records for value in record.values())
    before, after = tensors(listened / "last.safetensors"), tensors(tmp_path / "run" / "last.safetensors")
    changed = {
        name.removeprefix("weights/encoder.").split(".")[0]
        for name, value in after.items()
        if name.startswith("weights/encoder.")
        and name in before
        and (before[name].shape != value.shape or not torch.equal(before[name], value))
    }
    if variant in ("method", "dropouts", "a part of the hours"):
        assert "feature_encoder" not in changed and "transformer" in changed
    if variant == "only the output layer":
        assert not changed
    if variant in ("nothing frozen", "random weights"):
        assert "feature_encoder" in changed


@pytest.mark.parametrize("fresh", [1, 2])
def test_blocks_that_start_anew(fresh: int, corpus: Path, listened: Path, tmp_path: Path) -> None:
    """The top ones; with all of them what leads into them, whose scale new blocks could not stand up to."""
    changes: dict[str, Any] = {"steps": 1, "frozen": 1.0, "adapt": {"fresh_blocks": fresh}, "text": {"unknown": "drop"}}
    assert finetune(corpus, listened, tmp_path / "run", changes=changes) == 0
    before, after = tensors(listened / "last.safetensors"), tensors(tmp_path / "run" / "last.safetensors")
    new = {
        name.removeprefix("weights/encoder.")
        for name, value in after.items()
        if name.startswith("weights/encoder.") and value.ndim > 1 and not torch.equal(value, before[name])
    }
    expected = {"transformer.blocks.1."} if fresh == 1 else {
        "transformer.blocks.0.", "transformer.blocks.1.", "transformer.position.", "projection."
    }  # fmt: skip
    assert all(any(name.startswith(one) for one in expected) for name in new)
    assert all(any(name.startswith(one) for name in new) for one in expected)


def test_from_a_recipe_name(corpus: Path, tmp_path: Path) -> None:
    """The shape of a recipe with random weights, no run needed."""
    recipe = write_recipe(tmp_path, FINETUNE, {"steps": 1})
    words = [
        "finetune",
        str(corpus),
        "--from",
        "wav2vec2-tiny",
        "--recipe",
        str(recipe),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0


def test_labels_and_masks_belong_to_their_audio(corpus: Path) -> None:
    """In every batch of two epochs: own labels, own lengths, masks inside, the same as alone."""
    task = finetuning(corpus)
    by_id = {utterance.id: utterance for utterance in task.training}
    seen: list[str] = []
    steps = len(task.loader.plan.epoch(0))
    for update, (batches, _) in enumerate(task.loader.updates(0, Position(), steps)):
        for batch in batches:
            for row, utterance in enumerate(batch.utterances):
                seen.append(utterance.id)
                labels = batch.targets[row, : batch.target_lengths[row]].tolist()
                assert task.alphabet.decode(labels).strip() == by_id[utterance.id].text
                length = int(batch.lengths[row])
                assert length == round((utterance.duration or 0) * 16_000)
                frames = task.model.encoder.frames(length)
                alone = task.make_batch([utterance], (task.settings.seed, update))
                assert alone is not None and alone.mask is not None and batch.mask is not None
                assert not batch.mask[row, frames:].any() and not batch.mask[row, :frames].all()
                assert torch.equal(alone.mask[0], batch.mask[row, :frames])
                assert torch.equal(alone.channel_mask[0], batch.channel_mask[row])
                assert torch.equal(alone.waveforms[0], batch.waveforms[row, :length])
                assert not batch.waveforms[row, length:].any()
    assert sorted(seen) == sorted(by_id)


def test_validation_does_not_depend_on_batches(corpus: Path) -> None:
    figures = []
    for micro in (0.5, 3.0, 100.0):
        task = finetuning(corpus, {"training": {"micro_batch_seconds": micro}})
        task.validation = task.training
        task.model.eval()
        with torch.no_grad():
            figures.append(task.validate(0))
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)
    assert figures[0] == pytest.approx(figures[2], rel=1e-4)
