"""Confidence that can be believed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstwords.decoding.confidence import (
    calibration_error,
    expected_calibration_error,
    fit_temperature,
    label_probabilities,
)
from firstwords.decoding.greedy import GreedyDecoder, greedy
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.errors import CorpusError
from firstwords.text.alphabet import Alphabet

ALPHABET = Alphabet(("<blank>", "|", "a", "b", "c"))


def test_expected_calibration_error() -> None:
    assert expected_calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)
    assert expected_calibration_error([0.9, 0.9, 0.1, 0.1], [False, False, False, False]) == pytest.approx(0.5)
    assert expected_calibration_error([1.0], [True]) == 0 and expected_calibration_error([], []) == 0


def too_sure(seed: int, factor: float) -> tuple[list[Tensor], list[Hypothesis], list[str]]:
    """Words of one letter drawn from known probabilities, and logits that are `factor` times too large."""
    generator = torch.Generator().manual_seed(seed)
    emissions, references = [], []
    for _ in range(60):
        letters = 2 * torch.randn(12, 3, generator=generator)
        truth = torch.multinomial(letters.softmax(-1), 1, generator=generator)[:, 0]
        logits = torch.full((24, 5), -30.0)
        logits[0::2, 2:] = letters * factor
        logits[1::2, 1] = 30.0
        emissions.append(logits.log_softmax(-1))
        references.append(" ".join("abc"[int(index)] for index in truth))
    return emissions, [readings[0] for readings in GreedyDecoder()(emissions)], references


def test_temperature_is_found_again() -> None:
    """Logits that were made 3 times too large need temperature 3; then confidence is as high as accuracy."""
    found = fit_temperature(*too_sure(1, 3.0), ALPHABET)
    assert found.temperature == pytest.approx(3.0, rel=0.2)
    assert found.error < 0.06 < 0.15 < found.error_before and found.words == 720
    assert calibration_error(*too_sure(2, 3.0), ALPHABET, found.temperature) < 0.06


def test_nothing_recognised() -> None:
    silent = torch.tensor([[0.0, -9, -9, -9, -9]]).log_softmax(-1)
    with pytest.raises(CorpusError, match="no word was recognised"):
        fit_temperature([silent], [Hypothesis((), (), 0.0)], ["a"], ALPHABET)


def test_label_probabilities() -> None:
    rows = torch.tensor([[0.0, 0, 4, 0, 0], [9, 0, 0, 0, 0], [0, 0, 0, 2, 0]]).log_softmax(-1)
    reading = GreedyDecoder()([rows])[0][0]
    assert reading.labels == (2, 3) and reading.frames == (0, 2)
    expected = [float(rows[0, 2].exp()), float(rows[2, 3].exp())]
    assert label_probabilities(rows, reading) == pytest.approx(expected)
    assert all(low < high for low, high in zip(label_probabilities(rows, reading, 2.0), expected, strict=True))


def test_greedy_peaks() -> None:
    """The decoder says the same as `greedy`, and each label peaks within its own run."""
    logits = torch.randn(4, 60, 5, generator=torch.Generator().manual_seed(0)) * 2
    plain = greedy(logits, torch.full((4,), 60))
    for row, labels, readings in zip(
        logits.log_softmax(-1), plain, GreedyDecoder()(list(logits.log_softmax(-1))), strict=True
    ):
        reading = readings[0]
        assert list(reading.labels) == labels and list(reading.frames) == sorted(set(reading.frames))
        assert all(
            int(row[frame].argmax()) == label for frame, label in zip(reading.frames, reading.labels, strict=True)
        )
        assert reading.emission_score == pytest.approx(float(row.max(-1).values.sum()))
    assert GreedyDecoder()([torch.zeros(0, 5)])[0][0].labels == ()
