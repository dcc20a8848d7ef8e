"""The fast feature encoder equals the plain one, written with the library's convolution and group norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tone

from firstwords.nn import feature_encoder, fused_convolution
from firstwords.nn.feature_encoder import FeatureEncoder, FeatureEncoderConfig
from firstwords.nn.fused_convolution import Activation, activate_and_convolve
from firstwords.nn.strided_convolution import StridedConvolution, strided_products

CHANNELS = (6, 6, 8, 8, 8, 8, 8)


def encoder(norm: str, **changes: object) -> FeatureEncoder:
    torch.manual_seed(0)
    config = FeatureEncoderConfig(channels=CHANNELS, norm=norm, bias=norm == "layer", gradient_scale=1.0, **changes)  # type: ignore[arg-type]
    built = FeatureEncoder(config)
    for part in built.norms:  # as if trained
        torch.nn.init.normal_(part.weight, 1, 0.3)
        torch.nn.init.normal_(part.bias, 0, 0.3)
    return built


def plain(encoder: FeatureEncoder, waveform: torch.Tensor) -> torch.Tensor:
    """The same for one utterance (samples,), in double precision: (T, C)."""
    x = waveform.double()[None, None]
    for number, layer in enumerate(encoder.layers):
        bias = None if layer.bias is None else layer.bias.double()
        x = F.conv1d(x, layer.weight.double(), bias, layer.stride)
        if encoder.config.norm == "layer":
            norm = encoder.norms[number]
            x = F.layer_norm(x.transpose(1, 2), x.shape[1:2], norm.weight.double(), norm.bias.double()).transpose(1, 2)
        elif number == 0:
            norm = encoder.norms[0]
            x = F.group_norm(x, x.shape[1], norm.weight.double(), norm.bias.double(), norm.eps)
        x = F.gelu(x)
    return x[0].T


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(tone(samples / 16_000, seed))


WAVEFORMS = {
    "plain": sound(4321),
    "one frame": sound(400),
    "odd length": sound(1999),
    "offset": sound(3000) + 0.9,
    "very quiet": sound(3000) * 1e-6,
    "very loud": sound(3000) * 1e4,
    "silent": torch.zeros(2000),
    "constant": torch.full((2000,), 0.5),
    "one click": torch.eye(1, 2000)[0],
}


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", WAVEFORMS)
def test_forward_equals_plain(norm: str, kind: str) -> None:
    model, waveform = encoder(norm), WAVEFORMS[kind]
    with torch.no_grad():
        ours = model(waveform[None], torch.tensor([len(waveform)]))[0]
        theirs = plain(model, waveform)
    assert ours.shape == theirs.shape == (model.frames(len(waveform)), CHANNELS[-1])
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_gradients_equal_plain(norm: str) -> None:
    """Of every weight and of the waveform, over a padded batch."""
    model = encoder(norm)
    rows = [sound(1700, 1), sound(2345, 2) + 0.3, sound(401, 3)]
    lengths = torch.tensor([len(row) for row in rows])
    frames = [model.frames(len(row)) for row in rows]
    weights = [torch.randn(number, CHANNELS[-1], dtype=torch.double) for number in frames]

    def gradients(total: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(total, [waveforms, *model.parameters()]))

    waveforms = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).requires_grad_()
    ours = model(waveforms, lengths)
    mine = gradients(sum((ours[b, : frames[b]] * weights[b]).sum() for b in range(3)))  # type: ignore[arg-type]
    theirs = gradients(
        sum((plain(model, waveforms[b, : lengths[b]]) * weights[b]).sum() for b in range(3))  # type: ignore[arg-type]
    )
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_padding_changes_nothing(norm: str) -> None:
    """Whatever lies beyond an utterance, zeros or noise."""
    model = encoder(norm)
    waveform = sound(2500)
    with torch.no_grad():
        alone = model(waveform[None], torch.tensor([2500]))[0]
        for rest in (torch.zeros(3000), torch.randn(3000), torch.full((3000,), 50.0)):
            padded = model(torch.cat([waveform, rest])[None], torch.tensor([2500]))[0, : len(alone)]
            torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("stride", range(1, 6))
@pytest.mark.parametrize("spare", [0, 1, 2, 13])
def test_strided_convolution_equals_conv1d(kernel: int, stride: int, spare: int) -> None:
    """Forward and both gradients, for every relation of kernel, stride and length."""
    torch.manual_seed(kernel * 100 + stride)
    layer = StridedConvolution(3, 4, kernel, stride, bias=True)
    x = torch.randn(2, kernel + spare, 3, requires_grad=True)
    ours = strided_products(x, layer.weight, stride) + layer.bias
    theirs = F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, stride).transpose(1, 2)
    assert_same(ours, theirs, [x, *layer.parameters()])
    # The same behind an activation, whose bias is that of the convolution before.
    bias = torch.randn(3, requires_grad=True)
    ours = activate_and_convolve(x, Activation(bias=bias), 1e-5, layer.weight, stride)
    theirs = F.conv1d(F.gelu(x + bias).transpose(1, 2), layer.weight, None, stride).transpose(1, 2)
    assert_same(ours, theirs, [x, bias, layer.weight])


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Values, and gradients to `inputs`."""
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for own, other in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_every_length_from_the_shortest(norm: str) -> None:
    model = encoder(norm)
    assert model.receptive_field == 400
    assert model.frames(399) < 1
    lengths = torch.tensor([*range(400, 760), 1999, 2000, 2001, 4999, 5000])
    waveforms = torch.randn(len(lengths), 5000) * (torch.arange(5000) < lengths[:, None])
    with torch.no_grad():
        latents = model(waveforms, lengths)
    for row, length in zip(latents, lengths.tolist(), strict=True):
        frames = model.frames(length)
        assert frames >= 1
        assert torch.isfinite(row[:frames]).all()
    assert np.array_equal(model.frames(lengths), [model.frames(int(length)) for length in lengths])


def test_gradient_scale() -> None:
    """Scales what reaches the encoder's weights, and 0 keeps them as they are."""
    waveform, length = sound(2000)[None], torch.tensor([2000])
    gradients = {}
    for scale in (1.0, 0.1):
        model = encoder("group")
        object.__setattr__(model.config, "gradient_scale", scale)
        model(waveform, length).square().sum().backward()
        gradients[scale] = model.layers[0].weight.grad
    torch.testing.assert_close(gradients[0.1], gradients[1.0] * 0.1)
    frozen = encoder("group")
    object.__setattr__(frozen.config, "gradient_scale", 0.0)
    assert not frozen(waveform, length).requires_grad


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("size", [1, 1 << 9, 1 << 12])
def test_slices_change_nothing(norm: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents and gradients are the same for slices of any size, and without slices (a GPU's way)."""
    model = encoder(norm)
    lengths = torch.tensor([2345, 1701])
    waveforms = (torch.randn(2, 2345) * (torch.arange(2345) < lengths[:, None])).requires_grad_()
    weights = torch.randn(2, model.frames(2345), CHANNELS[-1])

    def outcome() -> list[torch.Tensor]:
        latents = model(waveforms, lengths)
        return [latents.detach(), *torch.autograd.grad((latents * weights).sum(), [waveforms, *model.parameters()])]

    whole = outcome()
    monkeypatch.setattr(fused_convolution, "SLICE_BYTES", size)
    sliced = outcome()
    monkeypatch.setattr(feature_encoder, "activate_and_convolve", unsliced)
    for one, other, third in zip(whole, sliced, outcome(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
        torch.testing.assert_close(one, third, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def unsliced(x, before, epsilon, weight, stride):  # type: ignore[no-untyped-def]
    return strided_products(fused_convolution.activate(x, before, epsilon, weight), weight, stride)
