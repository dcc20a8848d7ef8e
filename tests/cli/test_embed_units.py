"""`firstwords embed` and `firstwords units` from the outside."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints.small import encoder_config, pretrained, recogniser, saved
from conftest import write_tone

from firstwords.cli import main
from firstwords.feature_files import Embeddings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a corpus with a manifest and alignments, and a broken recording in it."""
    folder = tmp_path_factory.mktemp("place")
    saved(pretrained(encoder_config(vox=True)), folder / "listen")
    lines = []
    for number, seconds in enumerate([0.7, 0.4, 1.1]):
        write_tone(folder / "corpus" / "wav" / f"{number}.wav", seconds, number)
        times = [["AH0", 0.0, seconds / 2], ["sil", seconds / 2, seconds]]
        split = "test" if number == 2 else "train"
        lines.append({"id": f"talk {number}", "audio": f"wav/{number}.wav", "split": split, "segments": times})
    (folder / "corpus" / "wav" / "broken.wav").write_bytes(b"RIFF")
    lines.append({"id": "broken", "audio": "wav/broken.wav", "split": "train"})
    (folder / "corpus" / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: exit code, standard output, errors."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_embed_writes_features_and_names_what_is_broken(place: Path, tmp_path: Path, told: Any) -> None:
    code, out, errors = told("embed", place / "listen", place / "corpus", "--layer", 1, "--out", tmp_path / "f")
    assert code == 0 and "3 recordings" in out and "1 left out" in out and "broken.wav" in errors
    assert set(Embeddings(tmp_path / "f")) == {"talk 0", "talk 1", "talk 2"}
    code, _, errors = told("embed", place / "listen", place / "corpus", "--layer", 1, "--out", tmp_path / "f")
    assert code == 0 and "complete already" in errors
    alone = ("embed", place / "listen", place / "corpus" / "wav" / "2.wav", "--layer", 1, "--out", tmp_path / "one")
    assert told(*alone)[0] == 0
    np.testing.assert_allclose(
        Embeddings(tmp_path / "one")["2"], Embeddings(tmp_path / "f")["talk 2"], atol=2e-5, rtol=1e-4
    )


def test_embed_by_window_with_weights_of_one_split(place: Path, tmp_path: Path, told: Any) -> None:
    how = ("--level", "window", "--window", 0.5, "--hop", 0.25, "--pool", "statistics", "--format", "safetensors")
    what = ("--weights", 0.5, 0, 0.5, "--split", "test", "--dtype", "float16")
    code, out, _ = told("embed", place / "listen", place / "corpus", *how, *what, "--out", tmp_path / "f")
    assert code == 0 and "windows of 32 float16" in out
    found = Embeddings(tmp_path / "f")["talk 2"]
    assert found.shape == (4, 32) and found.dtype == np.float16


def test_units_and_how_they_agree_with_the_manifests_phones(place: Path, tmp_path: Path, told: Any) -> None:
    ask = ("units", place / "listen", place / "corpus", "--clusters", 4, "--layer", 1)
    code, out, errors = told(*ask, "--out", tmp_path / "u", "--durations")
    assert code == 0 and "phone purity" in out and "broken.wav" in errors
    (quality,) = json.loads((tmp_path / "u" / "quality.json").read_text())
    assert quality["phones"] == 2 and quality["phone_purity"] >= 0.5
    lines = [json.loads(line) for line in (tmp_path / "u" / "units.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["talk 0", "talk 1", "talk 2"]
    book = tmp_path / "u" / "codebook.safetensors"
    used = ("units", place / "listen", place / "corpus", "--codebook", book, "--out", tmp_path / "v", "--durations")
    assert told(*used)[0] == 0  # the file says which layer
    assert (tmp_path / "v" / "units.jsonl").read_bytes() == (tmp_path / "u" / "units.jsonl").read_bytes()


def test_units_by_alignment_files_and_of_a_models_own_codes(place: Path, tmp_path: Path, told: Any) -> None:
    (tmp_path / "a.ctm").write_text("talk_0 1 0.0 0.3 W\ntalk_0 1 0.3 0.4 IY\ntalk_2 1 0.0 1.1 W\n")
    ask = ("units", place / "listen", place / "corpus", "--codes", "--format", "text", "--out", tmp_path / "u")
    code, out, _ = told(*ask, "--alignments", tmp_path / "a.ctm")
    assert code == 0 and "book 1" in out and "without phone times: 1 of 3" in out
    name, codes = (tmp_path / "u" / "units.txt").read_text().splitlines()[0].split("\t")
    assert name == "talk 0" and all(len(code.split("-")) == 2 for code in codes.split())


def test_wrong_input_is_told(place: Path, tmp_path: Path, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, corpus, out = place / "listen", place / "corpus", tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.jsonl").write_text("")
    words = saved(recogniser(encoder_config()), tmp_path / "words")
    for arguments, message in (
        (("embed", model, corpus, "--layer", 3), "layer 3: this encoder has 0"),
        (("embed", model, corpus, "--weights", 1), "1 weights of layers"),
        (("embed", model, corpus, "--layer", 1, "--probe", model), "no weights of layers"),
        (("embed", model, tmp_path / "empty"), "no recordings in it"),
        (("embed", model, corpus, "--split", "dev"), "no utterance in split 'dev'"),
        (("embed", model, tmp_path / "none.wav"), "no such recording"),
        (("embed", tmp_path / "nowhere", corpus), "no run here"),
        (("embed", model, corpus, "--level", "window", "--hop", 0), "at least a frame"),
        (("units", model, corpus, "--layer", 9), "layer 9: this encoder has 0"),
        (("units", model, tmp_path / "empty"), "no recordings in it"),
        (("units", model, corpus, "--clusters", 0), "must be at least 1"),
        (("units", model, corpus, "--codes", "--layer", 1), "--layer does not go with them"),
        (("units", words, corpus, "--codes"), "no quantiser"),
        (("units", model, corpus, "--codebook", tmp_path / "no.safetensors"), "no such file of a k-means"),
        (("units", model, corpus, "--codebook", words / "best.safetensors"), "not a k-means"),
        (("units", model, corpus, "--alignments", tmp_path / "none"), "no such file or folder of alignments"),
    ):
        code, _, errors = told(*arguments, "--out", out)
        assert code == 2 and message in errors, errors
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("pyarrow", "faiss"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, errors = told("embed", model, corpus, "--format", "parquet", "--out", tmp_path / "p")
    assert code == 2 and "pip install 'firstwords[parquet]'" in errors
    code, _, errors = told("units", model, corpus, "--backend", "faiss", "--clusters", 3, "--out", tmp_path / "q")
    assert code == 2 and "pip install 'firstwords[faiss]'" in errors
