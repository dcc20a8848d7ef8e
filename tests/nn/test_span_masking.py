"""Spans lie within the utterance, whatever the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from firstwords.nn.masking import SpanMaskConfig, draw_mask, draw_spans, thin_masks

SIZES = [*range(1, 30), 49, 77, 150, 499]


def configurations() -> Iterator[SpanMaskConfig]:
    distributions = (("static", 0.0), ("uniform", 2.0), ("normal", 4.0), ("poisson", 0.0))
    for (distribution, other), overlap, probability, length, fewest in product(
        distributions, (True, False), (0.0, 0.2, 0.65, 1.0), (1, 10, 64), (0, 2)
    ):
        yield SpanMaskConfig(probability, length, distribution, other, overlap, 1, fewest)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
def test_masks_fit(size: int) -> None:
    random = np.random.default_rng(size)
    for config in configurations():
        spans = draw_spans(size, config, random)
        assert len(spans.starts) == len(spans.lengths)
        assert (spans.starts >= 0).all() and (spans.starts < size).all() and (spans.lengths >= 1).all(), config
        mask, centres = spans.mask(), spans.centres()
        assert mask.shape == centres.shape == (size,)
        assert not (centres & ~mask).any(), config
        if config.probability * size >= config.length:
            assert mask.any(), config
        kept = draw_mask(size, config, random)
        assert kept.shape == (size,) and not kept.all(), config


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("space", [0, 1, 3])
def test_spans_apart(size: int, space: int) -> None:
    """Spans that may not overlap keep their distance and stay whole."""
    random = np.random.default_rng(size)
    for config in configurations():
        if config.overlap:
            continue
        config = SpanMaskConfig(
            config.probability, config.length, config.distribution, config.other, False, space, config.min_spans
        )
        spans = draw_spans(size, config, random)
        ends = spans.starts + spans.lengths
        assert (spans.starts[1:] >= ends[:-1] + space).all(), config
        assert not len(ends) or ends[-1] <= size, config


def test_thinning() -> None:
    """Masks become equal in number by losing single frames, and never gain one."""
    random = np.random.default_rng(0)
    config = SpanMaskConfig(equalize=True, dropout=0.1)
    for _ in range(50):
        masks = [draw_mask(int(size), config, random) for size in random.integers(1, 200, 5)]
        before = [mask.copy() for mask in masks]
        thinned = thin_masks(masks, config, random)
        fewest = min(int(mask.sum()) for mask in masks)
        assert {int(mask.sum()) for mask in thinned} == {fewest - round(fewest * 0.1)}
        for old, kept, new in zip(before, masks, thinned, strict=True):
            assert np.array_equal(old, kept) and not (new & ~old).any()


def test_number_of_spans_is_exact_on_average() -> None:
    random = np.random.default_rng(0)
    counts = [len(draw_spans(100, SpanMaskConfig(0.33, 10, min_spans=0), random).starts) for _ in range(4000)]
    assert set(counts) == {3, 4}
    assert np.mean(counts) == pytest.approx(3.3, abs=0.04)
