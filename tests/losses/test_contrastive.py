"""The contrastive loss equals a naive one that gathers vectors; every choice lies within bounds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from firstwords.losses.contrastive import (
    ContrastConfig,
    ContrastIndices,
    contrast_indices,
    contrastive_logits,
    contrastive_loss,
    scored_frames,
)
from firstwords.nn.masking import SpanMaskConfig, draw_spans, leave_one

CONFIGS = [
    ContrastConfig(distractors=own, batch_distractors=far, candidates=candidates, scored=scored, edge_frames=3)  # type: ignore[arg-type]
    for (own, far), candidates, scored in product(
        ((7, 0), (4, 5), (0, 6)), ("masked", "all"), ("all", "edges", "centres")
    )
]


def drawn(
    sizes: list[int], config: ContrastConfig, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray], ContrastIndices]:
    """Masks, scored frames and indices of a batch."""
    randoms = [np.random.default_rng([seed, number]) for number in range(len(sizes))]
    spans = [draw_spans(size, SpanMaskConfig(0.5, 4), random) for size, random in zip(sizes, randoms, strict=True)]
    masks = [leave_one(part.mask()) for part in spans]
    scored = [scored_frames(mask, part, config) for mask, part in zip(masks, spans, strict=True)]
    return masks, scored, contrast_indices(masks, scored, max(sizes), config, randoms)


def test_frames_left_without_a_distractor_are_counted() -> None:
    """A recording with one code throughout costs nothing, and the count says that nothing was asked of it."""
    _, _, indices = drawn([30, 40], ContrastConfig(distractors=7), seed=1)
    context, targets = torch.randn(len(indices.scored), 8), torch.randn(len(indices.pool), 8)
    first = indices.pool < 40  # frames of the first recording: rows are 40 long
    codes = torch.where(first[:, None], 0, torch.arange(len(indices.pool))[:, None] + 1)
    found = contrastive_loss(contrastive_logits(context, targets, codes, indices, 0.1))
    assert int(found.unopposed) == int((indices.scored < 40).sum()) > 0
    same = contrastive_loss(contrastive_logits(context, targets, torch.zeros_like(codes), indices, 0.1))
    assert int(same.unopposed) == same.frames and float(same.loss) == 0.0


BATCHES = [[30, 22, 41], [1, 2, 3], [1], [3, 50], [2, 2], [60]]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("sizes", BATCHES, ids=str)
def test_indices_within_bounds(config: ContrastConfig, sizes: list[int]) -> None:
    """Scored frames are masked; a positive is its own frame; no distractor but padding is; all lie in the pool."""
    for seed in range(5):
        masks, scored, indices = drawn(sizes, config, seed)
        frames = max(sizes)
        groups, most, _ = indices.sizes
        masked = np.concatenate([np.flatnonzero(mask) + b * frames for b, mask in enumerate(masks)])
        inside = np.concatenate([np.arange(len(mask)) + b * frames for b, mask in enumerate(masks)])
        assert np.array_equal(indices.pool, masked if config.candidates == "masked" else inside)
        assert np.isin(indices.scored, masked).all()
        for b, (mask, part) in enumerate(zip(masks, scored, strict=True)):
            own = indices.scored[(indices.scored >= b * frames) & (indices.scored < (b + 1) * frames)] - b * frames
            enough = config.batch_distractors or (mask.sum() if config.candidates == "masked" else len(mask)) > 1
            assert np.array_equal(own, np.flatnonzero(part) if enough else [])
        frame_of = torch.full((groups * most,), -1).index_copy(0, indices.pool_slots, indices.pool).view(groups, most)
        chosen = frame_of.gather(1, indices.choices.flatten(1)).view_as(indices.choices).flatten(0, 1)
        chosen = chosen[indices.scored_slots]
        assert chosen.shape[1] == 1 + config.distractors + config.batch_distractors or not len(chosen)
        assert torch.equal(chosen[:, 0], indices.scored)
        assert (chosen >= 0).all()
        near = chosen[:, 1 : 1 + config.distractors]
        assert (near // frames == (indices.scored // frames)[:, None]).all()
        far = chosen[:, 1 + config.distractors :]
        if len(masked) > 1:
            assert (far != indices.scored[:, None]).all()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("quantized", [True, False])
def test_loss_equals_gathering(config: ContrastConfig, quantized: bool) -> None:
    torch.manual_seed(0)
    sizes = [30, 22, 41]
    _, _, indices = drawn(sizes, config, 1)
    groups, most, rows = indices.sizes
    context = torch.randn(len(indices.scored), 6, requires_grad=True)
    targets = torch.randn(len(indices.pool), 6, requires_grad=True)
    codes = torch.randint(0, 3, (len(indices.pool), 2)) if quantized else None
    loss = contrastive_loss(contrastive_logits(context, targets, codes, indices, 0.1))

    row_of = torch.full((groups * most,), -1).index_copy(0, indices.pool_slots, torch.arange(len(indices.pool)))
    chosen = row_of.view(groups, most).gather(1, indices.choices.flatten(1)).view(groups * rows, -1)
    chosen = chosen[indices.scored_slots]
    logits = F.cosine_similarity(context[:, None], targets[chosen], dim=-1) / 0.1
    names = torch.arange(len(targets))[:, None] if codes is None else codes
    same = (names[chosen[:, 1:]] == names[chosen[:, :1]]).all(-1)
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(same, -torch.inf)], 1)
    expected = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")
    torch.testing.assert_close(loss.loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss.loss, [context, targets]),
        torch.autograd.grad(expected, [context, targets]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("sizes", BATCHES, ids=str)
def test_batches_with_nothing_to_score(config: ContrastConfig, sizes: list[int]) -> None:
    """Utterances too short to be masked add nothing, and stop nothing."""
    for seed in range(3):
        _, _, indices = drawn(sizes, config, seed)
        context = torch.randn(len(indices.scored), 6, requires_grad=True)
        targets = torch.randn(len(indices.pool), 6, requires_grad=True)
        codes = torch.randint(0, 3, (len(indices.pool), 2))
        loss = contrastive_loss(contrastive_logits(context, targets, codes, indices, 0.1))
        loss.loss.backward()
        assert torch.isfinite(loss.loss) and context.grad is not None and torch.isfinite(context.grad).all()
        assert loss.frames == len(indices.scored)


def test_scored_edges_and_centres() -> None:
    mask = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1], dtype=bool)
    spans = draw_spans(12, SpanMaskConfig(), np.random.default_rng(0))
    edges = scored_frames(mask, spans, ContrastConfig(scored="edges", edge_frames=2))
    assert np.flatnonzero(edges).tolist() == [1, 2, 6, 7, 9, 10]
    whole = np.ones(5, dtype=bool)
    assert scored_frames(whole, spans, ContrastConfig(scored="edges")).all()


def test_chance_and_collapse() -> None:
    """Equal similarities cost log(K + 1) and count as wrong; no distractor left costs nothing."""
    equal = contrastive_loss(torch.zeros(5, 101))
    assert float(equal.loss) == pytest.approx(5 * np.log(101)) and int(equal.correct) == 0
    alone = contrastive_loss(torch.tensor([[3.0, -torch.inf, -torch.inf]]))
    assert float(alone.loss) == 0 and int(alone.correct) == 1
