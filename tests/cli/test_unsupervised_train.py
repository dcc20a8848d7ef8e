"""firstwords unsupervised train: from a prepared folder to a model of the chosen member, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.checkpoints.models import load_wav2vec_u
from firstwords.cli import main
from firstwords.corpus.feature_store import FeatureWriter
from firstwords.corpus.prepared import SILENCE, write_facts

SMALL = [
    "--steps", "8", "--batch", "8", "--discriminator.dim", "8", "--grid.seeds", "0", "1", "--grid.gradient", "1.5",
    "--grid.smoothness", "0.5", "--grid.diversity", "2.0", "--choice.validate-every", "4", "--save-every", "4",
    "--device", "cpu",
]  # fmt: skip
PHONES = ["a", "b", "c", "d", SILENCE]


def prepared(folder: Path, kind: str = "1.0", utterances: int = 12) -> Path:
    """What `unsupervised prepare` leaves, made up."""
    random = np.random.default_rng(0)
    for split, count in (("train", utterances), ("valid", 4)):
        with FeatureWriter(folder, split) as writer:
            for number in range(count):
                size = 2 if number == 0 else int(random.integers(6, 14))
                writer.add(f"{split}{number}", random.standard_normal((size, 6)).astype(np.float32))
    text = [[SILENCE, *(PHONES[n] for n in random.integers(4, size=8)), SILENCE] for _ in range(40)]
    (folder / "text").mkdir()
    (folder / "text" / "phones.txt").write_text("\n".join(map(" ".join, text)) + "\n")
    counts = {phone: sum(line.count(phone) for line in text) for phone in PHONES}
    (folder / "text" / "dict.txt").write_text("".join(f"{phone} {counts[phone]}\n" for phone in PHONES))
    (folder / "valid.phones").write_text("valid1\ta b c\nvalid2\td d\n")
    write_facts(folder, {"kind": kind, "finished": True})
    return folder


def test_from_a_prepared_folder_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = prepared(tmp_path / "prepared"), tmp_path / "gan"
    assert main(["unsupervised", "train", str(folder), "--out", str(out), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "only 11 utterances" in said and "2 utterances shorter than 3 segments" in said
    assert "chosen: member" in said and "CONVERGE" in said
    assert (out / "curves.png").stat().st_size > 10_000
    model, checkpoint = load_wav2vec_u(out)
    assert checkpoint.state["phones"] == PHONES and checkpoint.state["silence"] == SILENCE
    logits, lengths = model(torch.randn(2, 9, 6), torch.tensor([9, 5]))
    assert logits.shape == (1, 2, 10, 9) and lengths.tolist() == [10, 6]
    assert json.loads((out / "status.json").read_text())["state"] == "finished"
    assert main(["unsupervised", "train", str(folder), "--out", str(out), *SMALL]) == 0
    assert "finished already" in capsys.readouterr().out


def test_a_deciphered_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = prepared(tmp_path / "prepared"), tmp_path / "gan"
    options = ["--matching.restarts", "1", "--matching.clusters", "8", "--matching.steps", "5"]
    options += ["--matching.fit-updates", "2", "--matching.discriminator-first", "4"]
    assert main(["unsupervised", "train", str(folder), "--out", str(out), *SMALL, *options]) == 0
    said = capsys.readouterr().out
    assert said.count("clusters deciphered") == 2 and "segments a phone" in said and "0/8  best so far" in said
    load_wav2vec_u(out)
    options[3] = "5000"
    said = wrong(["train", str(folder), "--out", str(tmp_path / "other"), *SMALL, *options], capsys)
    assert "lower matching.clusters" in said


def wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["unsupervised", *arguments]) == 2
    return capsys.readouterr().err


def test_a_recipe_of_the_other_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepared(tmp_path / "prepared", "2.0")
    said = wrong(["train", str(folder), "--out", str(tmp_path / "gan"), *SMALL], capsys)
    assert "--recipe wav2vec-u2" in said


def test_text_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepared(tmp_path / "prepared")
    (folder / "text" / "dict.txt").write_text(f"a 3\nb 2\n{SILENCE} 9\n")
    said = wrong(["train", str(folder), "--out", str(tmp_path / "gan"), *SMALL], capsys)
    assert "different versions" in said


def test_other_data_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gan"
    assert main(["unsupervised", "train", str(prepared(tmp_path / "one")), "--out", str(out), *SMALL]) == 0
    said = wrong(["train", str(prepared(tmp_path / "two", utterances=15)), "--out", str(out), *SMALL], capsys)
    assert "holds another run" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--choice.stop-after", "0.5", "0.2"], "stop_after"),
        (["--grid.seeds", "1", "1"], "seeds"),
        (["--batch", "0"], "batch"),
        (["--grid.auxiliary", "0.5"], "residual"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    folder = prepared(tmp_path / "prepared")
    assert told in wrong(["train", str(folder), "--out", str(tmp_path / "gan"), *SMALL, *options], capsys)


def test_steps_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unsupervised"]) == 0
    assert "self-train" in capsys.readouterr().out
    assert "there are: prepare, train" in wrong(["tran"], capsys)
