"""Our span masks against fairseq's compute_mask_indices: the same statistics, since random streams cannot agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from golden import Case, cases

from firstwords.nn.masking import SpanMaskConfig, draw_mask, thin_masks

RESULTS = [(case, name) for case in cases("compute_mask_indices") for name in case.info["results"]]
FRACTION, FRACTION_OF_MANY, MANY_ROWS = 0.01, 0.005, 2000
RUN, VARIATION, PROBABILITY = 0.03, 0.05, 0.05
"""The case's `tolerance`, which is written for a reader."""
STANDARD_ERRORS = 4
"""Allowed besides, where their draws are too few for the stated tolerance (rows of a draw hang together)."""
MORE = 3
"""We draw so many times as often as they did: one sampling error less to allow for."""


def config_of(args: dict[str, Any]) -> SpanMaskConfig:
    """What is not said has the default of compute_mask_indices."""
    return SpanMaskConfig(
        probability=args["p"],
        length=args["M"],
        distribution=args.get("mask_type", "static"),
        other=args.get("mask_other", 0.0),
        overlap=not args.get("no_overlap", False),
        min_space=args.get("min_space", 0),
        min_spans=args.get("min_masks", 0),
        equalize=args.get("require_same_masks", True),
        dropout=args.get("mask_dropout", 0.0),
    )


@dataclass
class Drawn:
    """Masks drawn as one case's arguments say."""

    masks: np.ndarray
    """(draws, B, T) bool, False beyond a row's length."""
    lens: np.ndarray
    """(B,)."""
    config: SpanMaskConfig

    def _edges(self) -> np.ndarray:
        return np.diff(np.pad(self.masks, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)

    def run_lengths(self) -> np.ndarray:
        """Frames of every maximal run of masked frames."""
        edges = self._edges()
        return np.nonzero(edges == -1)[2] - np.nonzero(edges == 1)[2]

    def run_counts(self) -> np.ndarray:
        """(draws,) runs in all rows of each draw."""
        return (self._edges() == 1).sum((1, 2))


@pytest.fixture(scope="module", params=RESULTS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def compared(request: pytest.FixtureRequest) -> tuple[Case, str, Drawn]:
    case, name = request.param
    args = case.info["results"][name]["args"]
    config = config_of(args)
    lens = args.get("lens") or [args["T"]] * args["B"]
    random = np.random.default_rng(case.info["seed"])
    drawn = np.zeros((MORE * args["draws"], args["B"], args["T"]), dtype=bool)
    for batch in drawn:
        masks = [draw_mask(size, config, random) for size in lens]
        if config.equalize or config.dropout:
            masks = thin_masks(masks, config, random)
        for row, mask in zip(batch, masks, strict=True):
            row[: len(mask)] = mask
    return case, name, Drawn(drawn, np.array(lens), config)


def test_masked_share(compared: tuple[Case, str, Drawn]) -> None:
    case, name, drawn = compared
    expected = case.info["results"][name]
    shares = drawn.masks.sum(2) / drawn.lens
    rows = expected["args"]["draws"] * expected["args"]["B"]
    assert shares.mean() == pytest.approx(
        expected["mean_fraction"], abs=FRACTION_OF_MANY if rows >= MANY_ROWS else FRACTION
    )
    assert shares.mean(0) == pytest.approx(np.array(expected["per_row_mean_fraction"]), abs=FRACTION)
    assert shares.std() == pytest.approx(expected["std_fraction"], abs=FRACTION)
    counts = drawn.masks.sum(2)
    assert bool((counts == counts[:, :1]).all()) == expected["all_rows_equal_count"]
    assert counts.mean() == pytest.approx(float(case[f"{name}/count_min_mean_max"][1]), rel=0.02)


def test_nothing_masked_in_padding(compared: tuple[Case, str, Drawn]) -> None:
    case, name, drawn = compared
    outside = np.arange(drawn.masks.shape[2]) >= drawn.lens[:, None]
    assert (drawn.masks & outside).sum() == case.info["results"][name]["masked_in_padding"] == 0


def test_run_lengths(compared: tuple[Case, str, Drawn]) -> None:
    case, name, drawn = compared
    expected = case.info["results"][name]
    runs = drawn.run_lengths()
    masked, number = drawn.masks.sum((1, 2)), drawn.run_counts()
    error = STANDARD_ERRORS * (MORE + 1) ** 0.5 / len(number) ** 0.5 / number.mean()
    mean, spread = runs.mean(), (masked - runs.mean() * number).std()
    assert mean == pytest.approx(expected["mean_run"], abs=max(RUN * mean, error * spread))
    per_row = number.mean() / drawn.masks.shape[1]
    assert per_row == pytest.approx(expected["runs_per_row"], rel=max(RUN, error * number.std()))
    theirs = case[f"{name}/run_length_histogram"].numpy().astype(float)
    ours = np.bincount(np.minimum(runs, len(theirs) - 1), minlength=len(theirs)).astype(float)
    variation = np.abs(ours / ours.sum() - theirs / theirs.sum()).sum() / 2
    assert variation < VARIATION


def test_every_position_as_often(compared: tuple[Case, str, Drawn]) -> None:
    case, name, drawn = compared
    theirs = case[f"{name}/position_probability"].numpy()
    ours = drawn.masks.mean((0, 1))
    rows = drawn.masks.shape[0] * drawn.masks.shape[1]
    error = np.sqrt(theirs * (1 - theirs) * (MORE + 1) / rows)
    assert (np.abs(ours - theirs) <= np.maximum(PROBABILITY, (STANDARD_ERRORS + 1) * error)).all()
