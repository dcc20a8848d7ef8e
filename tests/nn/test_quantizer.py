"""The quantiser's start: fairseq's, or around 0."""

from __future__ import annotations

import pytest
import torch

from firstwords.nn.quantizer import GumbelQuantizer, QuantizerConfig


@pytest.mark.parametrize(("centred", "low"), [(False, 0.0), (True, -0.5)])
def test_codebooks_start_uniform(centred: bool, low: float) -> None:
    torch.manual_seed(1)
    start = GumbelQuantizer(QuantizerConfig(entries=200, centred=centred), input_dim=8, dim=64).codebooks
    assert low <= start.min() < low + 0.01 and low + 0.99 < start.max() <= low + 1.0
    assert start.mean().item() == pytest.approx(low + 0.5, abs=0.02)


def test_centred_codebooks_change_nothing_else() -> None:
    models = []
    for centred in (False, True):
        torch.manual_seed(1)
        models.append(GumbelQuantizer(QuantizerConfig(centred=centred), input_dim=8, dim=64).state_dict())
    plain, centred_ = models
    assert torch.equal(plain.pop("codebooks") - 0.5, centred_.pop("codebooks"))
    assert all(torch.equal(plain[name], centred_[name]) for name in plain)
