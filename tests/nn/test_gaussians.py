"""Mixtures of Gaussians: densities as torch has them, EM that never loses, truth found again."""

from __future__ import annotations

import torch

from firstwords.nn.gaussians import VARIANCE_FLOOR, Mixture, fit_mixture


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames around three centres, and the centres."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 0.0], [4.0, 1.0], [-3.0, 5.0]])
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 20_000, True, generator=random)
    return centres[which] + torch.randn(20_000, 2, generator=random) * torch.tensor([1.0, 0.5]), centres


def test_densities_are_those_of_torch() -> None:
    random = torch.Generator().manual_seed(1)
    mixture = Mixture(
        torch.randn(4, 3, generator=random),
        torch.rand(4, 3, generator=random) + 0.1,
        torch.tensor([0.1, 0.2, 0.3, 0.4]).log(),
    )
    x = torch.randn(50, 3, generator=random)
    normal = torch.distributions.Normal(mixture.means, mixture.variances.sqrt())
    theirs = normal.log_prob(x[:, None]).sum(2) + mixture.log_weights
    torch.testing.assert_close(mixture.densities(x), theirs, rtol=1e-4, atol=1e-4)
    assert abs(mixture.score(x) - float(theirs.logsumexp(1).mean())) < 1e-4


def test_em_finds_what_was_drawn_and_never_loses() -> None:
    x, centres = drawn()
    mixture = fit_mixture(x, 3, rounds=0, seed=3)
    for _ in range(12):
        better = mixture.refitted(x)
        assert better.score(x) >= mixture.score(x) - 1e-6
        mixture = better
    order = [int((mixture.means - centre).norm(dim=1).argmin()) for centre in centres]
    torch.testing.assert_close(mixture.means[order], centres, atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.log_weights[order].exp(), torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)
    torch.testing.assert_close(mixture.variances[order], torch.tensor([[1.0, 0.25]]).expand(3, 2), atol=0, rtol=0.08)


def test_no_gaussian_shrinks_to_a_point() -> None:
    x = torch.cat([torch.randn(500, 2, generator=torch.Generator().manual_seed(0)), torch.full((300, 2), 7.0)])
    mixture = fit_mixture(x, 2, rounds=5)
    assert bool((mixture.variances >= 0.99 * VARIANCE_FLOOR * x.var(0)).all())
    assert bool(torch.isfinite(mixture.densities(x)).all())
