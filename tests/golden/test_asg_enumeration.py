"""ASG against exhaustive enumeration and a compiled peer: losses in all scale modes, gradients, paths, repetitions."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases

from firstwords.losses.asg import asg_loss, forced_path, full_score, target_score, viterbi_path
from firstwords.text.repetitions import pack, repetition_symbols, unpack

CASES = cases("ASG criterion")
MODES = ("none", "input", "input_sqrt", "target", "target_sqrt")


def inputs(case: Case, precision: str, start: str = "") -> tuple[torch.Tensor, ...]:
    """Emissions, lengths, targets, their lengths, transitions."""
    dtype = getattr(torch, precision)
    emissions = case[f"{start}emissions"].to(dtype).requires_grad_()
    lengths = torch.full((len(emissions),), emissions.shape[1])
    transitions = case[f"{start}transitions"].to(dtype).requires_grad_()
    return emissions, lengths, case[f"{start}targets"], case[f"{start}target_lengths"], transitions


def near(case: Case, ours: torch.Tensor | None, name: str, precision: str) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, case[name].to(ours.dtype), **case.info["tolerance"][precision])


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
class TestASG:
    @pytest.mark.parametrize("mode", MODES)
    def test_loss_and_gradients(self, case: Case, precision: str, mode: str) -> None:
        emissions, *middle, transitions = inputs(case, precision)
        losses = asg_loss(emissions, *middle, transitions, mode)  # type: ignore[arg-type]
        losses.sum().backward()
        near(case, losses, f"{mode}/loss", precision)
        near(case, emissions.grad, f"{mode}/grad_emissions", precision)
        near(case, transitions.grad, f"{mode}/grad_transitions", precision)

    def test_both_sums(self, case: Case, precision: str) -> None:
        emissions, lengths, targets, sizes, transitions = inputs(case, precision)
        near(case, full_score(emissions, lengths, transitions), "full_score", precision)
        near(case, target_score(emissions, lengths, targets, sizes, transitions), "target_score", precision)

    def test_long(self, case: Case, precision: str) -> None:
        """From the compiled peer, with a weight for each utterance's loss."""
        emissions, *middle, transitions = inputs(case, precision, "long/")
        losses = asg_loss(emissions, *middle, transitions)
        losses.backward(case["long/grad_output"].to(losses.dtype))
        near(case, losses, "long/loss", precision)
        near(case, emissions.grad, "long/grad_emissions", precision)
        near(case, transitions.grad, "long/grad_transitions", precision)

    @pytest.mark.parametrize("start", ["", "long/"])
    def test_paths(self, case: Case, precision: str, start: str) -> None:
        emissions, lengths, targets, sizes, transitions = inputs(case, precision, start)
        assert torch.equal(viterbi_path(emissions, lengths, transitions), case[f"{start}viterbi_path"])
        found = forced_path(emissions, lengths, targets, sizes, transitions)
        assert torch.equal(found, case[f"{start}forced_path"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_repetitions(case: Case) -> None:
    for row in case.info["replabels"]["rows"]:
        symbols = repetition_symbols(row["max_reps"])
        assert pack(row["word"], symbols) == row["packed"]
        assert "".join(unpack(row["packed"], symbols)) == row["unpacked"]
