"""From waveforms to codes to BERT to features: a handful of commands, exact after a stop, mistakes named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone
from test_code_prediction import TINY
from test_vq_pretraining import KMEANS
from test_vq_pretraining import pretrain as listen
from tiny import tensors, write_corpus

import firstwords.training.loop as loop
from firstwords.checkpoints.models import load_recognizer
from firstwords.cli import main
from firstwords.coder import load_coder
from firstwords.config import merged
from firstwords.corpus.manifest import read_manifest
from firstwords.encoder import load_encoder
from firstwords.training.run import read_log
from firstwords.units import read_units

STEPS: dict[str, Any] = {"steps": 8, "training": {"save_every": 4, "validate_every": 8}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a vq-wav2vec run, and the corpus as its codes."""
    folder = tmp_path_factory.mktemp("pipeline")
    corpus = write_corpus(folder / "corpus")
    assert listen(corpus, folder / "vq", KMEANS, {"steps": 4}) == 0
    assert main(["units", str(folder / "vq"), str(corpus), "--codes", "--out", str(folder / "units")]) == 0
    assert learn(folder, folder / "bert") == 0
    return folder


def learn(place: Path, out: Path, *more: object, units: str = "units", codes_from: str | None = "vq") -> int:
    recipe = place / "bert.yaml"
    recipe.write_text(json.dumps({"kind": "pretrain", "objective": "code-bert", **merged(TINY, STEPS)}))
    source = [] if codes_from is None else ["--codes-from", str(place / codes_from)]
    return main(["pretrain", str(place / units), "--recipe", str(recipe), "--out", str(out), *source, *map(str, more)])


def test_units_are_the_codes(place: Path) -> None:
    coder = load_coder(place / "vq", "cpu")
    units = read_units(place / "units")
    assert len(units) == 14
    utterance = read_manifest(place / "corpus")[3]
    codes = coder(torch.from_numpy(utterance.read())[None])[0]
    assert np.array_equal(units[utterance.id].frames, codes.numpy())


def test_from_waveforms_to_features(place: Path, tmp_path: Path) -> None:
    """The run gives features by itself: it keeps the model that its codes come from."""
    assert (place / "bert" / "curves.png").is_file()
    assert [record for record in read_log(place / "bert") if "valid_bits" in record]
    encoder = load_encoder(place / "bert", device="cpu")
    waveforms, lengths = torch.zeros(2, 16_000), torch.tensor([16_000, 5_000])
    for row, count in enumerate(lengths.tolist()):
        waveforms[row, :count] = torch.from_numpy(tone(count / 16_000, row))
    with torch.no_grad():
        together = encoder(waveforms, lengths)
        assert together.shape == (2, 98, 16) and encoder.stride == 160
        for row, count in enumerate(lengths.tolist()):
            alone = encoder(waveforms[row : row + 1, :count])[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)
        states, _ = encoder.hidden_states(waveforms, lengths)
        assert len(states) == 3 and torch.equal(states[-1], together)
    shutil.copytree(place / "bert", tmp_path / "moved")
    assert main(["embed", str(tmp_path / "moved"), str(place / "corpus"), "--out", str(tmp_path / "features")]) == 0
    files = sorted((tmp_path / "features").rglob("*.npy"))
    assert len(files) == 14 and np.load(files[0]).shape[1] == 16
    assert main(["convert", str(tmp_path / "moved"), str(tmp_path / "converted")]) == 0
    again = load_encoder(tmp_path / "converted", device="cpu")
    with torch.no_grad():
        assert torch.equal(again(waveforms, lengths), together)


def test_heads_stand_on_it(place: Path, tmp_path: Path) -> None:
    """An acoustic model and a classifier learn on its features, which stay as they were, and need no other file."""
    lines = [json.loads(line) for line in (place / "corpus" / "manifest.jsonl").read_text().splitlines()]
    named = [line | {"who": f"s{number % 2}"} for number, line in enumerate(lines)]
    corpus = place / "corpus" / "who.jsonl"
    corpus.write_text("\n".join(map(json.dumps, named)) + "\n", encoding="utf-8")
    few = ["--steps", "2", "--training.batch-seconds", "4", "--training.micro-batch-seconds", "4"]
    shape = ["--network.channels", "8", "--network.kernels", "3", "--data.held-out", "0.2", "--text.unknown", "drop"]
    acoustic = ["finetune", str(corpus), "--recipe", "asg-small", "--from", str(place / "bert"), *few, *shape]
    assert main([*acoustic, "--linear-updates", "0", "--out", str(tmp_path / "words")]) == 0
    sorting = ["classify", "train", str(corpus), "--from", str(place / "bert"), "--label", "who", *few]
    assert main([*sorting, "--data.held-out", "0.2", "--out", str(tmp_path / "who")]) == 0
    waveforms = torch.from_numpy(tone(0.5, 1))[None]
    with torch.no_grad():
        features = [load_encoder(run, device="cpu")(waveforms) for run in (place / "bert", tmp_path / "who")]
        model, _ = load_recognizer(tmp_path / "words")
        heard = model.features.encoder(waveforms).features
    assert torch.equal(*features) and torch.equal(heard, features[0])


def test_goes_on(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a run and the rest of it, without naming the model again, are the whole run."""
    save = loop._Trainer._report

    def stop(self: Any) -> None:
        save(self)
        if self.progress.update == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Trainer, "_report", stop)
        assert learn(place, tmp_path / "broken") == 130
    said = capsys.readouterr().out
    assert "blocks" in said and "combinations" in said
    assert learn(place, tmp_path / "broken", codes_from=None) == 0
    assert "symbols read" in capsys.readouterr().out
    ours, theirs = (tensors(folder / "last.safetensors") for folder in (tmp_path / "broken", place / "bert"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert learn(place, tmp_path / "broken", codes_from=None) == 0
    assert "finished already" in capsys.readouterr().out


class TestMistakes:
    def told(self, capsys: pytest.CaptureFixture[str]) -> str:
        return capsys.readouterr().err

    def test_no_model(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert learn(place, tmp_path / "run", codes_from=None) == 2
        assert "--codes-from RUN" in self.told(capsys)

    def test_audio(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert learn(place, tmp_path / "run", units="corpus") == 2
        assert "a corpus of audio" in (said := self.told(capsys)) and "firstwords units" in said

    def test_nothing_there(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert learn(place, tmp_path / "run", units="nowhere") == 2
        assert "no units here" in self.told(capsys)

    def test_clusters(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """k-means of features is no quantiser: there would be no way from a waveform to such units."""
        out = place / "clusters"
        assert main(["units", str(place / "vq"), str(place / "corpus"), "--clusters", "4", "--out", str(out)]) == 0
        assert learn(place, tmp_path / "run", units="clusters") == 2
        assert "units of k-means" in self.told(capsys)

    def test_another_model(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert listen(place / "corpus", place / "other", KMEANS, {"steps": 1}) == 0
        assert learn(place, tmp_path / "run", codes_from="other") == 2
        assert "by a model with other weights" in self.told(capsys)

    def test_a_model_without_codes(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert learn(place, tmp_path / "run", codes_from="bert") == 2
        assert "has no quantiser" in self.told(capsys)

    def test_the_kept_model_is_gone(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(place / "bert", tmp_path / "bert")
        (tmp_path / "bert" / "codes.safetensors").unlink()
        assert main(["embed", str(tmp_path / "bert"), str(place / "corpus"), "--out", str(tmp_path / "out")]) == 2
        assert "no longer beside it" in self.told(capsys)

    def test_options_of_the_other_kind(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert learn(place, tmp_path / "run", "--from", place / "vq") == 2
        assert "starts anew" in self.told(capsys)
        audio = ["pretrain", str(place / "corpus"), "--recipe", "vq-wav2vec-tiny", "--out", str(tmp_path / "run")]
        assert main([*audio, "--codes-from", str(place / "vq")]) == 2
        assert "is for BERT over codes" in self.told(capsys)
