"""Classifiers: the same alone and padded, the cached means a twin of the plain path, frozen encoders unchanged."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from firstwords.errors import CheckpointError, ConfigError
from firstwords.models.classifier import Classifier, ClassifierConfig, HeadConfig, layer_means, statistics
from firstwords.models.encoders import build_encoder, encoder_kind

ENCODER: dict[str, Any] = {
    "feature_encoder": {"channels": [6, 6, 8, 8, 8, 8, 8]},
    "transformer": {
        "layers": 2, "dim": 16, "feed_forward_dim": 32, "heads": 2, "position_kernel": 8, "position_groups": 2,
    },
}  # fmt: skip
XVECTOR = HeadConfig(kind="x-vector", tdnn_dims=(6, 7), tdnn_kernels=(3, 2), tdnn_dilations=(2, 1), embedding=5)
HEADS = {
    "mean": HeadConfig(projection=6),
    "normalized": HeadConfig(projection=6, normalize=True),
    "last": HeadConfig(projection=6, layers="last"),
    "frames": HeadConfig(kind="frames"),
    "x-vector": XVECTOR,
}
ENCODERS: dict[str, Any] = {
    "wav2vec2": ENCODER | {"normalize_waveform": True},
    "wav2vec": {
        "latent_encoder": {"channels": [16] * 5, "kernels": [10, 8, 4, 4, 4], "strides": [5, 4, 2, 2, 2]},
        "context_network": {"channels": [16, 16], "kernels": [2, 3]},
    },
    "log_mel": {},
}


def classifier(head: HeadConfig, kind: str = "wav2vec2", learn: Any = "head") -> Classifier:
    torch.manual_seed(3)
    model = Classifier(ClassifierConfig(kind, ENCODERS[kind], head, 4), learn)
    if model.head.layer_weights is not None:  # so that layers differ
        nn.init.normal_(model.head.layer_weights)
    return model.eval()


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("head", HEADS)
def test_alone_as_padded(head: str, kind: str) -> None:
    model = classifier(HEADS[head], kind)
    waveforms = torch.randn(2, 9000)
    lengths = torch.tensor([9000, 6100])
    waveforms[1, 6100:] = 7.0  # whatever lies beyond
    together = model(waveforms.masked_fill(torch.arange(9000) >= lengths[:, None], 0.0), lengths)
    alone = model(waveforms[1:, :6100])
    frames = int(alone.lengths[0])
    logits = together.logits[1:, :frames] if head == "frames" else together.logits[1:]
    assert torch.allclose(logits, alone.logits, atol=1e-5)
    assert together.lengths.tolist() == [model.encoder.frames(9000), frames]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("head", ["mean", "normalized", "last"])
def test_means_of_layers_say_all_that_a_mean_head_hears(head: str, kind: str) -> None:
    """The plain path: weighted sum of frames, projection of each, then the mean, as SUPERB and transformers do it."""
    model = classifier(HEADS[head], kind)
    waveforms, lengths = torch.randn(2, 8000), torch.tensor([8000, 5000])
    states, frames = model.states(waveforms, lengths)
    projected = model.head.projector(model.head.mixed(states))
    plain = torch.stack([row[:count].mean(0) for row, count in zip(projected, frames.tolist(), strict=True)])
    found = model(None, frames, means=layer_means(states, frames))
    assert torch.allclose(found.embeddings, plain, atol=1e-5)
    assert torch.allclose(found.logits, model.head.classifier(plain), atol=1e-5)
    assert torch.allclose(found.logits, model(waveforms, lengths).logits, atol=1e-6)


def test_statistics_are_those_of_a_sample() -> None:
    x = torch.randn(2, 9, 4)
    found = statistics(x, torch.tensor([9, 5]))
    for row, count in ((0, 9), (1, 5)):
        part = x[row, :count]
        assert torch.allclose(found[row], torch.cat([part.mean(0), part.std(0)]), atol=1e-6)


def test_a_channel_that_never_changes_has_a_gradient_that_is_a_number() -> None:
    x = torch.zeros(1, 6, 3, requires_grad=True)
    statistics(x, torch.tensor([6])).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_a_frozen_encoder_stays_and_hears_without_dropout() -> None:
    config = dict(ENCODER, input_dropout=0.5)
    model = Classifier(ClassifierConfig("wav2vec2", config, HEADS["mean"], 4), "head").train()
    waveforms = torch.randn(1, 4000)
    first, second = model(waveforms).logits, model(waveforms).logits
    assert torch.equal(first, second) and not model.encoder.training and model.head.training
    first.sum().backward()
    assert all(value.grad is None for value in model.encoder.parameters())
    assert model.head.layer_weights is not None and model.head.layer_weights.grad is not None


def test_an_encoder_that_learns_has_gradients_unless_it_waits() -> None:
    model = classifier(HEADS["mean"], learn="all").train()
    model(torch.randn(1, 4000), frozen=True).logits.sum().backward()
    assert model.encoder.projection.weight.grad is None
    model(torch.randn(1, 4000)).logits.sum().backward()
    assert model.encoder.projection.weight.grad is not None


def test_the_x_vector_head_looks_at_cosines_only() -> None:
    """Logits are the scale times cosines: within it, and unmoved by the length of the centres."""
    model = classifier(XVECTOR)
    waveforms = torch.randn(3, 5000)
    before = model(waveforms).logits
    assert float(before.detach().abs().max()) <= XVECTOR.scale
    model.head.centres.data *= 3.0
    assert torch.allclose(model(waveforms).logits, before, atol=1e-4)


def test_context_is_what_the_layers_take_away() -> None:
    assert HeadConfig(kind="x-vector").context == 2 + 4 + 4 + 6
    assert HeadConfig().context == 1


@pytest.mark.parametrize(
    "changes", [{"tdnn_dims": (3,)}, {"projection": 0}, {"scale": 0.0}, {"margin": -1.0}, {"tdnn_kernels": (0, 1)}]
)
def test_sizes_that_no_head_has_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="head"):
        dataclasses.replace(XVECTOR, **changes).check()


def test_encoders_come_back_from_their_kind() -> None:
    for kind, config in ENCODERS.items():
        again, values = encoder_kind(build_encoder(kind, config))
        assert again == kind and encoder_kind(build_encoder(again, values)) == (again, values)
    with pytest.raises(CheckpointError, match="no encoder of kind 'other'"):
        build_encoder("other", {})
