"""`firstwords transcribe` and `firstwords align` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_tone
from training.tiny import finetune, pretrain, write_corpus

from firstwords.cli import main
from firstwords.corpus.manifest import read_manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser of a second's training."""
    folder = tmp_path_factory.mktemp("run")
    corpus = write_corpus(folder / "corpus")
    assert pretrain(corpus, folder / "listen", "--steps", 2) == 0
    assert finetune(corpus, folder / "listen", folder / "words", "--steps", 30) == 0
    return folder / "words"


def test_every_format(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sounds = [write_tone(tmp_path / "in" / f"{name}.wav", seconds) for name, seconds in (("a", 1.0), ("b", 45.0))]
    for name, ending in (("srt", "srt"), ("textgrid", "TextGrid"), ("json", "json"), ("text", "txt")):
        assert (
            main(["transcribe", str(run), str(tmp_path / "in"), "--format", name, "--out", str(tmp_path / name)]) == 0
        )
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [f"a.{ending}", f"b.{ending}"]
    assert json.loads((tmp_path / "json" / "b.json").read_text())["duration"] == 45.0
    capsys.readouterr()
    assert main(["transcribe", str(run), *map(str, sounds), "--format", "jsonl", "--window-seconds", "10"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == list(map(str, sounds))
    assert main(["transcribe", str(run), *map(str, sounds), "--format", "srt"]) == 2
    assert "name a folder with --out" in capsys.readouterr().err
    assert main(["transcribe", str(run)]) == 2 and "--microphone" in capsys.readouterr().err


def test_align(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, text = write_tone(tmp_path / "talk.wav", 12.0), tmp_path / "talk.txt"
    text.write_text("Ba do gi. Ku la 12 me!\nNo pi.")
    picture, grid = tmp_path / "talk.png", tmp_path / "talk.TextGrid"
    corpus = tmp_path / "segments"
    words = ["align", str(run), str(sound), str(text)]
    assert main([*words, "--plot", str(picture), "--out", str(grid), "--segment", str(corpus)]) == 0
    assert picture.stat().st_size > 10_000 and '"Ba"' in grid.read_text() and '"12"' in grid.read_text()
    assert "'12'" in capsys.readouterr().err
    assert " ".join(utterance.text or "" for utterance in read_manifest(corpus)).split() == text.read_text().split()
    assert main([*words, "--format", "ctm", "--units", "characters"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(map(len, "badogikula*menopi"))
    text.write_text(" \n")
    assert main(words) == 2 and "the text is empty" in capsys.readouterr().err
    text.write_text("ba do " * 500)
    assert main(words) == 2 and "does not fit the recording" in capsys.readouterr().err
    assert main(["align", str(run), str(sound), str(tmp_path / "none.txt")]) == 2
