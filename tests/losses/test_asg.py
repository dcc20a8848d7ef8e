"""ASG against a plain twin in the log domain; alone, batched and in parts; what cannot be spelt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from firstwords.losses.asg import (
    asg_loss,
    forced_path,
    full_score,
    linear_loss,
    path_score,
    scales,
    target_score,
    viterbi_path,
)


def plain_scores(emissions: Tensor, labels: list[int], transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Both log sums of one utterance (T, N), frame by frame, by torch's own gradients."""
    full = emissions[0]
    chain: list[Any] = [emissions[0, labels[0]]] + [torch.tensor(-torch.inf)] * (len(labels) - 1)
    for row in emissions[1:]:
        full = row + torch.logsumexp(full[None] + transitions, 1)
        following = []
        for place, label in enumerate(labels):
            ways = [chain[place] + transitions[label, label]]
            if place:
                ways.append(chain[place - 1] + transitions[label, labels[place - 1]])
            ways = [way for way in ways if torch.isfinite(way)]
            following.append(row[label] + torch.logsumexp(torch.stack(ways), 0) if ways else torch.tensor(-torch.inf))
        chain = following
    return torch.logsumexp(full, 0), chain[-1]


def batch(seed: int = 0, loud: float = 2.0) -> tuple[Tensor, ...]:
    """Utterances of several lengths, one with as many labels as frames, one with a single frame."""
    torch.manual_seed(seed)
    lengths, sizes = torch.tensor([23, 9, 17, 1, 12]), torch.tensor([5, 9, 1, 1, 4])
    emissions = (loud * torch.randn(5, 23, 6, dtype=torch.double)).requires_grad_()
    transitions = torch.randn(6, 6, dtype=torch.double).requires_grad_()
    return emissions, lengths, torch.randint(0, 6, (5, 9)), sizes, transitions


@pytest.mark.parametrize("loud", [2.0, 300.0])
def test_equals_its_plain_twin(loud: float) -> None:
    """Also where emissions are hundreds of nats apart, so that most paths are beyond the smallest number."""
    emissions, lengths, targets, sizes, transitions = batch(loud=loud)
    ours = asg_loss(emissions, lengths, targets, sizes, transitions, "input_sqrt")
    total = torch.zeros(())
    for row, length, labels, size in zip(emissions, lengths, targets, sizes, strict=True):
        full, spelt = plain_scores(row[:length], labels[:size].tolist(), transitions)
        total = total + (full - spelt) / length.double().sqrt()
    assert ours.sum().item() == pytest.approx(total.item(), rel=1e-9)
    found = torch.autograd.grad(ours.sum(), (emissions, transitions))
    expected = torch.autograd.grad(total, (emissions, transitions))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_alone_is_batched() -> None:
    """Whatever lies beyond an utterance's frames and labels, bit for bit but for the order of sums."""
    emissions, lengths, targets, sizes, transitions = batch()
    together = asg_loss(emissions, lengths, targets, sizes, transitions)
    gradient = torch.autograd.grad(together.sum(), emissions)[0]
    for number, (length, size) in enumerate(zip(lengths.tolist(), sizes.tolist(), strict=True)):
        own = emissions[number : number + 1, :length].detach().requires_grad_()
        alone = asg_loss(own, lengths[number][None], targets[number : number + 1, :size], sizes[number][None],
                         transitions)  # fmt: skip
        torch.testing.assert_close(alone[0], together[number], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(alone.sum(), own)[0][0], gradient[number, :length], rtol=1e-11, atol=1e-12
        )
        assert not gradient[number, length:].any()


def test_what_cannot_be_spelt() -> None:
    """More labels than frames, or none: infinite, with no gradient, and neighbours are as ever."""
    emissions, lengths, targets, sizes, transitions = batch()
    sizes[1], sizes[4] = 10, 0
    targets = torch.nn.functional.pad(targets, (0, 1))
    losses = asg_loss(emissions, lengths, targets, sizes, transitions)
    assert torch.isinf(losses).tolist() == [False, True, False, False, True]
    usable = losses[torch.isfinite(losses)]
    gradients = torch.autograd.grad(usable.sum(), (emissions, transitions))
    assert all(torch.isfinite(one).all() for one in gradients)
    assert not gradients[0][[1, 4]].any() and gradients[0][[0, 2]].any()
    assert forced_path(emissions, lengths, targets, sizes, transitions)[1].eq(-1).all()


def test_gradients_are_shares_of_frames() -> None:
    """Each frame of either sum gives its labels shares that add up to one; each step too."""
    emissions, lengths, targets, sizes, transitions = batch()
    for score in (
        full_score(emissions, lengths, transitions),
        target_score(emissions, lengths, targets, sizes, transitions),
    ):
        frames, steps = torch.autograd.grad(score.sum(), (emissions, transitions))
        torch.testing.assert_close(frames.sum((1, 2)), lengths.double())
        assert float(steps.sum()) == pytest.approx(float((lengths - 1).sum()))


def test_best_paths() -> None:
    """No other path scores higher: by enumeration."""
    torch.manual_seed(3)
    emissions, transitions = torch.randn(1, 5, 3).double(), torch.randn(3, 3).double()
    lengths = torch.tensor([5])
    every = torch.cartesian_prod(*[torch.arange(3)] * 5)
    scores = torch.cat([path_score(emissions, lengths, path[None], transitions) for path in every])
    assert torch.equal(viterbi_path(emissions, lengths, transitions)[0], every[scores.argmax()])
    target = torch.tensor([[2, 0, 1]])
    spelling = torch.tensor([torch.equal(path.unique_consecutive(), target[0]) for path in every])
    best = every[spelling][scores[spelling].argmax()]
    assert torch.equal(forced_path(emissions, lengths, target, torch.tensor([3]), transitions)[0], best)
    assert float(torch.logsumexp(scores, 0)) == pytest.approx(float(full_score(emissions, lengths, transitions)))


def test_linear_loss_is_that_of_the_stretched_path() -> None:
    emissions, lengths, targets, sizes, transitions = batch()
    ours = linear_loss(emissions, lengths, targets, sizes, transitions, "none")
    for number, (length, size) in enumerate(zip(lengths.tolist(), sizes.tolist(), strict=True)):
        path = torch.tensor([[int(targets[number, t * size // length]) for t in range(length)]])
        own, whole = emissions[number : number + 1, :length], lengths[number][None]
        expected = full_score(own, whole, transitions) - path_score(own, whole, path, transitions)
        assert ours[number].item() == pytest.approx(expected.item())
    assert torch.isfinite(torch.autograd.grad(ours.sum(), transitions)[0]).all()


def test_scales() -> None:
    lengths, sizes = torch.tensor([16, 4]), torch.tensor([4, 1])
    found = {mode: scales(mode, lengths, sizes).tolist()  # type: ignore[arg-type]
             for mode in ("none", "input", "input_sqrt", "target", "target_sqrt")}  # fmt: skip
    assert found == {
        "none": [1, 1], "input": [1 / 16, 1 / 4], "input_sqrt": [1 / 4, 1 / 2], "target": [1 / 4, 1],
        "target_sqrt": [1 / 2, 1],
    }  # fmt: skip
