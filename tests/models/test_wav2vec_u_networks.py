"""wav2vec-U's networks against plain convolutions, one model at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.models.wav2vec_u import (
    Discriminator,
    DiscriminatorConfig,
    GeneratorConfig,
    SegmentationConfig,
    Wav2VecU,
    Wav2VecUConfig,
)
from firstwords.nn.lengths import length_mask

SYMBOLS, WIDTH = 9, 6


def plain_discriminator(model: Discriminator, member: int, sequences: Tensor) -> Tensor:
    """Step by step outputs (B, T), as the paper draws it: three causal convolutions, a GELU before the last."""
    x = sequences.transpose(1, 2)
    for layer in (model.first, model.second, model.last):
        if layer is model.last:
            x = F.gelu(x)
        padded = F.pad(x, (layer.weight.shape[-1] - 1, 0))
        x = F.conv1d(padded, layer.weight[member], layer.bias[member])
    return x[:, 0]


def plain_scores(outputs: Tensor, lengths: Tensor) -> Tensor:
    return (outputs * length_mask(lengths, outputs.shape[1])).sum(1) / lengths


@pytest.mark.parametrize("kernel", [1, 2, 6])
@pytest.mark.parametrize("steps", [3, 17])
def test_scores_are_those_of_three_convolutions(kernel: int, steps: int) -> None:
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorConfig(dim=5, kernel=kernel), SYMBOLS, members=3).double()
    sequences = torch.rand(3, 4, steps, SYMBOLS, dtype=torch.double)
    lengths = torch.randint(1, steps + 1, (3, 4))
    scores = model(sequences, lengths)
    for member in range(3):
        plain = plain_scores(plain_discriminator(model, member, sequences[member]), lengths[member])
        torch.testing.assert_close(scores[member], plain)


def test_gradient_by_the_input_and_its_own_gradients() -> None:
    """The explicit formula, and what backward makes of it, against differentiating twice."""
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorConfig(dim=5, kernel=3), SYMBOLS, members=2).double()
    sequences = torch.rand(2, 4, 11, SYMBOLS, dtype=torch.double, requires_grad=True)
    sizes = torch.tensor([11, 8])

    def penalty(gradient: Tensor) -> Tensor:
        return (gradient.norm(dim=-2) - 1).square().sum()

    kernel = model.kernel()
    ours = penalty_of_ours = model.input_gradient(model.hidden(sequences, kernel), kernel[0], sizes)
    inputs = [sequences, *model.parameters()]
    found = torch.autograd.grad(penalty(penalty_of_ours), inputs, allow_unused=True)
    total, plain = torch.zeros((), dtype=torch.double), []
    for member, size in enumerate(sizes.tolist()):
        own = sequences[member, :, :size]
        scores = plain_discriminator(model, member, own).mean(1)
        gradient = torch.autograd.grad(scores.sum(), own, create_graph=True)[0]
        plain.append(F.pad(gradient, (0, 0, 0, 11 - size)))
        total = total + penalty(gradient)
    torch.testing.assert_close(ours, torch.stack(plain))
    for mine, theirs in zip(found, torch.autograd.grad(total, inputs, allow_unused=True), strict=True):
        mine = torch.zeros(1, dtype=torch.double) if mine is None else mine
        theirs = torch.zeros_like(mine) if theirs is None else theirs
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 1), (5, 1), (1, 1), (9, 3), (4, 2), (9, 1)])
def test_generator_is_a_convolution(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    config = Wav2VecUConfig(WIDTH, SYMBOLS, GeneratorConfig(kernel, stride))
    model = Wav2VecU(config, members=2).eval()
    features, lengths = torch.randn(3, 20, WIDTH), torch.tensor([20, 17, 12])
    features = features * length_mask(lengths, 20)[..., None]
    logits, counts = model(features, lengths)
    for member in range(2):
        plain = F.conv1d(
            features.transpose(1, 2), model.generator.weight[member], stride=stride, padding=kernel // 2
        ).transpose(1, 2)
        torch.testing.assert_close(logits[member], plain)
    extra = max(0, logits.shape[2] - -(-20 // stride))
    assert counts.tolist() == [min(-(-n // stride) + extra, logits.shape[2]) for n in lengths.tolist()]


def test_an_utterance_alone_is_the_same_in_a_batch() -> None:
    torch.manual_seed(0)
    model = Wav2VecU(Wav2VecUConfig(WIDTH, SYMBOLS)).eval()
    features, lengths = torch.randn(3, 20, WIDTH), torch.tensor([20, 17, 12])
    features = features * length_mask(lengths, 20)[..., None]
    _, together = model.generate(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        _, alone = model.generate(features[row : row + 1, :length], lengths[row : row + 1])
        count = int(alone.lengths)
        assert int(together.lengths[0, row]) == count
        torch.testing.assert_close(together.logits[0, row, :count], alone.logits[0, 0, :count])


def test_members_side_by_side_are_the_models_they_were() -> None:
    config = Wav2VecUConfig(
        WIDTH, SYMBOLS, GeneratorConfig(5, 3, batch_norm=30.0, residual=True), auxiliary=4
    )  # as in 2.0
    torch.manual_seed(0)
    models = [Wav2VecU(config) for _ in range(3)]
    stacked = Wav2VecU.stacked(models)
    assert stacked.members == 3
    features, lengths = torch.randn(4, 15, WIDTH), torch.tensor([15, 15, 9, 4])
    features = features * length_mask(lengths, 15)[..., None]
    together = stacked.generate(features, lengths)[0]
    for member, model in enumerate(models):
        alone = model.generate(features, lengths)[0]
        torch.testing.assert_close(together.logits[member], alone.logits[0])
        torch.testing.assert_close(together.inner[member], alone.inner[0])  # type: ignore[index]
    torch.testing.assert_close(stacked.generator.running_mean[1], models[1].generator.running_mean[0])


def test_a_part_shares_its_weights() -> None:
    model = Wav2VecU(Wav2VecUConfig(WIDTH, SYMBOLS), members=4)
    part = model.part(slice(1, 3))
    with torch.no_grad():
        part.generator.weight.fill_(2.0)
    weight = model.generator.weight.detach()
    assert float(weight[1:3].min()) == 2.0 and float(weight[0].max()) < 1


def test_runs_are_joined() -> None:
    config = Wav2VecUConfig(WIDTH, SYMBOLS, segmentation=SegmentationConfig("join"))
    model = Wav2VecU(config)
    features, lengths = torch.randn(5, 30, WIDTH), torch.full((5,), 30)
    _, joined = model.generate(features, lengths, torch.rand(5, 31))
    chosen = joined.logits.argmax(-1)[0]
    for row, count in zip(chosen, joined.lengths[0].tolist(), strict=True):
        assert bool((row[1:count] != row[: count - 1]).all())


@pytest.mark.parametrize(
    "config",
    [
        Wav2VecUConfig(0, SYMBOLS),
        Wav2VecUConfig(WIDTH, 4),
        Wav2VecUConfig(WIDTH, SYMBOLS, auxiliary=3),
        Wav2VecUConfig(WIDTH, SYMBOLS, segmentation=SegmentationConfig(pool=0)),
    ],
)
def test_shapes_that_cannot_be(config: Wav2VecUConfig) -> None:
    with pytest.raises(ConfigError):
        Wav2VecU(config)
