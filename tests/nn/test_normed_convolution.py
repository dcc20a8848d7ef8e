"""The sliced convolutions equal torch's own modules, however small the slices; sparse similarities equal plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.losses.noise_contrastive import NoiseContrastConfig, draw_all_distractors, similarities
from firstwords.nn import fused_convolution
from firstwords.nn.group_norm import group_norm
from firstwords.nn.normed_convolution import ACTIVATIONS, Padding, Raw, convolve

SHAPES = [(3, 1, "replicate"), (4, 1, "zero"), (1, 1, "zero"), (4, 2, ""), (8, 4, ""), (5, 2, "")]


def close(ours: Tensor, theirs: Tensor, name: str = "") -> None:
    scale = max(1.0, float(theirs.detach().abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=3e-5 * scale, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("slice_bytes", [1, 1 << 21])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("kernel", "stride", "mode"), SHAPES)
def test_two_layers(
    kernel: int, stride: int, mode: str, activation: str, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and every gradient of two convolutions with norms and activations, utterances of different lengths."""
    monkeypatch.setattr(fused_convolution, "SLICE_BYTES", slice_bytes)
    torch.manual_seed(0)
    convolutions = [nn.Conv1d(5, 6, kernel, stride), nn.Conv1d(6, 4, kernel, stride, bias=False)]
    norms = [nn.GroupNorm(1, 6), nn.GroupNorm(1, 4, affine=False)]
    nn.init.normal_(norms[0].weight)
    nn.init.normal_(norms[0].bias)
    parameters = [p for module in (*convolutions, *norms) for p in module.parameters()]
    x = torch.randn(3, 130, 5, requires_grad=True)
    lengths = [torch.tensor([130, 90, 61])]
    padding = Padding(kernel - 1, mode) if mode else Padding()
    for _ in convolutions:
        lengths.append((lengths[-1] + padding.frames - kernel) // stride + 1)

    def theirs() -> Tensor:
        value = x
        for convolution, norm, frames in zip(convolutions, norms, lengths[1:], strict=True):
            value = convolution(padding.apply(value).transpose(1, 2)).transpose(1, 2)
            value = ACTIVATIONS[activation](group_norm(value, frames, norm))
        return value

    def ours() -> Tensor:
        raw = Raw(x)
        for convolution, norm, frames in zip(convolutions, norms, lengths[1:], strict=True):
            raw = convolve(raw, convolution.weight, convolution.bias, stride, padding, frames, norm, activation)
        return raw.applied()

    value, expected = ours(), theirs()
    close(value, expected)
    slope = torch.randn_like(value) * (torch.arange(value.shape[1]) < lengths[-1][:, None])[:, :, None]
    for number, (mine, their) in enumerate(
        zip(
            torch.autograd.grad(value, [x, *parameters], slope),
            torch.autograd.grad(expected, [x, *parameters], slope),
            strict=True,
        )
    ):
        close(mine, their, f"gradient {number}")


def test_bfloat16_stays_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_convolution, "SLICE_BYTES", 4096)
    torch.manual_seed(0)
    convolution, norm = nn.Conv1d(32, 32, 3), nn.GroupNorm(1, 32)
    x, lengths = torch.randn(2, 200, 32), torch.tensor([200, 120])
    results: list[Any] = []
    for chosen in (False, True):
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen):
            raw = convolve(
                Raw(x), convolution.weight, convolution.bias, 1, Padding(2, "replicate"), lengths, norm, "relu"
            )
            value = raw.applied()
        value.float().square().sum().backward()
        results.append((value.detach().float(), convolution.weight.grad))
    for full, half in zip(*results, strict=True):
        assert float((full - half).abs().max()) < 0.03 * float(full.abs().max())


@pytest.mark.parametrize(("own", "others"), [(4, 0), (3, 2), (0, 3), (30, 2)])
def test_similarities(own: int, others: int) -> None:
    """Only the wanted values of the product, and their gradients, as gathered vectors would give them."""
    torch.manual_seed(0)
    batch, frames, steps, dim, offset = 2, 12, 3, 6, 2
    predictions = torch.randn(batch, frames, steps, dim, requires_grad=True)
    targets = torch.randn(batch, frames, dim, requires_grad=True)
    config = NoiseContrastConfig(distractors=own, batch_distractors=others)
    drawn = draw_all_distractors([12, 9], frames, config, [np.random.default_rng(n) for n in range(2)])
    found = similarities(predictions, targets, drawn, offset)
    slope = torch.randn_like(found)
    expected = torch.zeros_like(found)
    for b in range(batch):
        for t in range(frames):
            for k in range(steps):
                target = t + offset + k
                if target >= frames:
                    slope[b, t, k] = 0
                    expected[b, t, k] = found[b, t, k].detach()
                    continue
                candidates = [
                    targets[b, target],
                    *targets[b, drawn.own[b, target]],
                    *targets.flatten(0, 1)[drawn.others[b, target]],
                ]
                expected[b, t, k] = F.linear(predictions[b, t, k], torch.stack(candidates))
    close(found, expected)
    for mine, their in zip(
        torch.autograd.grad(found, [predictions, targets], slope),
        torch.autograd.grad(expected, [predictions, targets], slope),
        strict=True,
    ):
        close(mine, their)


def test_no_frame_is_its_own_distractor() -> None:
    config = NoiseContrastConfig(distractors=6, batch_distractors=6)
    frames = [9, 5]
    drawn = draw_all_distractors(frames, 9, config, [np.random.default_rng(n) for n in range(2)])
    valid = {b * 9 + t for b, count in enumerate(frames) for t in range(count)}
    for b, count in enumerate(frames):
        for t in range(count):
            assert t not in drawn.own[b, t] and int(drawn.own[b, t].max()) < count
            assert b * 9 + t not in drawn.others[b, t] and set(drawn.others[b, t].tolist()) <= valid
