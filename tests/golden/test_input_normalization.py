"""Waveform normalisation of both lineages, from loud to very quiet, alone and in a padded batch."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases

from firstwords.nn.lengths import normalize_waveform

CASES = cases("waveform normalization")
EPSILON = {"fairseq": 1e-5, "hf": 1e-7}
SOUNDS = [
    (case, name.removesuffix("/raw"), lineage)
    for case in CASES
    for name in sorted(case.tensors)
    if name.endswith("/raw")
    for lineage in EPSILON
]


def tolerance(case: Case) -> dict[str, float]:
    return {"rtol": case.info["tolerance"]["rtol"], "atol": case.info["tolerance"]["atol"]}


@pytest.mark.parametrize(("case", "sound", "lineage"), SOUNDS, ids=str)
def test_alone(case: Case, sound: str, lineage: str) -> None:
    ours = normalize_waveform(case[f"{sound}/raw"], epsilon=EPSILON[lineage])
    torch.testing.assert_close(ours, case[f"{sound}/{lineage}"], **tolerance(case))


@pytest.mark.parametrize("case", CASES, ids=str)
class TestBatch:
    def padded(self, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [case[f"batch/raw{number}"] for number in range(len(case["batch/hf_with_mask"]))]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])

    def test_statistics_over_valid_samples(self, case: Case) -> None:
        waveforms, lengths = self.padded(case)
        garbage = waveforms + 7 * (torch.arange(waveforms.shape[1]) >= lengths[:, None])
        ours = normalize_waveform(garbage, lengths, EPSILON["hf"])
        torch.testing.assert_close(ours, case["batch/hf_with_mask"], **tolerance(case))

    def test_statistics_over_padding_too(self, case: Case) -> None:
        waveforms, _ = self.padded(case)
        ours = normalize_waveform(waveforms, epsilon=EPSILON["hf"])
        torch.testing.assert_close(ours, case["batch/hf_without_mask"], **tolerance(case))
