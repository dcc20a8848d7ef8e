"""A head that is not ours stays beside the encoder, and is not lost without a word."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from small import KINDS, encoder

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.models import load_encoder_weights
from firstwords.checkpoints.sources import open_checkpoint


def test_kept_and_named(tmp_path: Path) -> None:
    write_huggingface(encoder(KINDS["base"]), tmp_path / "model", "test")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path) | {"classifier.weight": torch.ones(3, 16), "classifier.bias": torch.zeros(3)}
    save_file(weights, path)
    checkpoint, where = open_checkpoint(tmp_path / "model")
    assert checkpoint.kind == "encoder" and checkpoint.state["head"]["kind"] == "audio-frame-classification"
    assert torch.equal(checkpoint.weights["head.classifier.weight"], torch.ones(3, 16))
    loaded, _ = load_encoder_weights(tmp_path / "model")
    assert loaded.dim == 16
    write_huggingface(checkpoint, tmp_path / "again", where)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert torch.equal(again["classifier.weight"], torch.ones(3, 16))


def test_named_where_it_is_lost(tmp_path: Path) -> None:
    """transformers has no such class for HuBERT: the encoder is written alone, and that is said."""
    checkpoint = encoder(KINDS["base"])
    checkpoint.weights |= {"head.classifier.weight": torch.ones(3, 16), "head.classifier.bias": torch.zeros(3)}
    checkpoint.state = {
        "imported": {"model_type": "hubert"},
        "head": {"kind": "audio-frame-classification", "labels": [], "config": {}},
    }
    notes = write_huggingface(checkpoint, tmp_path, "test")
    assert notes == ["only the encoder is written, without its audio-frame-classification head"]
