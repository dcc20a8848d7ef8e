"""Additive-margin softmax against its equation, written out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from firstwords.losses.additive_margin import additive_margin_logits, cosines


def test_equation_6() -> None:
    torch.manual_seed(0)
    vectors, centres, classes = torch.randn(4, 6), torch.randn(6, 3), torch.tensor([0, 2, 1, 2])
    scale, margin = 30.0, 0.4
    cosine = cosines(vectors, centres)
    loss = F.cross_entropy(additive_margin_logits(cosine, classes, scale, margin), classes)
    expected = []
    for row, own in enumerate(classes.tolist()):
        angles = [
            float(vectors[row] @ centres[:, c] / vectors[row].norm() / centres[:, c].norm()) for c in range(3)
        ]  # fmt: skip
        top = math.exp(scale * (angles[own] - margin))
        others = sum(math.exp(scale * angles[c]) for c in range(3) if c != own)
        expected.append(-math.log(top / (top + others)))
    assert math.isclose(float(loss), sum(expected) / 4, rel_tol=1e-5)


def test_without_margin_it_is_the_softmax_of_scaled_cosines() -> None:
    cosine = torch.tensor([[0.2, -0.5]])
    assert torch.equal(additive_margin_logits(cosine, torch.tensor([1]), 10.0, 0.0), 10 * cosine)
