"""Models of others that are broken: one line names the file and what is wrong with it, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import KINDS, encoder, recogniser

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.models import load_encoder_weights, load_recognizer
from firstwords.cli import main
from firstwords.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "theirs"
    place.mkdir()
    write_huggingface(recogniser(KINDS["base"]), place, "test")
    return place


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 99}, "vocab_size = 99, the output layer (lm_head) has 9 rows"),
        ({"num_hidden_layers": None}, "holds a value that no such model has"),
        ({"conv_dim": None}, "holds a value that no such model has"),
        ({"hidden_dropout": "often"}, "could not convert string to float: 'often'"),
        ({"model_type": ["wav2vec2"]}, "holds a value that no such model has"),
        ({"num_conv_pos_embeddings": 0}, "position_kernel must be at least 1"),
        ({"num_attention_heads": 3}, "multiple of heads (3)"),
        ({"conv_kernel": [10, 3]}, "one number a layer"),
    ],
    ids=str,
)
def test_configuration(changes: dict[str, Any], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    out = folder.parent / "out"
    assert main(["convert", str(folder), str(out)]) == 2
    said = capsys.readouterr().err
    assert str(folder) in said and words in said and len(said.splitlines()) == 1
    assert not out.exists()


def test_a_vocabulary_of_words(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({"a": "b"}))
    with pytest.raises(CheckpointError, match=r"vocab\.json: expected the number of each symbol"):
        load_recognizer(folder)


def test_a_head_that_is_wider_than_it_is_said_to_be(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros(len(weights["lm_head.weight"]), 7)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"output\.weight is \(9, 7\), the model has \(9, 16\)"):
        load_recognizer(folder)


def test_vocabulary_size_says_nothing_of_an_encoder(tmp_path: Path) -> None:
    write_huggingface(encoder(KINDS["base"]), tmp_path, "test")
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"vocab_size": 99}))
    assert load_encoder_weights(tmp_path)[0].dim == 16


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, "neither args nor cfg holds a configuration"),
        ({"conv_feature_layers": "__import__('os').getcwd()"}, "no list of (channels, kernel, stride)"),
        ({"latent_temp": "warm"}, "latent_temp = 'warm' is no (start, end, decay)"),
        ({"encoder_layers": 0, "encoder_attention_heads": 5}, "multiple of heads (5)"),
    ],
    ids=str,
)
def test_fairseq(model: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"mask_emb": torch.ones(768)}, "cfg": model and {"model": model}}, path)
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and words in said and len(said.splitlines()) == 1
