"""Forced alignment against the best of all alignments, found by enumeration."""

from __future__ import annotations

import pytest
from golden import Case, cases

from firstwords.decoding.alignment import align_labels
from firstwords.errors import AlignmentError


@pytest.mark.parametrize("case", cases("CTC by enumeration"), ids=str)
def test_best_path(case: Case) -> None:
    tried = 0
    for row, text, size, frames, expected in zip(
        case["logits"], case["targets"], case["target_lengths"], case["input_lengths"], case["best_path"], strict=True
    ):
        labels, count = text[:size].tolist(), int(frames)
        log_probabilities = row[:count].log_softmax(-1).numpy()
        if not labels or int(expected[0]) < 0:
            with pytest.raises(AlignmentError):
                align_labels(log_probabilities, labels)
            continue
        assert align_labels(log_probabilities, labels).frames(labels, count).tolist() == expected[:count].tolist()
        tried += 1
    assert tried
