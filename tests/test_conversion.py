"""firstwords convert: what comes out is what went in, or nothing comes out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_tone

sys.path.insert(0, str(Path(__file__).parent / "checkpoints"))
from small import HEADS, KINDS, LABELS, classifier, encoder, pretrained, recogniser, saved

import firstwords.conversion as conversion
from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.models import classifier_of, load_ctc
from firstwords.checkpoints.plain import PlainClassifier, PlainNetwork
from firstwords.checkpoints.probe import largest_difference, probe, run_checkpoint, run_classifier_padded, run_padded
from firstwords.cli import main
from firstwords.nn.lengths import normalize_waveform
from firstwords.recognizer import Recognizer


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def elsewhere(folder: Path, waveforms: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    """What the exported network gives, by the names of its outputs, as somebody without Firstwords runs it."""
    given = {"waveforms": waveforms, "lengths": lengths}
    if (folder / "model.onnx").is_file():
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, given), strict=True))
    import openvino

    compiled = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(given)
    return {output.any_name: np.array(found[output]) for output in compiled.outputs}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return saved(recogniser(KINDS["vox"]), tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_plain_network(kind: str, tmp_path: Path) -> None:
    """The exporters' network equals the real one on a padded batch, normalisation included."""
    model, _ = load_ctc(saved(recogniser(KINDS[kind]), tmp_path))
    model.eval()
    config = model.encoder.config
    ours = []
    for waveform in probe():
        given = waveform[None]
        if config.normalize_waveform:
            given = normalize_waveform(given, epsilon=config.normalize_epsilon)
        ours.append(model(given).logits[0])
    assert largest_difference(ours, run_padded(PlainNetwork(model), probe())) < 1e-5


@pytest.mark.parametrize("kind", ["vox", "wavlm", "conformer"])
@pytest.mark.parametrize("head", [*HEADS, "after the last norm", "normalised"])
@torch.inference_mode()
def test_plain_classifier(kind: str, head: str) -> None:
    """The same of classifiers with every head."""
    checkpoint = classifier(kind, head if head in HEADS else "mean")
    checkpoint.config["head"] |= {"after the last norm": {"final_norm": False}, "normalised": {"normalize": True}}.get(
        head, {}
    )
    ours = run_checkpoint(checkpoint, "test", probe())
    network = PlainClassifier(classifier_of(checkpoint, "test"))
    assert largest_difference(ours, run_classifier_padded(network, checkpoint.config["head"], probe())) < 1e-5


class TestFormats:
    def test_there_and_back(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Ours to Hugging Face and back: the same text from the same sound."""
        assert convert(run, tmp_path / "theirs", "--to", "huggingface") == 0
        said = capsys.readouterr().out
        assert "recogniser" in said and "largest difference on the probe" in said and "1e-07" in said
        assert convert(tmp_path / "theirs", tmp_path / "ours") == 0
        path = write_tone(tmp_path / "a.wav", 1.0)
        texts = {Recognizer.load(place, "cpu").transcribe(path).text for place in (run, tmp_path / "ours")}
        assert len(texts) == 1
        assert json.loads((tmp_path / "ours" / "alphabet.json").read_text())["symbols"][0] == "<blank>"

    @pytest.mark.parametrize("make", [pretrained, encoder])
    def test_other_kinds(self, make: Any, tmp_path: Path) -> None:
        saved(make(KINDS["base"]), tmp_path / "run")
        assert convert(tmp_path / "run", tmp_path / "theirs", "--to", "huggingface") == 0
        assert convert(tmp_path / "theirs", tmp_path / "ours") == 0

    def test_language_model_comes_along(self, run: Path, tmp_path: Path) -> None:
        assert convert(run, tmp_path / "theirs", "--to", "huggingface") == 0
        place = tmp_path / "theirs" / "language_model"
        place.mkdir()
        (place / "attrs.json").write_text(json.dumps({"alpha": 0.7, "beta": 1.5, "unk_score_offset": -10.0}))
        (place / "5gram.arpa").write_text("\\data\\")
        assert convert(tmp_path / "theirs", tmp_path / "ours") == 0
        assert (tmp_path / "ours" / "language_model" / "5gram.arpa").is_file()
        _, checkpoint = load_ctc(tmp_path / "ours")
        assert checkpoint.state["language_model"]["weight"] == 0.7
        assert checkpoint.state["language_model"]["word_score"] == 1.5

    @pytest.mark.parametrize("kind", ["base", "wavlm", "conformer"])
    def test_onnx(self, kind: str, tmp_path: Path) -> None:
        """Any batch and length, and 8 bits judged by word errors."""
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
        run = saved(recogniser(KINDS[kind]), tmp_path / "run")
        corpus = tmp_path / "corpus"
        write_tone(corpus / "a.wav", 1.0)
        line = {"id": "a", "audio": "a.wav", "duration": 1.0, "text": "bad cab"}
        (corpus / "manifest.jsonl").write_text(json.dumps(line) + "\n")
        arguments = (run, tmp_path / "onnx", "--to", "onnx", "--int8", "--manifest", corpus)
        assert convert(*arguments, "--max-loss", "-9") == 2 and not (tmp_path / "onnx").exists()
        assert convert(*arguments, "--max-loss", "9") == 0
        names = {path.name for path in (tmp_path / "onnx").iterdir()}
        assert names == {"model.onnx", "model.int8.onnx", "firstwords.json", "alphabet.json"}
        network = conversion.open_onnx(tmp_path / "onnx" / "model.onnx")
        for size, samples in ((1, 800), (3, 5000)):
            values, frames = network(torch.randn(size, samples), torch.full((size,), samples))
            assert values.shape[:2] == (size, int(frames[0]))

    @pytest.mark.parametrize("kind", ["vox", "rotary conformer"])
    def test_openvino(self, kind: str, tmp_path: Path) -> None:
        pytest.importorskip("openvino")
        run = saved(recogniser(KINDS[kind]), tmp_path / "run")
        assert convert(run, tmp_path / "openvino", "--to", "openvino") == 0

    @pytest.mark.parametrize(("to", "head"), [("onnx", "x-vector"), ("openvino", "mean")])
    def test_classifiers_elsewhere(self, to: str, head: str, tmp_path: Path) -> None:
        """From transformers' folder to another runtime: scores by name, of a batch of any size; what lies beyond an
        utterance's end is not heard."""
        for package in ("onnx", "onnxscript", "onnxruntime") if to == "onnx" else ("openvino",):
            pytest.importorskip(package)
        source, out = tmp_path / "theirs", tmp_path / "out"
        source.mkdir()
        write_huggingface(classifier("vox", head), source, "test")
        assert convert(source, out, "--to", to) == 0
        about = json.loads((out / "firstwords.json").read_text())
        assert about["labels"] == LABELS
        fewest = about["fewest_samples"]
        for size, samples in ((1, fewest["waveforms"]), (3, 9000)):
            waveforms = np.random.default_rng(0).standard_normal((size, samples)).astype(np.float32)
            lengths = np.full(size, fewest["lengths"])
            found = elsewhere(out, waveforms, lengths)
            waveforms[:, fewest["lengths"] :] = 5.0
            again = elsewhere(out, waveforms, lengths)
            assert set(found) == set(about["outputs"]) and found["logits"].shape[-1] == len(LABELS)
            if head == "frames":
                frames = int(found["frames"][0])
                found["logits"], again["logits"] = found["logits"][:, :frames], again["logits"][:, :frames]
            assert all(np.allclose(value, again[name], atol=1e-5) for name, value in found.items())


class TestRefusals:
    def refused(self, capsys: pytest.CaptureFixture[str], out: Path, *arguments: object) -> str:
        """Exit code 2, one line, and nothing written."""
        assert convert(*arguments) == 2
        said = capsys.readouterr().err.strip()
        assert len(said.splitlines()) == 1 and "Traceback" not in said
        assert not out.exists() and not out.with_name(out.name + ".part").exists()
        return said

    def test_a_result_that_differs(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A writer that loses something is found out."""
        write = conversion.write_checkpoint

        def lossy(path: Path, checkpoint: Any) -> None:
            checkpoint.weights = {name: value.half().float() for name, value in checkpoint.weights.items()}
            write(path, checkpoint)

        monkeypatch.setattr(conversion, "write_checkpoint", lossy)
        out = tmp_path / "out"
        said = self.refused(capsys, out, run, out)
        assert "above the tolerance of 0.0001" in said
        assert convert(run, out, "--tolerance", "0.1") == 0

    def test_not_a_number(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint = recogniser(KINDS["base"])
        checkpoint.weights["output.bias"][2] = np.nan
        out = tmp_path / "out"
        assert "differs by inf" in self.refused(capsys, out, saved(checkpoint, tmp_path / "run"), out)

    def test_place_taken(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert convert(run, run) == 2
        assert "not empty; choose another place" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--int8"], "--manifest"),
            (["--int8", "--manifest", "CORPUS"], "--to onnx"),
            (["--adapter", "swa"], "no adapter 'swa'"),
        ],
    )
    def test_senseless(
        self, more: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        soundfile.write(corpus / "a.wav", np.zeros(16_000), 16_000)
        (corpus / "manifest.jsonl").write_text('{"id": "a", "audio": "a.wav", "text": "a"}\n')
        out = tmp_path / "out"
        said = self.refused(capsys, out, run, out, *[str(corpus) if word == "CORPUS" else word for word in more])
        assert words in said

    def test_nothing_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        assert "no run here" in self.refused(capsys, out, tmp_path / "nowhere", out)
