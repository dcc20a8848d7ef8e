"""An update has the same gradient as one batch, in micro-batches, and over two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import (
    PRETRAIN,
    finetune,
    finetune_arguments,
    finetuning,
    finish,
    merged,
    pretrain,
    pretrain_arguments,
    pretraining,
    settings,
    start,
    tensors,
    write_corpus,
)

from firstwords.corpus.batches import Position
from firstwords.training.run import Run

WHOLE = {"training": {"micro_batch_seconds": 1000.0}}
PARTS = {"training": {"micro_batch_seconds": 0.8}}
ONE_UPDATE = {"training": {"batch_seconds": 100.0, "bucket_seconds": 100.0}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def gradients(task: Any) -> tuple[dict[str, torch.Tensor | None], int, float]:
    """Of the first update: every gradient, the number of micro-batches, and the loss."""
    batches, _ = next(iter(task.loader.updates(0, Position(), 1)))
    counts = task.count(batches)
    whole = task.survey(batches, 0, counts)
    task.model.train()
    total = 0.0
    for batch in batches:
        torch.manual_seed(0)
        loss, _ = task.loss(task.model, batch, 0, counts, whole)
        loss.backward()
        total += float(loss.detach())
    return {name: value.grad for name, value in task.model.named_parameters()}, len(batches), total


def assert_same(
    ours: dict[str, torch.Tensor | None], theirs: dict[str, torch.Tensor | None], rounding: float = 1e-4
) -> None:
    """Every gradient within a share of its own largest value (or of a thousandth of the largest of all)."""
    assert ours.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in theirs.values() if value is not None)
    for name, value in theirs.items():
        mine = ours[name]
        assert (mine is None) == (value is None), name
        if mine is not None and value is not None:
            allowed = rounding * max(float(value.abs().max()), 1e-3 * largest)
            assert float((mine - value).abs().max()) <= allowed, name


VARIANTS: dict[str, dict[str, Any]] = {
    "method": {},
    "layer-norm": {
        "model": {
            "encoder": {
                "feature_encoder": {"norm": "layer", "bias": True},
                "transformer": {"norm_first": True},
                "normalize_waveform": True,
            }
        }
    },
    "strong diversity and penalty": {"model": {"diversity_weight": 5.0, "feature_penalty": 50.0}},
    "continuous targets": {"model": {"quantize_targets": False}},
    "no noise": {"model": {"quantizer": {"gumbel_noise": False}}},
    "layerdrop": {"model": {"encoder": {"transformer": {"layerdrop": 0.5}}}},
    "centres": {"model": {"contrast": {"scored": "centres"}}},
    "all candidates": {"model": {"contrast": {"candidates": "all"}}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_pretraining_in_micro_batches(corpus: Path, variant: str) -> None:
    changes = merged(ONE_UPDATE, VARIANTS[variant])
    whole, few, loss = gradients(pretraining(corpus, merged(changes, WHOLE)))
    parts, many, sum_of_parts = gradients(pretraining(corpus, merged(changes, PARTS)))
    assert few == 1 and many >= 5
    assert_same(parts, whole)
    if variant == "continuous targets":  # else each part states the diversity loss of the whole
        assert sum_of_parts == pytest.approx(loss, rel=1e-5)


def test_finetuning_in_micro_batches(corpus: Path) -> None:
    changes = merged(ONE_UPDATE, {"frozen": 0.0})
    whole, few, loss = gradients(finetuning(corpus, merged(changes, WHOLE)))
    parts, many, sum_of_parts = gradients(finetuning(corpus, merged(changes, PARTS)))
    assert few == 1 and many >= 5
    assert sum_of_parts == pytest.approx(loss, rel=1e-5)
    assert_same(parts, whole)


FOUR_UPDATES = {
    "steps": 4,
    "training": {"batch_seconds": 8.0, "schedule": {"peak": 0.5}, "optimizer": {"epsilon": 1.0}},
}


class TestTwoProcesses:
    """Weights after a few real updates by two processes with gloo, against one: torchrun's, or started by ourselves.

    AdamW divides a gradient by its own size, which would blow rounding up where a gradient is almost 0; with a large
    epsilon the step stays in proportion to the gradient.
    """

    def compare(self, one: Path, two: Path) -> None:
        ours, theirs = tensors(two / "last.safetensors"), tensors(one / "last.safetensors")
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if name.endswith("/step"):
                assert torch.equal(ours[name], value)
            else:
                torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5 * max(1, float(value.abs().max())))

    def test_pretraining(self, corpus: Path, tmp_path: Path) -> None:
        """With blocks left out at random, and a diversity loss that couples all parts of the update."""
        changes = merged(FOUR_UPDATES, VARIANTS["layerdrop"])
        changes = merged(changes, {"model": {"diversity_weight": 1.0}})
        assert pretrain(corpus, tmp_path / "one", changes=changes) == 0
        code, said = finish(start(pretrain_arguments(corpus, tmp_path / "two", changes=changes), processes=2))
        assert code == 0, said
        assert "2 processes on cpu" in said and said.count("finished:") == 1
        self.compare(tmp_path / "one", tmp_path / "two")

    def test_finetuning(self, corpus: Path, tmp_path: Path) -> None:
        assert pretrain(corpus, tmp_path / "listen", changes={"steps": 1}) == 0
        changes = merged(FOUR_UPDATES, {"frozen": 0.5, "adapt": {"gradient_scale": 1.0}})
        assert finetune(corpus, tmp_path / "listen", tmp_path / "one", changes=changes) == 0
        two = ("--training.processes", 2)
        arguments = finetune_arguments(corpus, tmp_path / "listen", tmp_path / "two", *two, changes=changes)
        code, said = finish(start(arguments))
        assert code == 0, said
        assert "2 processes on cpu" in said and said.count("finished:") == 1
        self.compare(tmp_path / "one", tmp_path / "two")

    @pytest.mark.parametrize("kind", ["pretrain", "finetune"])
    def test_updates_too_small_for_all(self, corpus: Path, tmp_path: Path, kind: str) -> None:
        """Most updates are a single utterance, which one of the two processes has to learn from alone."""
        small = {"steps": 6, "training": {"batch_seconds": 0.5, "bucket_seconds": 0.5, "log_every": 1}}
        if kind == "pretrain":
            changes = merged(merged(FOUR_UPDATES, small), {"model": {"diversity_weight": 1.0}})
            assert pretrain(corpus, tmp_path / "one", changes=changes) == 0
            arguments = pretrain_arguments(corpus, tmp_path / "two", "--training.processes", 2, changes=changes)
            plan = pretraining(corpus, changes).loader.plan
        else:
            assert pretrain(corpus, tmp_path / "listen", changes={"steps": 1}) == 0
            changes = merged(merged(FOUR_UPDATES, small), {"frozen": 0.5, "adapt": {"gradient_scale": 1.0}})
            assert finetune(corpus, tmp_path / "listen", tmp_path / "one", changes=changes) == 0
            two = ("--training.processes", 2)
            arguments = finetune_arguments(corpus, tmp_path / "listen", tmp_path / "two", *two, changes=changes)
            plan = finetuning(corpus, changes).loader.plan
        alone = [sum(len(bucket.members) for bucket in update) == 1 for update in plan.epoch(0)[:6]]
        assert any(alone)
        code, said = finish(start(arguments))
        assert code == 0, said
        self.compare(tmp_path / "one", tmp_path / "two")

    def test_a_finished_run_is_finished_for_all(self, corpus: Path, tmp_path: Path) -> None:
        """Processes that do not write see the state too; else they would wait for the one that has left."""
        assert pretrain(corpus, tmp_path / "run", changes={"steps": 1}) == 0
        found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        other = Run(tmp_path / "run", "pretrain", settings(PRETRAIN, {"steps": 1}), found["data"], write=False)
        assert other.status["state"] == "finished"


def test_what_the_recipes_of_the_tests_ask(corpus: Path) -> None:
    """Four seconds an update are several updates an epoch, so that the other tests of this folder mean something."""
    for task in (pretraining(corpus), finetuning(corpus)):
        assert 2 <= len(task.loader.plan.epoch(0)) <= 6
