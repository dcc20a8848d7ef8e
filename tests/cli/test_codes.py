"""`firstwords codes` from the outside: tables, pictures and files; what is wrong is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from training.tiny import finetune, pretrain, write_corpus, write_manifest

from firstwords.cli import main
from firstwords.corpus.manifest import read_manifest
from firstwords.nn.fitted import write_fitted

Place = dict[str, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A corpus of two languages with alignments in its manifest, a listener and a recogniser of a second's training."""
    folder = tmp_path_factory.mktemp("made")
    corpus = write_corpus(folder / "corpus")
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line |= {"language": "en" if number % 3 else "de", "speaker": f"s{number % 4}"}
        line["segments"] = [["K", 0.0, 0.1], ["IY1", 0.1, 0.25]]
    write_manifest(corpus, lines)
    assert pretrain(corpus, folder / "listen", "--steps", 2) == 0
    assert finetune(corpus, folder / "listen", folder / "words", "--steps", 2) == 0
    write_fitted(folder / "units.safetensors", "k-means", {"centroids": torch.randn(5, 16)}, {"layer": 1})
    write_fitted(folder / "plain.safetensors", "k-means", {"centroids": torch.randn(5, 16)}, {})
    return {"folder": folder, "corpus": corpus, "listen": folder / "listen", "words": folder / "words"}


def codes(made: Place, out: Path, *more: object, model: str = "listen") -> int:
    return main(["codes", str(made[model]), str(made["corpus"]), "--out", str(out), *map(str, more)])


def test_from_the_manifest(made: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is written agrees."""
    assert codes(made, tmp_path, "--by", "language", "speaker") == 0
    said = capsys.readouterr().out
    assert "PNMI" in said and "What codes tell" in said and "How alike codes are used by language" in said
    with open(tmp_path / "codes.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {"entry_0", "entry_1", "frames", "best", "K", "IY", "(silence)"} <= set(rows[0])
    values = json.loads((tmp_path / "codes.json").read_text())
    assert sum(int(row["frames"]) for row in rows) == values["frames"] == sum(values["phones"]["frames"].values())
    assert all(int(r["K"]) + int(r["IY"]) + int(r["(silence)"]) == int(r["frames"]) for r in rows)
    assert len(rows) == values["codes_used"] and set(values["similarity"]["language"]["values"]) == {"de", "en"}
    assert set(values["information"]) == {"phone", "speaker", "language"}
    for picture in ("codes.png", "language.png", "speaker.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


def test_from_a_recogniser_of_letters(made: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codes(made, tmp_path, "--recognizer", made["words"], "--codebook", 1, "--speech") == 0
    assert "character purity" in capsys.readouterr().out
    values = json.loads((tmp_path / "codes.json").read_text())
    assert values["codebooks"] == 1 and set(values["characters"]["frames"]) <= set("bdgiklmnpaeou")


def test_from_files_for_units(made: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alignments of some utterances, for a model without a quantiser."""
    lines = [f"u{number} 1 0.05 0.1 T\nu{number} 1 0.15 0.1 AA\n" for number in range(3)]
    (tmp_path / "some.ctm").write_text("".join(lines))
    units = ("--units", made["folder"] / "units.safetensors")
    assert codes(made, tmp_path / "out", *units, "--alignments", tmp_path / "some.ctm", model="words") == 0
    assert "11 utterances have no phone times" in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "codes.json").read_text())
    assert values["aligned"] == 3 and values["entries"] == 5 and values["codebooks"] == 1
    plain = ("--units", made["folder"] / "plain.safetensors", "--layer", 0)
    assert codes(made, tmp_path / "out", *plain, "--by", "speaker", model="words") == 0


def test_bad_input(made: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    lines = [{"id": u.id, "audio": str(u.audio), "duration": u.duration} for u in read_manifest(made["corpus"])]
    write_manifest(bare, lines)
    (tmp_path / "others.ctm").write_text("other 1 0.0 0.1 a\n")
    write_fitted(tmp_path / "wide.safetensors", "k-means", {"centroids": torch.randn(5, 99)}, {})
    units = made["folder"] / "units.safetensors"
    cases = [
        (("words",), "Units of one of its layers can be counted"),
        (("listen", "--layer", 1), "name centroids too (--units FILE)"),
        (("listen", "--units", units, "--layer", 9), "layer 9"),
        (("listen", "--units", units, "--layer", 2), "learnt from another model or layer"),
        (("listen", "--units", tmp_path / "wide.safetensors"), "say --layer N"),
        (("listen", "--units", tmp_path / "wide.safetensors", "--layer", 1), "width 99"),
        (("listen", "--units", tmp_path / "none"), "no such file"),
        (("listen", "--alignments", tmp_path / "others.ctm"), "(such as 'other'), none of them among"),
        (("listen", "--alignments", tmp_path / "nowhere"), "no such file or folder"),
        (("listen", "--alignments", units), "alignments are .textgrid"),
        (("listen", "--by", "dialect"), "no utterance has 'dialect'"),
        (("listen", "--field", "words"), 'none of 14 utterances has "words": [[label, start, end], ...]'),
        (("listen", "--recognizer", made["words"], "--field", "segments"), "Name one"),
        (("listen", "--recognizer", made["listen"]), "cannot transcribe yet"),
        (("listen", "--recognizer", made["words"], "--espeak", "de"), "spells with characters"),
        (("listen", "--espeak", "de"), "give --recognizer too"),
        (("listen", "--tier", "phones"), "--alignments, which is not given"),
        (("listen", "--split", "dev", "--codebook", 7), "codebook 7"),
    ]
    for (model, *more), what in cases:
        assert codes(made, tmp_path / "out", *more, model=model) == 2, more
        assert what in capsys.readouterr().err, more
    for more, what in ((("--by", "language"), "no utterance has 'language'"), ((), "when was each phone said?")):
        assert main(["codes", str(made["listen"]), str(bare), "--out", str(tmp_path / "out"), *more]) == 2
        assert what in capsys.readouterr().err
    one = write_manifest(tmp_path / "one", [line | {"language": "en"} for line in lines])
    assert main(["codes", str(made["listen"]), str(one), "--out", str(tmp_path / "out"), "--by", "language"]) == 2
    assert "'en' alone; at least two are needed" in capsys.readouterr().err
