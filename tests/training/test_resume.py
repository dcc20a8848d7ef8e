"""A run that was killed, stopped or could not save goes on as if nothing had happened: bitwise the same weights."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import (
    assert_bitwise_equal,
    finetune,
    finetune_arguments,
    finish,
    merged,
    pretrain,
    pretrain_arguments,
    start,
    status,
    tensors,
    write_corpus,
)

import firstwords.training.loop as loop
from firstwords.checkpoints.own import Checkpoint
from firstwords.cli import main
from firstwords.corpus.batches import UpdatePlan
from firstwords.training.loader import Loader
from firstwords.training.progress import restore
from firstwords.training.run import read_log

DROPOUTS: dict[str, Any] = {
    "model": {
        "encoder": {"transformer": {"dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.2}, "input_dropout": 0.1},
        "feature_dropout": 0.1,
    },
    "data": {"held_out": 0.2},
}
ADAPT: dict[str, Any] = {
    "adapt": {"dropout": 0.1, "activation_dropout": 0.1, "layerdrop": 0.2},
    "data": {"held_out": 0.2},
    "text": {"unknown": "drop"},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def listened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training run to fine-tune."""
    out = tmp_path_factory.mktemp("listened") / "run"
    assert pretrain(corpus, out, changes={"steps": 2}) == 0
    return out


def kill_and_go_on(arguments: list[str], out: Path, kills: int) -> list[float]:
    """Starts the command anew after each SIGKILL, at random moments of training; returns the moments."""
    moments = []
    for _ in range(kills):
        process = start(arguments)
        appeared = time.monotonic() + 60
        before = (out / "status.json").stat().st_mtime_ns if (out / "status.json").exists() else 0
        while process.poll() is None and time.monotonic() < appeared:
            if (out / "status.json").exists() and (out / "status.json").stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        moments.append(random.uniform(0, 0.7))
        time.sleep(moments[-1])
        process.kill()
        finish(process)
    assert main(arguments) == 0
    return moments


class TestKilled:
    """SIGKILL in real processes: nothing can be saved or said. One thread here as there (conftest, `start`)."""

    def test_pretraining(self, corpus: Path, tmp_path: Path) -> None:
        changes = merged(DROPOUTS, {"steps": 80, "training": {"save_every": 3}})
        assert pretrain(corpus, tmp_path / "unbroken", changes=changes) == 0
        moments = kill_and_go_on(
            pretrain_arguments(corpus, tmp_path / "broken", changes=changes), tmp_path / "broken", kills=3
        )
        print("killed after", moments)
        assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
        updates = [record["update"] for record in read_log(tmp_path / "broken") if "bits" in record]
        assert updates == sorted(set(updates)) and updates[-1] == 80

    def test_finetuning(self, corpus: Path, listened: Path, tmp_path: Path) -> None:
        changes = merged(ADAPT, {"steps": 80, "training": {"save_every": 3}})
        assert finetune(corpus, listened, tmp_path / "unbroken", changes=changes) == 0
        arguments = finetune_arguments(corpus, listened, tmp_path / "broken", changes=changes)
        moments = kill_and_go_on(arguments, tmp_path / "broken", kills=1)
        print("killed after", moments)
        assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")


class _Dead(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_killed_at_every_write(
    kind: str, corpus: Path, listened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Death before or after each renaming of a file, in one process: 20 updates, killed again and again."""

    def go(out: Path) -> int:
        if kind == "pretrain":
            return pretrain(corpus, out, changes=DROPOUTS)
        return finetune(corpus, listened, out, changes=ADAPT)

    assert go(tmp_path / "unbroken") == 0
    import os

    replace, deaths, calls = os.replace, 0, 0

    def deadly(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            if before:
                raise _Dead
            replace(source, target)
            raise _Dead
        replace(source, target)

    monkeypatch.setattr(os, "replace", deadly)
    for fatal, before in [(1, True), (1, False), (3, True), (5, False), (6, True), (8, False)]:  # noqa: B007
        calls = 0
        try:
            go(tmp_path / "broken")
        except _Dead:
            deaths += 1
    monkeypatch.undo()
    assert deaths >= 5
    assert go(tmp_path / "broken") == 0
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
    assert status(tmp_path / "broken")["state"] == "finished"


@pytest.mark.parametrize(("kind", "number"), [("pretrain", signal.SIGTERM), ("finetune", signal.SIGINT)])
def test_stopped(
    kind: str,
    number: signal.Signals,
    corpus: Path,
    listened: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A signal lets the update end, saves, says how to go on, and ends with 128 + n; going on equals unbroken."""

    def go(out: Path) -> int:
        if kind == "pretrain":
            return pretrain(corpus, out, changes=DROPOUTS)
        return finetune(corpus, listened, out, changes=ADAPT)

    assert go(tmp_path / "unbroken") == 0
    mix, updates = loop._mix, []

    def signalling(*numbers: int) -> int:
        updates.append(numbers[1])
        if numbers[1] == 9 and len(updates) == 10:
            signal.raise_signal(number)
        return mix(*numbers)

    monkeypatch.setattr(loop, "_mix", signalling)
    capsys.readouterr()
    assert go(tmp_path / "broken") == 128 + number
    assert "stopped after update 10 of 20; the same command goes on from there" in capsys.readouterr().out
    assert status(tmp_path / "broken")["state"] == "stopped"
    assert go(tmp_path / "broken") == 0
    said = capsys.readouterr().out
    assert "going on in" in said and "after update 10" in said
    assert updates == list(range(20))
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
    assert go(tmp_path / "broken") == 0
    assert "finished already after 20 updates" in capsys.readouterr().out


def test_stopped_process(corpus: Path, tmp_path: Path) -> None:
    """The same with a real SIGTERM to a real process."""
    process = start(pretrain_arguments(corpus, tmp_path / "run", changes={"steps": 100_000}))
    waited = time.monotonic() + 60
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < waited:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 128 + signal.SIGTERM
    assert "the same command goes on from there" in said and "Traceback" not in said
    update = status(tmp_path / "run")["update"]
    assert f"stopped after update {update} of 100000" in said
    assert "going on" not in said and (tmp_path / "run" / "last.safetensors").is_file()


def test_goes_on_without_rereading(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To go on late in a run costs one planned epoch and reads only what is still to come."""
    changes = {"steps": 60, "training": {"save_every": 50}}
    mark = loop._mix

    def stop(*numbers: int) -> int:
        if numbers[1] == 49:
            signal.raise_signal(signal.SIGTERM)
        return mark(*numbers)

    monkeypatch.setattr(loop, "_mix", stop)
    assert pretrain(corpus, tmp_path / "run", changes=changes) == 143
    monkeypatch.undo()
    planned, loaded = [], []
    epoch, init = UpdatePlan.epoch, Loader.__init__
    monkeypatch.setattr(UpdatePlan, "epoch", lambda self, number: planned.append(number) or epoch(self, number))

    def counting(self: Any, plan: Any, load: Any, *rest: Any, **named: Any) -> None:
        init(self, plan, lambda bucket, update: loaded.append(update) or load(bucket, update), *rest, **named)

    monkeypatch.setattr(Loader, "__init__", counting)
    assert pretrain(corpus, tmp_path / "run", changes=changes) == 0
    assert min(loaded) == 50 and max(loaded) == 59
    assert planned[0] > 10 and planned == list(range(planned[0], planned[0] + len(planned)))


def test_how_work_is_shared_may_change(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Going on with other micro-batches, workers and intervals is the same run; with another rate it is not."""
    out = tmp_path / "run"
    assert pretrain(corpus, out, changes={"steps": 4}) == 0
    assert (
        pretrain(corpus, out, "--training.workers", 1, "--training.micro-batch-seconds", 1, changes={"steps": 4}) == 0
    )
    weights = tensors(out / "last.safetensors")
    for words in (["--training.schedule.peak", "1e-2"], ["--seed", "4"], ["--steps", "5"], ["--model.final-dim", "4"]):
        capsys.readouterr()
        assert pretrain(corpus, out, *words, changes={"steps": 4}) == 2
        said = capsys.readouterr().err
        assert "holds another run" in said and "choose another --out" in said and len(said.splitlines()) == 1
    assert all(torch.equal(value, weights[name]) for name, value in tensors(out / "last.safetensors").items())


def test_a_run_of_an_older_version_goes_on(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that it lacked had their defaults; where another value is asked for now, it is another run."""
    out = tmp_path / "run"
    assert pretrain(corpus, out, changes={"steps": 4}) == 0

    def forget(*keys: str) -> None:
        values = yaml.safe_load((out / "config.yaml").read_text())
        place = values["config"]
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        (out / "config.yaml").write_text(yaml.safe_dump(values))

    forget("training", "optimizer", "weight_decay")
    forget("model", "encoder", "normalize_waveform")
    assert pretrain(corpus, out, changes={"steps": 4}) == 0
    assert "weight_decay" in yaml.safe_load((out / "config.yaml").read_text())["config"]["training"]["optimizer"]
    forget("model", "mask", "probability")
    assert pretrain(corpus, out, changes={"steps": 4}) == 2
    assert "mask.probability: 0.65 there, 0.5 asked" in capsys.readouterr().err


def test_a_perfect_score_is_remembered() -> None:
    """A best score of 0 is a score, not the absence of one."""

    class Folder:
        folder = Path("run")

        def last(self) -> Any:
            return Checkpoint(
                "ctc", {}, dict(model.state_dict()), {},
                {"progress": {"update": 3, "position": {"epoch": 0, "index": 3}, "audio_seconds": 1.0, "best": 0.0}},
            )  # fmt: skip

        def forget_after(self, update: int) -> None: ...

    model = torch.nn.Linear(2, 2)
    progress = restore(Folder(), model, torch.optim.AdamW(model.parameters()))  # type: ignore[arg-type]
    assert progress.best == 0.0 and progress.update == 3
