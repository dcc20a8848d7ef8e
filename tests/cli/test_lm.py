"""firstwords lm: from texts to an ARPA file and its perplexity, and every wrong use in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from firstwords.cli import main
from firstwords.decoding.ngram import NgramModel
from firstwords.text.alphabet import Alphabet
from firstwords.text.normalization import NormalizationConfig

SENTENCES = ["So it was.", "It was so!", "Was it so?", "So, so: it was.", "It was a bright cold day.", "A cold day."]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(SENTENCES))
    return path


def lm(*words: object) -> int:
    return main(["lm", *map(str, words)])


def test_from_text_to_perplexity(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lm(text, "--order", 3, "--out", tmp_path / "lm.arpa.gz", "--evaluate", text) == 0
    first = capsys.readouterr()
    assert "written:" in first.err and "0.00%" in first.out and "bits/char" in first.out
    assert "the text is too small" in first.out
    assert lm("--model", tmp_path / "lm.arpa.gz", "--evaluate", text) == 0
    table = first.out[first.out.index("perplexity") - 60 :]
    assert capsys.readouterr().out.split("─")[-1].split()[:6] == table.split("─")[-1].split()[:6]
    model = NgramModel.load(tmp_path / "lm.arpa.gz")
    assert model.order == 3 and "bright" in model.vocabulary and "So" not in model.vocabulary


def test_spelling_like_a_recogniser(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words with letters that its alphabet lacks are named: no search can find them."""
    Alphabet.build(["SO IT WAS A COLD"], normalization=NormalizationConfig(case="upper")).save(
        tmp_path / "alphabet.json"
    )
    assert lm(text, "--normalize-like", tmp_path, "--order", 2, "--out", tmp_path / "lm.arpa") == 0
    assert "2 words the alphabet cannot spell, such as BRIGHT, DAY" in capsys.readouterr().err
    assert {"SO", "COLD"} <= set(NgramModel.load(tmp_path / "lm.arpa").words)


def test_characters_and_texts_as_they_are(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lm(text, "--characters", "--order", 4, "--out", tmp_path / "c.arpa", "--evaluate", text) == 0
    assert "perplexity of characters" in capsys.readouterr().out
    assert set(NgramModel.load(tmp_path / "c.arpa").words) == {"<s>", "</s>", "<unk>", "|", *"soitwabrghcldy"}
    assert lm(text, "--as-is", "--order", 2, "--out", tmp_path / "w.arpa") == 0
    assert {"So,", "so:", "was."} <= set(NgramModel.load(tmp_path / "w.arpa").words)


def test_test_data_are_withheld(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [("train", "IT WAS SO"), ("test", "was it so"), ("dev", "a cold day")]
    with open(tmp_path / "manifest.jsonl", "w") as manifest:
        for number, (split, said) in enumerate(lines):
            manifest.write(json.dumps({"id": str(number), "audio": "x.wav", "text": said, "split": split}) + "\n")
    out = tmp_path / "lm.arpa"
    assert lm(text, tmp_path, "--without", tmp_path, "--order", 2, "--out", out, "--evaluate", tmp_path) == 0
    said = capsys.readouterr()
    assert "2 sentences left out that share text with the test data" in said.err
    assert "ngram 1=" in out.read_text()
    row = next(line for line in said.out.splitlines() if tmp_path.name in line or line.strip().startswith("test_"))
    assert row.split()[1:3] == ["1", "3"]  # one sentence of the dev split, three words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "x.arpa"], "name texts to learn from, or a --model"),
        (["text.txt"], "say where to write the model"),
        (["--model", "text.txt"], "--model is only read"),
        (["text.txt", "--model", "text.txt", "--evaluate", "text.txt"], "one of the two"),
        (["text.txt", "--order", "0", "--out", "x.arpa"], "at least 1, found 0"),
        (["text.txt", "--prune", "1", "--out", "x.arpa"], "the first threshold must be 0"),
        (["none.txt", "--out", "x.arpa"], "none.txt: text cannot be read"),
        (["empty.txt", "--out", "x.arpa"], "the text is empty"),
        (["latin.txt", "--out", "x.arpa"], "latin.txt, line 2: not UTF-8"),
        (["text.txt", "--out", "folder"], "folder: a folder; --out is a file"),
        (["text.txt", "--out", "text.txt/x.arpa"], "text.txt/x.arpa: cannot be written"),
        (["--model", "text.txt", "--evaluate", "text.txt"], "text.txt, line 1: not an ARPA file"),
        (["--model", "folder", "--evaluate", "text.txt"], "folder: no run here"),
        (["text.txt", "--normalize-like", "folder", "--out", "x.arpa"], "folder: no run here"),
        (["text.txt", "--without", "folder", "--out", "x.arpa"], "no manifest.jsonl in this folder"),
    ],
)
def test_wrong_uses_are_told_in_a_line(
    words: list[str], says: str, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(text.parent)
    Path("folder").mkdir()
    Path("empty.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"one\nGr\xfcn\n")
    before = sorted(os.listdir())
    assert lm(*words) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert sorted(os.listdir()) == before
