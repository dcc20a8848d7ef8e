"""Classifiers to and from Hugging Face's heads, run by transformers where it is installed."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import HEADS, LABELS, classifier, saved

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.huggingface_heads import classifier_checkpoint
from firstwords.checkpoints.models import load_classifier, load_encoder_weights
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.probe import largest_difference, probe, run_checkpoint, run_transformers
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.classifier import SpeechClassifier
from firstwords.cli import main
from firstwords.conversion import convert
from firstwords.errors import CheckpointError
from firstwords.losses.additive_margin import additive_margin_logits

MODELS = [
    *[(kind, head) for kind in ("base", "vox") for head in HEADS],
    ("wavlm", "mean"),
    ("wavlm", "x-vector"),
    ("distilled hubert", "mean"),
    *[("conformer", head) for head in ("mean", "frames", "x-vector")],
]
EACH = pytest.mark.parametrize(("kind", "head"), MODELS)


@EACH
def test_round_trip(kind: str, head: str, tmp_path: Path) -> None:
    checkpoint = classifier(kind, head)
    write_huggingface(checkpoint, tmp_path, "test")
    model, again = load_classifier(tmp_path)
    assert all(torch.equal(value, again.weights[name]) for name, value in checkpoint.weights.items())
    assert again.weights.keys() == checkpoint.weights.keys()
    assert model.config.head == HEADS[head] and again.state["labels"] == LABELS


@EACH
def test_equal_to_transformers_and_silent(
    kind: str, head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers loads what we write without a word, under the right class, and computes the same."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.enable_propagation()
    write_huggingface(classifier(kind, head), tmp_path, "test")
    _, again = load_classifier(tmp_path)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        theirs = run_transformers(tmp_path, again, "test", probe())
    assert theirs is not None
    assert largest_difference(run_checkpoint(again, "test", probe()), theirs) < 2e-5
    assert not [r.getMessage() for r in caplog.records if r.name.startswith("transformers")]
    assert transformers.AutoConfig.from_pretrained(tmp_path).id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize(
    "name",
    [
        "Wav2Vec2ForSequenceClassification", "HubertForSequenceClassification", "WavLMForSequenceClassification",
        "Wav2Vec2ForAudioFrameClassification", "WavLMForAudioFrameClassification", "Wav2Vec2ForXVector",
        "WavLMForXVector", "Wav2Vec2ConformerForSequenceClassification", "Wav2Vec2ConformerForXVector",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("weighted", "stable"), [(True, False), (True, True), (False, True)])
def test_reading_what_it_writes(name: str, weighted: bool, stable: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    settings = getattr(transformers, name.split("For")[0] + "Config")
    config = settings(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, tdnn_dim=[8] * 5, xvector_output_dim=8,
        classifier_proj_size=6, use_weighted_layer_sum=weighted, do_stable_layer_norm=stable,
        id2label=dict(enumerate(LABELS)), label2id={label: number for number, label in enumerate(LABELS)},
    )  # fmt: skip
    theirs = getattr(transformers, name)(config).eval()
    with torch.no_grad():  # a new head is nearly deaf
        for value in theirs.parameters():
            value += 0.1 * torch.rand_like(value)
    theirs.save_pretrained(tmp_path)
    model, checkpoint = load_classifier(tmp_path)
    assert checkpoint.state["labels"] == LABELS
    waveform = probe()[0][None]
    normal = (waveform - waveform.mean()) / (waveform.var(unbiased=False) + 1e-7).sqrt()  # its feature extractor's
    with torch.inference_mode():
        expected, found = theirs(normal), model.eval()(waveform)
    if name.endswith("XVector"):
        assert torch.allclose(found.embeddings, expected.embeddings, atol=2e-5)
        classes = torch.tensor([1])
        head = model.config.head
        margins = additive_margin_logits(found.logits / head.scale, classes, head.scale, head.margin)
        loss = torch.nn.functional.cross_entropy(margins, classes)
        assert torch.allclose(loss, theirs(normal, labels=classes).loss, rtol=1e-4)
    else:
        assert torch.allclose(found.logits, expected.logits, atol=2e-5)


@pytest.mark.parametrize(
    ("says", "final_norm"),
    [
        ({"transformers_version": "4.57.1"}, True),
        ({"transformers_version": "5.23.0"}, False),
        ({"transformers_version": "5.23.0", "tie_last_hidden_states": True}, True),
        ({}, True),
    ],
)
def test_which_layer_is_the_last(says: dict[str, Any], final_norm: bool, tmp_path: Path) -> None:
    """A weighted sum is read as the version that wrote it computed it: the last layer after the norm, or before."""
    write_huggingface(classifier("vox", "mean"), tmp_path, "test")
    values = json.loads((tmp_path / "config.json").read_text())
    assert values.pop("tie_last_hidden_states") is True
    (tmp_path / "config.json").write_text(json.dumps(values | says))
    assert load_classifier(tmp_path)[0].config.head.final_norm is final_norm


def test_names_of_classes_are_used(tmp_path: Path) -> None:
    write_huggingface(classifier("vox", "mean"), tmp_path, "test")
    prediction = SpeechClassifier.load(tmp_path, "cpu").classify_one(probe()[0])
    assert set(prediction.probabilities) == set(LABELS) and sum(prediction.probabilities.values()) == pytest.approx(1)


def test_convert_there_and_back(tmp_path: Path) -> None:
    """`convert` proves a classifier equal, as it does other models; the encoder inside can be gone on from."""
    run = saved(classifier("vox", "x-vector"), tmp_path / "run")
    there = convert(run, tmp_path / "folder", "huggingface")
    back = convert(tmp_path / "folder", tmp_path / "back")
    assert there.difference < 1e-4 and back.difference < 1e-4 and "classifier" in back.source
    assert load_classifier(tmp_path / "back")[1].state["labels"] == LABELS
    assert load_encoder_weights(tmp_path / "back")[0].dim == 16


class TestRefused:
    def edited(self, folder: Path, **changes: Any) -> Path:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | changes))
        return folder

    def test_a_head_of_another_size(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_huggingface(classifier("base", "x-vector"), tmp_path, "test")
        self.edited(tmp_path, tdnn_kernel=[5, 3, 3])
        with pytest.raises(CheckpointError, match=r"another shape of model|contradict"):
            load_classifier(tmp_path)
        assert main(["classify", "predict", str(tmp_path), "none.wav"]) == 2

    def test_a_part_that_is_missing(self, tmp_path: Path) -> None:
        write_huggingface(classifier("base", "mean"), tmp_path, "test")
        weights = load_file(tmp_path / "model.safetensors")
        del weights["projector.bias"]
        save_file(weights, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match="sequence-classification head contradict each other"):
            load_classifier(tmp_path)

    def test_a_sum_of_layers_without_weights(self, tmp_path: Path) -> None:
        write_huggingface(classifier("base", "mean of the last"), tmp_path, "test")
        with pytest.raises(CheckpointError, match="layer_weights"):
            load_classifier(self.edited(tmp_path, use_weighted_layer_sum=True))

    def test_two_classes_of_one_name(self, tmp_path: Path) -> None:
        write_huggingface(classifier("base", "mean"), tmp_path, "test")
        with pytest.raises(CheckpointError, match="one name"):
            load_classifier(self.edited(tmp_path, id2label={"0": "a", "1": "a", "2": "b"}))

    def test_names_that_do_not_fit_are_numbers(self, tmp_path: Path) -> None:
        write_huggingface(classifier("base", "mean"), tmp_path, "test")
        _, checkpoint = load_classifier(self.edited(tmp_path, id2label={"0": "a"}))
        assert checkpoint.state["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]

    def test_what_transformers_has_no_class_for(self, tmp_path: Path) -> None:
        for kind, head in (("distilled hubert", "x-vector"), ("distilled hubert", "frames")):
            with pytest.raises(CheckpointError, match="transformers has no model with a head of kind"):
                write_huggingface(classifier(kind, head), tmp_path, "test")
        checkpoint = classifier("base", "mean")
        checkpoint.config["head"]["normalize"] = True
        with pytest.raises(CheckpointError, match=r"head\.normalize"):
            write_huggingface(checkpoint, tmp_path, "test")

    def test_a_model_without_a_head(self, tmp_path: Path) -> None:
        checkpoint = classifier("base", "mean")
        bare = {name: value for name, value in checkpoint.weights.items() if name.startswith("encoder.")}
        write_huggingface(Checkpoint("encoder", checkpoint.config["encoder"], bare), tmp_path, "test")
        with pytest.raises(CheckpointError, match="has no classes; first: firstwords classify train"):
            load_classifier(tmp_path)


def test_an_encoder_with_a_head_becomes_a_classifier_once(tmp_path: Path) -> None:
    write_huggingface(classifier("base", "frames"), tmp_path, "test")
    checkpoint, where = open_checkpoint(tmp_path)
    assert checkpoint.kind == "encoder" and checkpoint.state["head"]["labels"] == LABELS
    assert classifier_checkpoint(checkpoint, where).kind == "classifier"
