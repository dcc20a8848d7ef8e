"""wav2vec: an utterance gives the same alone and in a padded batch, and context never hears what follows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tone
from torch import Tensor, nn

from firstwords.losses.noise_contrastive import draw_all_distractors, noise_contrastive_loss
from firstwords.models.wav2vec import StepPredictions, Wav2Vec, Wav2VecConfig, Wav2VecEncoder, Wav2VecEncoderConfig
from firstwords.nn import context_network
from firstwords.nn.context_network import ContextNetworkConfig
from firstwords.nn.latent_encoder import LatentEncoderConfig

LENGTHS = [6400, 465, 3333, 5001, 719]
FAMILIES = ["base", "large", "options"]


def config(family: str) -> Wav2VecEncoderConfig:
    """The published shapes, narrow; and every switch the other way round."""
    if family == "options":
        return Wav2VecEncoderConfig(
            LatentEncoderConfig(
                (8, 8, 8, 12, 12), activation="gelu", affine_norm=False, skip_connections=True, log_compression=False
            ),
            ContextNetworkConfig(
                (10, 12), (2, 3), "gelu", bias=False, affine_norm=False, padding="zero", skip_connections=True
            ),
        )
    large = family == "large"
    return Wav2VecEncoderConfig(
        LatentEncoderConfig((8,) * (7 if large else 5), (10, 8, 4, 4, 4, 1, 1)[: 7 if large else 5],
                            (5, 4, 2, 2, 2, 1, 1)[: 7 if large else 5]),
        ContextNetworkConfig((8,) * 5, (2, 3, 4, 5, 6) if large else (3,) * 5, skip_connections=large),
    )  # fmt: skip


def batch() -> tuple[list[Tensor], Tensor, Tensor]:
    """Waveforms alone, padded with noise, and their lengths."""
    alone = [torch.from_numpy(tone(length / 16_000, seed)) for seed, length in enumerate(LENGTHS)]
    padded = torch.randn(len(alone), max(LENGTHS), generator=torch.Generator().manual_seed(1))
    for row, waveform in zip(padded, alone, strict=True):
        row[: len(waveform)] = waveform
    return alone, padded, torch.tensor(LENGTHS)


def seeded(model: nn.Module) -> nn.Module:
    """With norms that do something, as after training."""
    for name, value in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(value, 1 if name.endswith("weight") else 0, 0.2)
    return model


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5 * max(1.0, float(theirs.detach().abs().max())))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_alone_and_padded(family: str, layer: int | None) -> None:
    torch.manual_seed(0)
    model = seeded(Wav2VecEncoder(config(family))).eval()
    alone, padded, lengths = batch()
    with torch.no_grad():
        together = model(padded, lengths, layer=layer)
        for row, waveform, frames in zip(together.features, alone, together.lengths.tolist(), strict=True):
            features = model(waveform[None], layer=layer).features[0]
            assert len(features) == frames
            close(row[:frames], features)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_alone_and_padded(family: str) -> None:
    """The loss and gradient of a padded batch are the sums of its utterances'."""
    torch.manual_seed(0)
    model = seeded(Wav2Vec(Wav2VecConfig(config(family), steps=4)))
    alone, padded, lengths = batch()

    def learn(waveforms: Tensor, sizes: Tensor, seeds: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        result = model(waveforms, sizes)
        randoms = [np.random.default_rng(seed) for seed in seeds]
        contrast = model.config.contrast
        chosen = draw_all_distractors(result.lengths.tolist(), result.targets.shape[1], contrast, randoms)
        found = noise_contrastive_loss(
            result.predictions, result.targets, result.lengths, chosen, model.offset, contrast
        )
        found.loss.sum().backward()
        sums = torch.stack([found.loss.detach(), found.correct, found.predictions])
        return sums, {name: value.grad.clone() for name, value in model.named_parameters()}

    together, gradients = learn(padded, lengths, list(range(len(alone))))
    heard = [(number, w) for number, w in enumerate(alone) if model.encoder.frames(len(w)) > model.offset]
    parts = [learn(w[None], torch.tensor([len(w)]), [number]) for number, w in heard]
    close(together, torch.stack([sums for sums, _ in parts]).sum(0))
    assert together[2].tolist() == [
        sum(max(0, int(model.encoder.frames(n)) - 3 - k) for n in LENGTHS) for k in range(4)
    ]
    for name, value in gradients.items():
        close(value, torch.stack([part[name] for _, part in parts]).sum(0))


def test_context_is_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the norms, whose statistics are of the whole utterance, context depends on the past alone."""
    model = Wav2VecEncoder(config("large"))
    latents = torch.randn(1, 30, 8)
    assert model.context_network.receptive_field == 1 + sum(k - 1 for k in (2, 3, 4, 5, 6))
    changed = latents.clone()
    changed[:, 20:] += torch.randn(1, 10, 8)
    monkeypatch.setattr(context_network, "group_norm", lambda x, lengths, norm: x)
    whole = torch.tensor([30])
    before, after = (model.context_network(x, whole) for x in (latents, changed))
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_stock_modules(family: str) -> None:
    """The products on channels-last views are torch's convolutions, norms, and paddings."""
    torch.manual_seed(0)
    model = seeded(Wav2VecEncoder(config(family))).eval()
    features, context = model.feature_encoder, model.context_network
    activation = F.gelu if family == "options" else F.relu
    waveforms = torch.stack([torch.from_numpy(tone(0.3, seed)) for seed in range(2)])
    x = waveforms[:, None]
    for layer, norm in zip(features.layers, features.norms, strict=True):
        result = activation(norm(layer(x)))
        if family == "options" and x.shape[1] == result.shape[1]:
            frames = result.shape[2]
            result = (result + x[..., :: x.shape[2] // frames][..., :frames]) * 0.5**0.5
        x = result
    if family != "options":
        x = (x.abs() + 1).log()
    with torch.no_grad():
        close(model(waveforms, layer=0).features.transpose(1, 2), x)
    for number, (layer, norm) in enumerate(zip(context.layers, context.norms, strict=True)):
        mode = {"mode": "constant"} if family == "options" else {"mode": "replicate"}
        result = activation(norm(layer(F.pad(x, (layer.kernel_size[0] - 1, 0), **mode))))
        if family != "base":
            residual = x
            if str(number) in context.residuals:
                residual = context.residuals[str(number)](x.transpose(1, 2)).transpose(1, 2)
            result = (result + residual) * 0.5**0.5
        x = result
    with torch.no_grad():
        close(model(waveforms).features.transpose(1, 2), x)


def test_step_predictions_are_a_transposed_convolution() -> None:
    ours = StepPredictions(6, 5, 3)
    stock = nn.ConvTranspose2d(6, 5, (1, 3))
    stock.weight.data = ours.weight.data.permute(2, 1, 0)[:, :, None]
    stock.bias.data = ours.bias.data
    context = torch.randn(2, 7, 6)
    close(ours(context), stock(context.transpose(1, 2)[..., None]).permute(0, 2, 3, 1))


def test_sizes_of_the_published_models() -> None:
    """Parameters that reference implementations report: 15.49 million base, 32.54 million large."""
    large = Wav2VecEncoderConfig(
        LatentEncoderConfig((512,) * 7, (10, 8, 4, 4, 4, 1, 1), (5, 4, 2, 2, 2, 1, 1)),
        ContextNetworkConfig((512,) * 12, tuple(range(2, 14)), skip_connections=True),
    )
    with torch.device("meta"):
        base, large_model = Wav2Vec(Wav2VecConfig()), Wav2Vec(Wav2VecConfig(large))
    counts = [sum(value.numel() for value in model.parameters()) for model in (base, large_model)]
    assert [round(count / 1e6, 2) for count in counts] == [15.49, 32.54]
    assert base.offset == large_model.offset == 3
    assert base.encoder.context_network.receptive_field == 19
    assert large_model.encoder.context_network.receptive_field == 79
    assert base.encoder.frames(16_000) == 98 and base.encoder.frames(150_000) == 935
