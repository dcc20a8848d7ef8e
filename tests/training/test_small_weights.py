"""Adapters and low-rank changes: little is learnt, little is saved, one encoder serves many."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import finetune, finetune_arguments, listened_to_five, pretrain, tensors, write_corpus, write_manifest

from firstwords.checkpoints.models import load_encoder_weights
from firstwords.checkpoints.own import read_checkpoint
from firstwords.cli import main
from firstwords.config import from_dict, merged
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.recognizer import Recognizer
from firstwords.training.run import Run

METHODS = pytest.mark.parametrize("method", ["adapter", "lora"])


def small(method: str, **more: Any) -> dict[str, Any]:
    changes = {
        "steps": 6,
        "adapt": {"method": method, "adapter_dim": 4, "low_rank": 2},
        "training": {"schedule": {"peak": 1e-2}, "validate_every": 3, "save_every": 3},
    }
    return merged(changes, more)


@pytest.fixture
def listened(tmp_path: Path) -> tuple[Path, Path]:
    return listened_to_five(tmp_path, {"steps": 1})


@pytest.fixture
def corpus(listened: tuple[Path, Path]) -> Path:
    return listened[0]


@pytest.fixture
def base(listened: tuple[Path, Path]) -> Path:
    return listened[1]


@METHODS
class TestSmallWeights:
    def test_saved_and_loaded(self, method: str, corpus: Path, base: Path, tmp_path: Path) -> None:
        """The file holds nothing of the encoder but the small weights, and is a whole recogniser with its base."""
        run = tmp_path / "run"
        assert finetune(corpus, base, run, changes=small(method)) == 0
        kept = tensors(run / "best.safetensors")
        part = ".adapter." if method == "adapter" else ".low_rank."
        assert all(part in name or name.startswith("weights/output.") for name in kept)
        assert any(bool(value.abs().sum() > 0) for name, value in kept.items() if name.endswith((".up", "up.weight")))

        sound = torch.randn(9000)
        alone, chosen = Recognizer.load(run, "cpu"), Recognizer.load(base, "cpu", adapter=str(run))
        assert torch.equal(alone.emissions([sound])[0], chosen.emissions([sound])[0])
        assert alone.model.config.encoder.transformer.low_rank == 0, "low-rank changes are part of the weights now"
        encoder, _ = load_encoder_weights(base)
        if method == "adapter":
            loaded = alone.model.encoder.state_dict()
            base_weights = {n: v for n, v in encoder.state_dict().items() if not n.startswith("transformer.position.")}
            assert all(torch.equal(value, loaded[name]) for name, value in base_weights.items())

    def test_goes_on(
        self, method: str, corpus: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed after half of the updates, the same command ends with the weights of an unbroken run, bit by bit."""
        assert finetune(corpus, base, tmp_path / "unbroken", changes=small(method)) == 0
        save = Run.save_last

        def killed(self: Run, checkpoint: Any) -> None:
            save(self, checkpoint)
            raise KeyboardInterrupt

        arguments = finetune_arguments(corpus, base, tmp_path / "broken", changes=small(method))
        monkeypatch.setattr(Run, "save_last", killed)
        assert main(arguments) == 130
        monkeypatch.undo()
        assert main(arguments) == 0
        ours, theirs = (tensors(tmp_path / name / "last.safetensors") for name in ("broken", "unbroken"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_one_encoder_for_many(self, method: str, corpus: Path, base: Path, tmp_path: Path) -> None:
        """Languages beside the model, chosen by name: each with its alphabet."""
        other = write_corpus(tmp_path / "other", [0.5, 0.6, 0.7], split="train")
        lines = [json.loads(line) for line in (other / "manifest.jsonl").read_text().splitlines()]
        write_manifest(other, [line | {"text": line["text"].replace("a", "ä")} for line in lines])
        assert finetune(corpus, base, base / "adapters" / "eng", changes=small(method)) == 0
        assert finetune(other, base, base / "adapters" / "deu", changes=small(method)) == 0
        english, german = (Recognizer.load(base, "cpu", adapter=name) for name in ("eng", "deu"))
        assert ("ä" in german.alphabet.symbols) and "ä" not in english.alphabet.symbols
        wav = str(corpus / "0.wav")
        assert main(["transcribe", str(base), wav, "--adapter", "deu"]) == 0
        assert main(["transcribe", str(base), wav, "--adapter", "fra"]) == 2
        assert main(["convert", str(base), str(tmp_path / "whole"), "--adapter", "deu"]) == 0
        whole = Recognizer.load(tmp_path / "whole", "cpu")
        sound = torch.randn(9000)
        assert torch.equal(whole.emissions([sound])[0], german.emissions([sound])[0])

    def test_wrong_base(
        self, method: str, corpus: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Small weights of another model are refused; a base that went away is named."""
        run, wav = tmp_path / "run", str(corpus / "0.wav")
        assert finetune(corpus, base, run, changes=small(method)) == 0
        assert pretrain(corpus, tmp_path / "other", changes={"steps": 1, "seed": 4}) == 0
        capsys.readouterr()
        assert main(["transcribe", str(tmp_path / "other"), wav, "--adapter", str(run)]) == 2
        assert "trained on another model" in capsys.readouterr().err
        assert main(["transcribe", str(base), wav, "--adapter", str(tmp_path / "other")]) == 2
        assert "a whole model of kind 'wav2vec2'" in capsys.readouterr().err
        shutil.move(base, tmp_path / "moved")
        assert main(["transcribe", str(run), wav]) == 2
        assert f"choose this with --adapter {run}" in capsys.readouterr().err
        assert main(["transcribe", str(tmp_path / "moved"), wav, "--adapter", str(run)]) == 0

    def test_needs_a_pretrained_encoder(
        self, method: str, corpus: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert finetune(corpus, base, tmp_path / "run", changes=small(method, weights="random")) == 2
        assert f"adapt.method {method} trains small weights" in capsys.readouterr().err


def test_low_rank_is_a_change_of_weights(corpus: Path, base: Path, tmp_path: Path) -> None:
    """The network that trains (two products beside the weights) and the one that is used (none) are equal."""
    run = tmp_path / "run"
    assert finetune(corpus, base, run, changes=small("lora")) == 0
    saved = read_checkpoint(run / "best.safetensors")
    training = CTCModel(from_dict(CTCConfig, saved.config, "test")).eval()
    encoder, _ = load_encoder_weights(base)
    whole = {f"encoder.{name}": value for name, value in encoder.state_dict().items()} | saved.weights
    training.load_state_dict(whole)
    used = Recognizer.load(run, "cpu").model
    sound = torch.randn(1, 9000)
    with torch.inference_mode():
        difference = (training(sound).logits - used(sound).logits).abs().max()
    assert 0 <= difference < 1e-5 and training.config.encoder.transformer.low_rank == 2


def test_of_a_model_of_others(corpus: Path, base: Path, tmp_path: Path) -> None:
    """Small weights of a Hugging Face folder become one whole model with it, which transformers alone could not run."""
    theirs, run, whole = tmp_path / "theirs", tmp_path / "run", tmp_path / "whole"
    assert main(["convert", str(base), str(theirs), "--to", "huggingface"]) == 0
    assert finetune(corpus, theirs, run, changes=small("adapter")) == 0
    assert main(["convert", str(theirs), str(whole), "--adapter", str(run)]) == 0
    sound = torch.randn(9000)
    emissions = [Recognizer.load(place, "cpu").emissions([sound])[0] for place in (run, whole)]
    assert torch.equal(*emissions)
