"""Training goes on from models that others made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import PRETRAIN, finetune, finetune_arguments, pretrain, pretrain_arguments, settings, tensors, write_corpus

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.models import load_encoder_weights
from firstwords.checkpoints.own import Checkpoint, read_checkpoint
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.cli import main
from firstwords.config import to_dict
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import Wav2Vec2
from firstwords.recognizer import Recognizer

FEW = {"steps": 2}
STILL = {"steps": 1, "training": {"schedule": {"peak": 1e-12, "warmup": 0.0}, "optimizer": {"weight_decay": 0.0}}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus", [0.5, 0.6, 0.7, 0.8], split="train")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A pre-trained model as a Hugging Face folder, with 5 codebook entries where the recipe has 6."""
    torch.manual_seed(11)
    config = settings(PRETRAIN, {"model": {"quantizer": {"entries": 5}}}).model
    model = Wav2Vec2(config)
    write_huggingface(Checkpoint("wav2vec2", to_dict(config), dict(model.state_dict())), tmp_path / "theirs", "test")
    return tmp_path / "theirs"


class TestPretraining:
    def test_with_quantizer(
        self, corpus: Path, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Weights and the quantiser's size are theirs, and the run starts from them."""
        assert pretrain(corpus, tmp_path / "run", "--from", theirs, changes=STILL) == 0
        assert "encoder and quantiser go on learning" in capsys.readouterr().out
        before, _ = open_checkpoint(theirs)
        after = read_checkpoint(tmp_path / "run" / "best.safetensors")
        assert after.config["quantizer"]["entries"] == 5
        assert all(torch.allclose(value, after.weights[name], atol=1e-6) for name, value in before.weights.items())

    def test_recogniser_gets_a_new_quantizer(
        self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        encoder = settings(PRETRAIN).model.encoder
        model = CTCModel(CTCConfig(encoder, 5))
        write_huggingface(Checkpoint("ctc", to_dict(model.config), dict(model.state_dict())), tmp_path / "ctc", "test")
        assert pretrain(corpus, tmp_path / "run", "--from", tmp_path / "ctc", changes=STILL) == 0
        assert "without a quantiser, so a new one starts" in capsys.readouterr().out
        after = read_checkpoint(tmp_path / "run" / "best.safetensors")
        assert after.kind == "wav2vec2" and "quantizer.codebooks" in after.weights
        name = "encoder.projection.weight"
        assert torch.allclose(model.state_dict()[name], after.weights[name], atol=1e-6)

    def test_another_source_is_another_run(self, corpus: Path, theirs: Path, tmp_path: Path) -> None:
        arguments = pretrain_arguments(corpus, tmp_path / "run", "--from", theirs, changes=FEW)
        assert main(arguments) == 0 and main(arguments) == 0
        assert main(pretrain_arguments(corpus, tmp_path / "run", changes=FEW)) == 2


class TestFinetuning:
    def test_from_huggingface(self, corpus: Path, theirs: Path, tmp_path: Path) -> None:
        """The encoder is theirs, its normalisation too; the result is a recogniser of ours."""
        assert finetune(corpus, theirs, tmp_path / "run", changes=STILL) == 0
        encoder, _ = load_encoder_weights(theirs)
        after = tensors(tmp_path / "run" / "best.safetensors")
        for name, value in encoder.state_dict().items():
            assert torch.allclose(value, after[f"weights/encoder.{name}"], atol=1e-6), name
        recognizer = Recognizer.load(tmp_path / "run", "cpu")
        assert recognizer.model.encoder.config.normalize_epsilon == 1e-7
        assert recognizer.transcribe(corpus / "0.wav").duration == 0.5

    def test_nothing_there(self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty").mkdir()
        assert main(finetune_arguments(corpus, tmp_path / "empty", tmp_path / "run")) == 2
        assert "no run here" in capsys.readouterr().err
