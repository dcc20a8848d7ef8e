"""Linear maps to a mixture: the likeliest, found again where it is known, and no further than few frames allow."""

from __future__ import annotations

import torch
from torch import Tensor

from firstwords.nn.cmllr import PRIOR, Affine, improved
from firstwords.nn.gaussians import Mixture

DIM, ORDERS = 3, 2


def shared() -> Mixture:
    random = torch.Generator().manual_seed(5)
    return Mixture(
        3 * torch.randn(8, DIM * ORDERS, generator=random),
        torch.rand(8, DIM * ORDERS, generator=random) * 0.4 + 0.1,
        torch.full((8,), 1 / 8).log(),
    )


def spoken(count: int, by: Affine, seed: int = 0) -> Tensor:
    """Frames (N, R, D) that `by` maps to what the mixture expects."""
    random = torch.Generator().manual_seed(seed)
    mixture = shared()
    which = torch.randint(8, (count,), generator=random)
    noise = torch.randn(count, DIM * ORDERS, generator=random)
    ideal = (mixture.means[which] + noise * mixture.variances[which].sqrt()).view(count, ORDERS, DIM).double()
    ideal[:, 0] -= by.offset
    return (ideal @ torch.linalg.inv(by.matrix).T).float()


def somebody() -> Affine:
    matrix = torch.eye(DIM, dtype=torch.float64) + 0.15 * torch.tensor([[0, 1, -1], [1, 0.5, 0], [-1, 1, -0.5]])
    return Affine(matrix, torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64))


def test_a_known_map_is_found_again_and_every_round_is_likelier() -> None:
    truth, affine = somebody(), Affine.identity(DIM)
    streams, mixture = spoken(6000, truth), shared()
    for _ in range(25):
        better = improved(affine, streams, mixture, affine)
        assert better.score(streams, mixture) >= affine.score(streams, mixture) - 1e-5
        affine = better
    torch.testing.assert_close(affine.matrix, truth.matrix, atol=0.03, rtol=0)
    torch.testing.assert_close(affine.offset, truth.offset, atol=0.03, rtol=0)


def test_where_the_rounds_end_the_gradient_is_zero() -> None:
    """The plain twin: autograd on the log likelihood with the prior's pull."""
    streams, mixture, prior = spoken(800, somebody()), shared(), Affine.identity(DIM)
    affine = prior
    for _ in range(200):
        affine = improved(affine, streams, mixture, prior)
    matrix, offset = affine.matrix.clone().requires_grad_(), affine.offset.clone().requires_grad_()
    x = streams.double()
    mapped = x @ matrix.T
    mapped = torch.cat([mapped[:, :1] + offset, mapped[:, 1:]], 1).flatten(1)
    normal = torch.distributions.Normal(mixture.means.double(), mixture.variances.double().sqrt())
    shares = normal.log_prob(mapped[:, None]).sum(2) + mixture.log_weights.double()
    likelihood = shares.logsumexp(1).sum() + ORDERS * len(x) * torch.linalg.slogdet(matrix)[1]
    precision = (shares.softmax(1) @ (1 / mixture.variances.double()))[:, :DIM].sum(0).detach()
    away = (matrix - prior.matrix).square().sum(1) + (offset - prior.offset).square()
    objective = likelihood - 0.5 * PRIOR / len(x) * (precision * away).sum()
    for gradient in torch.autograd.grad(objective, (matrix, offset)):
        assert float(gradient.abs().max()) < 1e-3 * len(x)
    assert float(away.detach().sum()) > 0.01  # the prior did not decide it


def test_few_frames_do_not_lead_far() -> None:
    for count in (1, 5, 40):
        affine = Affine.identity(DIM)
        for _ in range(10):
            affine = improved(affine, spoken(count, Affine.identity(DIM), seed=count), shared(), Affine.identity(DIM))
        assert float((affine.matrix - torch.eye(DIM)).abs().max()) < 0.5, count


def test_frames_that_never_change_are_borne() -> None:
    affine = Affine.identity(DIM)
    for _ in range(5):
        affine = improved(affine, torch.zeros(100, ORDERS, DIM), shared(), Affine.identity(DIM))
    assert bool(torch.isfinite(affine.matrix).all() and torch.isfinite(affine.offset).all())


def test_maps_after_each_other() -> None:
    first, second, x = somebody(), Affine(2 * somebody().matrix, torch.ones(DIM).double()), torch.randn(9, ORDERS, DIM)
    torch.testing.assert_close(second.after(first)(x), second(first(x)))
