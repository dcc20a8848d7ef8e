"""The demo: goes the whole way, goes on where it was stopped, and takes only a folder that is its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords import demo
from firstwords.cli import main
from firstwords.corpus.manifest import read_manifest

SMALL = ["--sentences", "14", "--labelled", "6", "--voices", "2", "--dev-sentences", "2", "--test-sentences", "4"]
SMALL += ["--test-voices", "2", "--pretrain-steps", "2", "--finetune-steps", "2"]


def test_the_whole_way_stopped_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), *SMALL]
    real = demo.finetune
    with monkeypatch.context() as patch:
        patch.setattr(demo, "finetune", lambda *_: 130)
        assert main(arguments) == 130
    recordings = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    assert len(recordings) == 20
    starts = []
    monkeypatch.setattr(demo, "finetune", lambda *given: starts.append(given[3].weights) or real(*given))
    assert main(arguments) == 0
    assert starts == ["pretrained", "random"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")} == recordings  # made once

    utterances = read_manifest(out / "corpus")
    voices = {split: {u.speaker for u in utterances if u.split == split} for split in ("train", "dev", "test")}
    assert sum(map(len, voices.values())) == len(set.union(*voices.values())) == 6
    training = [u for u in utterances if u.split == "train"]
    assert sum(u.text is not None for u in training) == 6
    assert not any({"words", "phones"} & u.extras.keys() for u in training if u.text is None)

    results = json.loads((out / "results.json").read_text())
    assert [system["name"] for system in results["systems"]] == ["listened first", "did not listen"]
    assert results["systems"][0]["minutes_heard"] > results["systems"][1]["minutes_heard"] > 0
    assert (out / "demo.png").is_file() and (out / "listen" / "curves.png").is_file()
    assert "CER" in capsys.readouterr().out

    with monkeypatch.context() as patch:  # finished: the next one starts afresh
        patch.setattr(demo, "pretrain", lambda *_: 143)
        assert main(arguments) == 143
    assert not (out / "words").exists() and not (out / "results.json").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path), *SMALL]) == 2
    assert "no demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert main(["demo", "--out", str(tmp_path / "new"), "--labelled", "9", "--sentences", "8"]) == 2
    assert not (tmp_path / "new").exists()
