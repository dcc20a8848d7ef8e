"""Pre-training of wav2vec (2019): the same gradient however it is split, exact resume, figures for every step."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_split_updates import assert_same, gradients
from tiny import assert_bitwise_equal, finish, pretrain, start, status, tensors, write_corpus
from wav2vec_tiny import wav2vec, wav2vec_arguments, wav2vec_task

from firstwords.cli import main
from firstwords.config import merged
from firstwords.corpus.batches import Position
from firstwords.encoder import load_encoder
from firstwords.errors import ConfigError
from firstwords.report.curves import CURVES
from firstwords.training.run import read_log

ONE_UPDATE = {"training": {"batch_seconds": 100.0, "bucket_seconds": 100.0}}
VARIANTS: dict[str, dict[str, Any]] = {
    "method": {},
    "skips": {"encoder": {"context_network": {"skip_connections": True}}},
    "gelu, no norm weights": {
        "encoder": {
            "latent_encoder": {"activation": "gelu", "affine_norm": False, "log_compression": False},
            "context_network": {"activation": "gelu", "affine_norm": False, "padding": "zero", "bias": False},
        }
    },
    "infonce": {"contrast": {"loss": "infonce"}},
    "balanced": {"contrast": {"balanced": True}},
    "normalised": {"encoder": {"normalize_waveform": True}},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_micro_batches(corpus: Path, variant: str) -> None:
    changes = merged(ONE_UPDATE, {"model": VARIANTS[variant]})
    whole, few, loss = gradients(wav2vec_task(corpus, merged(changes, {"training": {"micro_batch_seconds": 1000.0}})))
    parts, many, total = gradients(wav2vec_task(corpus, merged(changes, {"training": {"micro_batch_seconds": 0.8}})))
    assert few == 1 and many >= 5
    assert total == pytest.approx(loss, rel=1e-5)
    assert_same(parts, whole)


def test_random_choices_do_not_depend_on_neighbours(corpus: Path) -> None:
    """An utterance's crop and distractors are the same in any batch of the same length."""
    task = wav2vec_task(corpus)
    long = [utterance for utterance in task.training if (utterance.duration or 0) >= 0.5]
    together = task.make_batch(long, 6400, (1, 5))
    assert together is not None and len(long) > 3
    for number, utterance in enumerate(long):
        alone = task.make_batch([utterance], 6400, (1, 5))
        assert alone is not None
        assert torch.equal(alone.waveforms[0], together.waveforms[number])
        assert torch.equal(alone.distractors.own[0], together.distractors.own[number])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "steps, how many future latents are predicted, must be at least 1"),
        ({"encoder": {"context_network": {"residual_scale": -1}}}, "context_network: residual_scale"),
        ({"encoder": {"latent_encoder": {"residual_scale": -1}}}, "latent_encoder: residual_scale"),
        ({"encoder": {"context_network": {"dropout": 2}}}, "context_network: dropout must be from 0 to 1"),
    ],
    ids=str,
)
def test_impossible_settings(corpus: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wav2vec_task(corpus, {"model": wrong})


def test_too_short_utterances_are_left_out_and_named(tmp_path: Path) -> None:
    """Four frames are the fewest of which one can be predicted: 465 + 3 x 160 samples."""
    corpus = write_corpus(tmp_path, [944 / 16_000, 945 / 16_000, 0.2])
    task = wav2vec_task(corpus, {"data": {"min_seconds": 0.0}})
    assert [utterance.id for utterance in task.training] == ["u1", "u2"]
    assert "shorter than 0.0590625 s" in task.skipped.reasons["u0"]
    batch = task.make_batch(task.training[:1], 10_000, (1, 0))
    assert batch is not None and float(task.count([batch])[0]) == 1


def test_distractors_of_the_batch(corpus: Path) -> None:
    task = wav2vec_task(corpus, {"model": {"contrast": {"distractors": 0, "batch_distractors": 4}}})
    batches, _ = next(iter(task.loader.updates(0, Position(), 1)))
    loss, sums = task.loss(task.model, batches[0], 0, task.count(batches), None)
    loss.backward()
    assert torch.isfinite(loss.detach())
    figures = task.describe({name: value.detach() for name, value in sums.items()})
    assert figures["chance_accuracy"] == pytest.approx(1 / 5)


class TestRuns:
    def test_figures_and_curves(self, corpus: Path, tmp_path: Path) -> None:
        """A log with the loss beside chance level, the accuracy of every step, a picture, an encoder."""
        changes = {"data": {"held_out": 0.3}}
        assert wav2vec(corpus, tmp_path / "run", changes=changes) == 0
        log = read_log(tmp_path / "run")
        train, valid = ([line for line in log if key in line] for key in ("bits", "valid_bits"))
        for line, start_of in ((train[-1], ""), (valid[-1], "valid_")):
            assert line[f"{start_of}chance_bits"] == pytest.approx(6 * math.log2(6) - 5 * math.log2(5), rel=1e-4)
            steps = [line[f"{start_of}accuracy_step_{step}"] for step in range(1, 5)]
            assert all(0 <= value <= 1 for value in steps)
            assert min(steps) <= line[f"{start_of}accuracy"] <= max(steps)
        assert train[-1]["bits"] < train[0]["bits"]
        assert (tmp_path / "run" / CURVES).stat().st_size > 10_000
        assert load_encoder(tmp_path / "run", "cpu").stride == 160

    def test_killed_and_gone_on(self, corpus: Path, tmp_path: Path) -> None:
        changes = {"steps": 40, "model": {"encoder": {"latent_dropout": 0.1, "context_dropout": 0.1}}}
        assert wav2vec(corpus, tmp_path / "unbroken", changes=changes) == 0
        process = start(wav2vec_arguments(corpus, tmp_path / "killed", changes=changes))
        for _ in range(600):
            if (tmp_path / "killed" / "last.safetensors").exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        finish(process)
        assert wav2vec(corpus, tmp_path / "killed", changes=changes) == 0
        assert_bitwise_equal(tmp_path / "unbroken", tmp_path / "killed")

    def test_two_processes(self, corpus: Path, tmp_path: Path) -> None:
        """The weights of one process, but for rounding."""
        changes = {
            "steps": 4,
            "training": {"batch_seconds": 8.0, "schedule": {"peak": 0.05}, "optimizer": {"epsilon": 1.0}},
        }
        two = start(wav2vec_arguments(corpus, tmp_path / "two", changes=changes), processes=2)
        assert wav2vec(corpus, tmp_path / "one", changes=changes) == 0
        code, said = finish(two)
        assert code == 0, said
        one, other = (tensors(tmp_path / name / "last.safetensors") for name in ("one", "two"))
        for name, value in one.items():
            assert float((value - other[name]).abs().max()) <= 1e-4 * max(1.0, float(value.abs().max())), name

    def test_going_on_from_a_model(self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Its networks replace the recipe's; other numbers of steps get new maps; other methods are refused."""
        assert wav2vec(corpus, tmp_path / "first", changes={"steps": 2}) == 0
        changes = {"steps": 1, "model": {"steps": 3, "encoder": {"latent_encoder": {"channels": [4] * 5}}}}
        assert wav2vec(corpus, tmp_path / "more", "--from", tmp_path / "first", changes=changes) == 0
        assert "predicts 4 steps, the recipe 3" in capsys.readouterr().out
        assert tensors(tmp_path / "more" / "last.safetensors")["weights/predictions.weight"].shape == (3, 8, 8)
        assert pretrain(corpus, tmp_path / "other", "--from", tmp_path / "first") == 2
        assert "no wav2vec 2.0 encoder" in capsys.readouterr().err

    def test_nothing_is_learnt_at_a_rate_of_nothing(self, corpus: Path, tmp_path: Path) -> None:
        changes = {
            "steps": 60, "chance_patience": 50, "training": {"log_every": 10, "schedule": {"peak": 1e-12}},
        }  # fmt: skip
        assert wav2vec(corpus, tmp_path / "run", changes=changes) == 0
        assert status(tmp_path / "run")["health"] == "stuck"

    def test_another_run_is_not_gone_on_with(
        self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The objective is part of what a run is; its own config.yaml is a recipe."""
        assert wav2vec(corpus, tmp_path / "run", changes={"steps": 1}) == 0
        assert pretrain(corpus, tmp_path / "run") == 2
        assert "holds another run" in capsys.readouterr().err
        again = ["--recipe", str(tmp_path / "run" / "config.yaml")]
        assert main(["pretrain", str(corpus), *again, "--out", str(tmp_path / "again")]) == 0
        assert_bitwise_equal(tmp_path / "run", tmp_path / "again")
