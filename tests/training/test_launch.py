"""Processes that `training.processes` starts: how they end, and what their parent says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tiny import finish, pretrain_arguments, start, status, write_corpus

from firstwords.errors import MissingExtraError
from firstwords.training.launch import in_processes
from firstwords.training.run import read_log

TWO = ("--training.processes", 2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def rank_and_count(base: int) -> int:
    return base + 10 * int(os.environ["RANK"]) + int(os.environ["WORLD_SIZE"])


def missing_in_the_second() -> int:
    if os.environ["RANK"] == "1":
        raise MissingExtraError("this test", "nothing", "test")
    return 0


def dying_second() -> int:
    if os.environ["RANK"] == "1":
        os._exit(7)
    return 0


def test_the_first_answers() -> None:
    assert in_processes(2, rank_and_count, 100) == 102


def test_one_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_processes(1, lambda: os.getpid()) == os.getpid()
    monkeypatch.setenv("WORLD_SIZE", "4")  # torchrun has started them
    assert in_processes(4, lambda: os.getpid()) == os.getpid()


def test_an_error_keeps_its_kind_and_words() -> None:
    with pytest.raises(MissingExtraError, match=r"this test needs the package nothing.*firstwords\[test\]"):
        in_processes(2, missing_in_the_second)


def test_a_dead_process_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="process 1 of 2: it died without a word"):
        in_processes(2, dying_second)


def failing_second() -> int:
    return 1 // (1 - int(os.environ["RANK"]))


def test_any_other_error_is_shown() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)process 1 of 2: Traceback.*ZeroDivisionError"):
        in_processes(2, failing_second)


def test_a_users_error_is_told_once(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "holiday.txt").write_text("not a run")
    code, said = finish(start(pretrain_arguments(corpus, out, *TWO)))
    assert code == 2
    assert said.count(str(out)) == 1 and "Traceback" not in said, said


def test_stopped_and_gone_on(corpus: Path, tmp_path: Path) -> None:
    """SIGTERM to the parent reaches all; the run is saved and the same command goes on."""
    arguments = pretrain_arguments(corpus, tmp_path / "run", *TWO, changes={"steps": 10_000})
    process = start(arguments)
    wait_for_log(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == 128 + signal.SIGTERM, said
    reached = status(tmp_path / "run")["update"]
    assert 0 < reached < 10_000
    again = start(arguments)
    wait_for_log(tmp_path / "run", reached)
    again.send_signal(signal.SIGINT)
    assert finish(again)[0] == 128 + signal.SIGINT
    assert status(tmp_path / "run")["update"] > reached


def test_none_outlives_its_parent(corpus: Path, tmp_path: Path) -> None:
    """A killed parent leaves no process that would write beside the next run."""
    process = start(pretrain_arguments(corpus, tmp_path / "run", *TWO, changes={"steps": 10_000}))
    wait_for_log(tmp_path / "run")
    process.kill()
    process.wait()
    time.sleep(2)
    log = tmp_path / "run" / "log.jsonl"
    before = log.stat().st_size
    time.sleep(1)
    assert log.stat().st_size == before


def wait_for_log(run: Path, after: int = 0) -> None:
    """Until the log tells of an update beyond `after`."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (run / "log.jsonl").exists() and any(record.get("update", 0) > after for record in read_log(run)):
            return
        time.sleep(0.1)
    raise AssertionError(f"no update after {after} within a minute")
