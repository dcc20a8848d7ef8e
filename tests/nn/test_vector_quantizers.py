"""Codebooks shared or apart, scored or by distance: the nearest entry, the gradients' ways, padding without effect."""

from __future__ import annotations

import pytest
import torch

from firstwords.errors import ConfigError
from firstwords.nn.kmeans_quantizer import KMeansQuantizer
from firstwords.nn.quantizer import GumbelQuantizer, QuantizerConfig


def kmeans(shared: bool) -> KMeansQuantizer:
    torch.manual_seed(0)
    quantizer = KMeansQuantizer(QuantizerConfig(groups=2, entries=7, shared=shared), 12, commitment=0.25)
    torch.nn.init.normal_(quantizer.codebooks)
    return quantizer


@pytest.mark.parametrize("shared", [True, False])
def test_nearest_entry(shared: bool) -> None:
    quantizer = kmeans(shared)
    x = torch.randn(50, 12)
    books = quantizer.codebooks.expand(2, -1, -1)
    distances = (x.view(50, 2, 1, 6) - books).norm(dim=-1)  # plain: every difference
    codes = quantizer.nearest(x)
    assert torch.equal(codes, distances.argmin(-1))
    vectors = quantizer(x).vectors.view(50, 2, 6)
    for group in range(2):
        torch.testing.assert_close(vectors[:, group], books[group][codes[:, group]])


def test_kmeans_gradients() -> None:
    """What is done with the vectors reaches the frames alone, unchanged; codebooks learn from `squares` alone."""
    quantizer = kmeans(shared=True)
    x = torch.randn(9, 12, requires_grad=True)
    weights = torch.randn(9, 12)
    (quantizer(x).vectors * weights).sum().backward()
    assert x.grad is not None and quantizer.codebooks.grad is None
    torch.testing.assert_close(x.grad, weights)
    x.grad = None
    result = quantizer(x)
    assert result.squares is not None
    result.squares.backward()
    difference = x.detach() - result.vectors.detach()
    torch.testing.assert_close(x.grad, 2 * 0.25 * difference)
    assert quantizer.codebooks.grad is not None
    torch.testing.assert_close(quantizer.codebooks.grad.sum((0, 1)), -2 * difference.view(9, 2, 6).sum((0, 1)))


def test_projection_alone_and_padded() -> None:
    """And it is the grouped convolution and group norm that it is written in place of."""
    quantizer = kmeans(shared=True)
    torch.nn.init.normal_(quantizer.norm.weight)
    torch.nn.init.normal_(quantizer.norm.bias)
    latents, lengths = torch.randn(3, 20, 12), torch.tensor([20, 7, 13])
    together = quantizer.project(latents, lengths)
    for row, count in enumerate(lengths.tolist()):
        alone = quantizer.norm(quantizer.projection(latents[row : row + 1, :count].transpose(1, 2))).transpose(1, 2)
        torch.testing.assert_close(together[row, :count], alone[0], atol=1e-5, rtol=1e-4)


def test_shared_codebook_serves_every_group() -> None:
    shared = GumbelQuantizer(QuantizerConfig(groups=2, entries=5, shared=True), input_dim=8, dim=6)
    apart = GumbelQuantizer(QuantizerConfig(groups=2, entries=5), input_dim=8, dim=6)
    assert shared.codebooks.shape == (1, 5, 3) and apart.codebooks.shape == (2, 5, 3)
    weights = {name: value.clone() for name, value in shared.state_dict().items()}
    weights["codebooks"] = weights["codebooks"].expand(2, -1, -1)
    apart.load_state_dict(weights)
    x, noise = torch.randn(30, 8), torch.randn(30, 2, 5)
    for training in (True, False):
        ours, theirs = shared.train(training)(x, 0.7, noise), apart.train(training)(x, 0.7, noise)
        assert torch.equal(ours.vectors, theirs.vectors) and torch.equal(ours.codes, theirs.codes)
    shared.train()(x, 0.7, noise).vectors.square().sum().backward()
    apart.train()(x, 0.7, noise).vectors.square().sum().backward()
    assert shared.codebooks.grad is not None and apart.codebooks.grad is not None
    torch.testing.assert_close(shared.codebooks.grad[0], apart.codebooks.grad.sum(0))


def test_deeper_projections_do_not_start_saturated() -> None:
    """N(0, 1) weights behind an inner layer would make every choice certain (reference: pitfalls)."""
    torch.manual_seed(0)
    deep = GumbelQuantizer(QuantizerConfig(depth=2, factor=2), input_dim=64, dim=64)
    assert deep.inner[0].weight.shape == (128, 64)  # type: ignore[union-attr]
    shares = deep.entry_logits(torch.randn(20, 64)).softmax(-1)
    assert float(shares.detach().max()) < 0.05


@pytest.mark.parametrize(
    ("config", "commitment", "said"),
    [
        (QuantizerConfig(groups=5), 0.25, "multiple of groups"),
        (QuantizerConfig(dim=8), 0.25, "found 8"),
        (QuantizerConfig(entries=0), 0.25, "at least 1"),
        (QuantizerConfig(), -1.0, "commitment and start"),
    ],
)
def test_impossible_settings(config: QuantizerConfig, commitment: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        KMeansQuantizer(config, 12, commitment)


@pytest.mark.parametrize("shared", [True, False])
def test_starts_from_frames(shared: bool) -> None:
    """Every entry is a part of some frame, all different, and each is the nearest to its own."""
    quantizer = kmeans(shared)
    x = torch.randn(40, 12)
    quantizer.start_from(x, torch.Generator().manual_seed(1))
    parts = x.view(40, 2, 6)
    for group, codebook in enumerate(quantizer.codebooks):
        among = parts.flatten(0, 1) if shared else parts[:, group]
        distances = torch.cdist(codebook, among)
        assert float(distances.min(1).values.detach().max()) < 1e-2 and len(set(distances.argmin(1).tolist())) == 7
    assert len(quantizer.nearest(x).unique()) == 7
