"""Whatever a user can get wrong ends with exit code 2 and one line that says what, where, and the mend."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import tone
from safetensors.torch import save_file
from tiny import (
    add_lines,
    assert_bitwise_equal,
    finetune,
    finetune_arguments,
    pretrain,
    pretrain_arguments,
    status,
    tensors,
    write_corpus,
    write_manifest,
)

import firstwords.checkpoints.own as own
from firstwords.audio import AudioError
from firstwords.cli import main
from firstwords.corpus.utterance import Utterance

FEW: dict[str, Any] = {"steps": 4}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], split="train")


@pytest.fixture(scope="module")
def listened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listened")
    assert pretrain(write_corpus(folder / "corpus", [0.5, 0.6, 0.7]), folder / "run", changes={"steps": 1}) == 0
    return folder / "run"


class Refused:
    """Runs a command that must fail with 2; checks that it says one line on stderr with all the given words."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, arguments: list[str], *words: str, lines: int = 1) -> None:
        self.capsys.readouterr()
        assert main(arguments) == 2
        said = self.capsys.readouterr().err
        assert all(word in said for word in words), said
        assert "Traceback" not in said and len(said.strip().splitlines()) <= lines, said


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(capsys)


class TestCorpus:
    def test_no_such_corpus(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        arguments = pretrain_arguments(corpus, tmp_path / "run")
        arguments[1] = str(tmp_path / "nowhere")
        refused(arguments, "nowhere: no such corpus")
        (tmp_path / "nowhere").mkdir()
        refused(arguments, "no manifest.jsonl in this folder", "firstwords prepare")
        (tmp_path / "nowhere" / "manifest.jsonl").touch()
        refused(arguments, "no utterances")
        assert not (tmp_path / "run").exists()

    def test_broken_line(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        with open(corpus / "manifest.jsonl", "a") as lines:
            lines.write('{"id": "cut", "audio": \n')
        refused(pretrain_arguments(corpus, tmp_path / "run"), "manifest.jsonl, line 7", "not JSON")

    @pytest.mark.parametrize("known", [True, False], ids=["durations known", "durations unknown"])
    @pytest.mark.parametrize("kind", ["pretrain", "finetune"])
    def test_bad_files_among_good(
        self,
        kind: str,
        known: bool,
        tmp_path: Path,
        corpus: Path,
        listened: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Left out, counted and named; the run ends well."""
        (corpus / "garbage.wav").write_bytes(b"no sound at all" * 100)
        (corpus / "nothing.wav").touch()
        soundfile.write(corpus / "empty.wav", np.zeros(0), 16_000)
        soundfile.write(corpus / "one.wav", np.zeros(1), 16_000)
        soundfile.write(corpus / "nan.wav", np.full(9000, np.nan), 16_000, subtype="FLOAT")
        whole = corpus / "0.wav"
        (corpus / "cut.wav").write_bytes(whole.read_bytes()[:9000])
        bad = ["garbage", "nothing", "empty", "one", "nan", "cut", "missing"]
        for name in bad:
            line = {"id": name, "audio": f"{name}.wav", "text": "ba", "split": "train"}
            add_lines(corpus, line | ({"duration": 0.5} if known else {}))
        out = tmp_path / "run"
        run = pretrain if kind == "pretrain" else lambda *a, **k: finetune(a[0], listened, *a[1:], **k)
        assert run(corpus, out, changes={"steps": 12}) == 0
        said = capsys.readouterr().out
        noted = dict(line.split("\t", 1) for line in (out / "skipped.tsv").read_text().splitlines())
        assert sorted(noted) == sorted(bad)
        assert f"{len(bad)} utterances left out, all named in {out / 'skipped.tsv'}" in said
        assert "no such file" in noted["missing"] and "NaN" in noted["nan"]
        assert status(out)["state"] == "finished"

    @pytest.mark.parametrize("known", [True, False], ids=["durations known", "durations unknown"])
    @pytest.mark.parametrize("kind", ["pretrain", "finetune"])
    def test_all_files_bad(
        self, kind: str, known: bool, tmp_path: Path, corpus: Path, listened: Path, refused: Refused
    ) -> None:
        for path in corpus.glob("*.wav"):
            path.write_bytes(b"no sound at all" * 100)
        if not known:
            lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
            write_manifest(corpus, [{k: v for k, v in line.items() if k != "duration"} for line in lines])
        out = tmp_path / "run"
        arguments = pretrain_arguments(corpus, out) if kind == "pretrain" else finetune_arguments(corpus, listened, out)
        if known:
            refused(arguments, "no recording of", "could be used", "skipped.tsv")
            assert status(out)["state"] == "failed"
            assert len((out / "skipped.tsv").read_text().splitlines()) == 6
        else:
            refused(arguments, "no recording can be read", "not a readable recording", lines=8)

    def test_recordings_that_vanish(
        self, tmp_path: Path, corpus: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that goes away in the middle stops the run; once it is back the same command ends as if unbroken."""
        assert pretrain(corpus, tmp_path / "unbroken", changes={"steps": 16}) == 0
        read, calls = Utterance.read, []

        def vanishing(self: Utterance) -> np.ndarray:
            calls.append(self.id)
            if len(calls) > 30:
                raise AudioError(f"utterance {self.id}: no such file")
            return read(self)

        monkeypatch.setattr(Utterance, "read", vanishing)
        arguments = pretrain_arguments(corpus, tmp_path / "run", changes={"steps": 16})
        refused(arguments, "no recording of", "are they still there?")
        monkeypatch.undo()
        assert 0 < status(tmp_path / "run")["update"] < 16
        assert main(arguments) == 0
        assert_bitwise_equal(tmp_path / "run", tmp_path / "unbroken")

    def test_all_too_short(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        refused(
            pretrain_arguments(corpus, tmp_path / "run", "--data.min-seconds", 5, "--data.crop-seconds", 9),
            "all 6 utterances are shorter than data.min_seconds = 5 s",
        )
        refused(
            pretrain_arguments(corpus, tmp_path / "run", "--data.min-seconds", 5), "min_seconds", "above crop_seconds"
        )

    def test_no_such_split(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        refused(pretrain_arguments(corpus, tmp_path / "run", "--data.train", "learn"), "split learn", "has: train")

    def test_names_that_are_not_unicode(self, tmp_path: Path, corpus: Path, listened: Path) -> None:
        """Nor what a terminal takes for markup."""
        for number, name in enumerate(["\udcff\udcfe", "[/bold]", "[red]x"]):
            soundfile.write(corpus / f"odd{number}.wav", tone(0.5, number), 16_000)
            add_lines(
                corpus, {"id": name, "audio": f"odd{number}.wav", "duration": 0.5, "text": "ba", "split": "train"}
            )
            add_lines(
                corpus, {"id": name + "bad", "audio": "gone.wav", "duration": 0.5, "text": "ba", "split": "train"}
            )
        assert pretrain(corpus, tmp_path / "[/run]", changes=FEW) == 0
        assert finetune(corpus, listened, tmp_path / "[bold]", changes=FEW) == 0
        assert len((tmp_path / "[/run]" / "skipped.tsv").read_text().splitlines()) == 3


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"trainin": {}}, "unknown key 'trainin'; did you mean 'training'?"),
            ({"model": {"quantizer": {"entrys": 3}}}, "unknown key 'entrys'; did you mean 'entries'?"),
            ({"steps": "many"}, "steps: expected int, found 'many'"),
            ({"training": {"schedule": {"kind": "lineal"}}}, "'lineal' is none of: linear, tri-stage"),
            ({"steps": 0}, "steps must be at least 1"),
            ({"seed": -1}, "seed"),
            ({"training": {"batch_seconds": -5}}, "batch_seconds must be above 0"),
            ({"model": {"encoder": {"transformer": {"heads": 3}}}}, "must be a multiple of heads"),
            ({"model": {"mask": {"length": 0}}}, "length"),
        ],
        ids=str,
    )
    def test_recipe(self, changes: dict[str, Any], words: str, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        refused(pretrain_arguments(corpus, tmp_path / "run", changes=changes), words)
        assert not (tmp_path / "run").exists()

    def test_unknown_recipe(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        start = ["pretrain", str(corpus), "--out", str(tmp_path / "run"), "--recipe"]
        refused([*start, "wav2vec2-tinny"], "no recipe 'wav2vec2-tinny'; did you mean 'wav2vec2-tiny'?")
        refused([*start, "ctc-small"], "made for finetune, not for pretrain")
        refused([*start, str(tmp_path / "none.yaml")], "no recipe")

    def test_misspelt_option(self, tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            pretrain(corpus, tmp_path / "run", "--training.sheduler.peak", "1e-3")
        assert stopped.value.code == 2
        said = capsys.readouterr()
        assert "--training.schedule.peak" in said.err + said.out


class TestText:
    def test_no_transcripts(self, tmp_path: Path, listened: Path, refused: Refused) -> None:
        silent = write_corpus(tmp_path / "silent", [0.5, 0.6], text=None)
        refused(
            finetune_arguments(silent, listened, tmp_path / "run"), "none of 2 training utterances has a transcript"
        )
        assert not (tmp_path / "run").exists()

    def test_validation_with_foreign_characters(
        self, tmp_path: Path, corpus: Path, listened: Path, refused: Refused
    ) -> None:
        add_lines(corpus, {"id": "dev", "audio": "5.wav", "duration": 1.0, "text": "baß", "split": "dev"})
        arguments = finetune_arguments(corpus, listened, tmp_path / "run", changes=FEW)
        refused(arguments, "1 validation transcripts have characters", "'ß' (1)", "--text.unknown drop")
        assert main([*arguments, "--text.unknown", "drop"]) == 0
        assert "dev\t" in (tmp_path / "run" / "skipped.tsv").read_text()

    def test_more_labels_than_frames(
        self, tmp_path: Path, corpus: Path, listened: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add_lines(
            corpus,
            {"id": "rushed", "audio": "0.wav", "duration": 0.5, "text": "ba " * 30, "split": "train"},
            {"id": "double", "audio": "0.wav", "duration": 0.5, "text": "o" * 13, "split": "train"},
        )
        assert finetune(corpus, listened, tmp_path / "run", changes=FEW) == 0
        said = capsys.readouterr().out
        assert "2 utterances left out" in said
        assert "utterance rushed: 24 frames, its labels need" in said
        assert "utterance double: 24 frames, its labels need" in said

    def test_all_labels_too_many(self, tmp_path: Path, listened: Path, refused: Refused) -> None:
        rushed = write_corpus(tmp_path / "rushed", [0.3, 0.3], text="ba do gi " * 9)
        refused(finetune_arguments(rushed, listened, tmp_path / "run"), "none of 2 training utterances", lines=5)


class TestCheckpoint:
    def test_truncated(self, tmp_path: Path, corpus: Path, listened: Path, refused: Refused) -> None:
        for size in (0, 5, 900, 10_000):
            cut = tmp_path / f"cut{size}.safetensors"
            cut.write_bytes((listened / "last.safetensors").read_bytes()[:size])
            refused(finetune_arguments(corpus, cut, tmp_path / "run"), cut.name, "cannot be read as a checkpoint")

    def test_truncated_run(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        out = tmp_path / "run"
        assert pretrain(corpus, out, changes=FEW) == 0
        (out / "status.json").unlink()
        content = (out / "last.safetensors").read_bytes()[:-100]
        (out / "last.safetensors").write_bytes(content)
        refused(pretrain_arguments(corpus, out, changes=FEW), "last.safetensors", "cut short")
        assert (out / "last.safetensors").read_bytes() == content

    def test_of_another_shape(self, tmp_path: Path, corpus: Path, listened: Path, refused: Refused) -> None:
        values = tensors(listened / "last.safetensors")
        checkpoint = own.read_checkpoint(listened / "last.safetensors")
        name = "encoder.transformer.blocks.0.feed_forward_in.weight"
        checkpoint.weights[name] = checkpoint.weights[name][:5]
        own.write_checkpoint(tmp_path / "other.safetensors", checkpoint)
        refused(
            finetune_arguments(corpus, tmp_path / "other.safetensors", tmp_path / "run"),
            "other.safetensors: weights of another shape of model",
            "feed_forward_in.weight is (5, 16), the model has (32, 16)",
        )
        save_file({"x": next(iter(values.values()))}, tmp_path / "foreign.safetensors")
        refused(
            finetune_arguments(corpus, tmp_path / "foreign.safetensors", tmp_path / "run"),
            "not a Firstwords checkpoint",
        )

    def test_none_there(self, tmp_path: Path, corpus: Path, refused: Refused) -> None:
        refused(finetune_arguments(corpus, tmp_path / "nowhere", tmp_path / "run"), "nowhere", "no run here")

    def test_out_holds_something_else(self, tmp_path: Path, corpus: Path, listened: Path, refused: Refused) -> None:
        out = tmp_path / "run"
        shutil.copytree(listened, out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        refused(pretrain_arguments(corpus, out, changes={"steps": 9}), "holds another run", "steps: 1 there, 9 asked")
        refused(finetune_arguments(corpus, listened, out), "holds another run", "kind: 'pretrain' there")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters" / "dear.txt").write_text("dear")
        refused(pretrain_arguments(corpus, tmp_path / "letters"), "not empty and no run of Firstwords")
        assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]
        refused(pretrain_arguments(corpus, tmp_path / "letters" / "dear.txt"), "dear.txt")


class TestFullDisk:
    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            ("pretrain", "last.safetensors"),
            ("pretrain", "log.jsonl"),
            ("pretrain", "config.yaml"),
            ("finetune", "last.safetensors"),
            ("finetune", "best.safetensors"),
            ("finetune", "status.json"),
        ],
    )
    def test_while_saving(
        self,
        kind: str,
        what: str,
        tmp_path: Path,
        corpus: Path,
        listened: Path,
        refused: Refused,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Said in a line; the last checkpoint stays whole, and with space the same command ends as if unbroken."""

        def arguments(out: Path) -> list[str]:
            changes = {"steps": 8, "training": {"save_every": 3, "validate_every": 4, "log_every": 2}}
            if kind == "pretrain":
                return pretrain_arguments(corpus, out, changes=changes)
            return finetune_arguments(corpus, listened, out, changes=changes)

        assert main(arguments(tmp_path / "unbroken")) == 0
        replace, save, opened, writes = os.replace, own.save_file, open, 0

        def full(path: object) -> None:
            nonlocal writes
            if Path(str(path)).name.removesuffix(".part") == what:
                writes += 1
                if writes >= 2:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        def full_save(values: Any, path: Any, **rest: Any) -> None:
            Path(path).write_bytes(b"half")
            full(path)
            save(values, path, **rest)

        def full_open(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if "a" in mode:
                full(path)
            return opened(path, mode, *rest, **named)

        def full_text(self: Path, text: str, *rest: Any, **named: Any) -> int:
            with opened(self, "w", encoding="utf-8") as file:
                file.write(text[: len(text) // 2])
            full(self)
            with opened(self, "w", encoding="utf-8") as file:
                return file.write(text)

        monkeypatch.setattr(own, "save_file", full_save)
        monkeypatch.setattr("builtins.open", full_open)
        monkeypatch.setattr(Path, "write_text", full_text)
        out = tmp_path / "run"
        if what == "config.yaml":  # written once a start
            writes = -1
            monkeypatch.setattr(
                "firstwords.training.loop.learning_rate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            assert main(arguments(out)) == 130
            writes = 1
        refused(arguments(out), what, "No space left", "pace")
        monkeypatch.undo()
        assert replace is os.replace
        if (out / "last.safetensors").exists():
            own.read_checkpoint(out / "last.safetensors", optimizer=True)
        assert main(arguments(out)) == 0
        assert_bitwise_equal(out, tmp_path / "unbroken")
