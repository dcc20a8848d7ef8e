"""CTC against exhaustive enumeration of alignments: loss and gradient, in double and single precision."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases

from firstwords.losses.ctc import BLANK, ctc_loss, frames_needed

CASES = cases("CTC by enumeration")


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
class TestCTC:
    def losses(self, case: Case, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
        assert case.info["blank"] == BLANK
        logits = case["logits"].to(getattr(torch, precision)).requires_grad_()
        return logits, ctc_loss(logits, case["input_lengths"], case["targets"], case["target_lengths"])

    def test_loss(self, case: Case, precision: str) -> None:
        _, losses = self.losses(case, precision)
        expected = case["loss"].to(losses.dtype)
        assert torch.equal(torch.isinf(losses), torch.isinf(expected))
        torch.testing.assert_close(losses, expected, **case.info["tolerance"][precision])

    def test_gradient(self, case: Case, precision: str) -> None:
        """Of the sum of the finite losses; an impossible target gives none and spoils no neighbour."""
        logits, losses = self.losses(case, precision)
        losses[torch.isfinite(losses)].sum().backward()
        assert logits.grad is not None
        torch.testing.assert_close(
            logits.grad, case["grad_logits"].to(logits.dtype), **case.info["tolerance"][precision]
        )

    def test_only_targets_that_need_more_frames_are_impossible(self, case: Case, precision: str) -> None:
        for loss, labels, length, frames in zip(
            case["loss"], case["targets"], case["target_lengths"], case["input_lengths"], strict=True
        ):
            assert bool(torch.isinf(loss)) == (frames_needed(labels[:length].tolist()) > int(frames))
