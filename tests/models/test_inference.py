"""A network made ready to transcribe says the same: exactly in float32, nearly in bfloat16."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.inference import for_inference
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn import position_convolution
from firstwords.nn.conformer import ConformerConfig
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.position_convolution import FixedPositionConvolution
from firstwords.nn.transformer import TransformerConfig


def model(norm: str, kernel: int = 128, frontend: str = "waveform", **changes: Any) -> CTCModel:
    torch.manual_seed(0)
    features = FeatureEncoderConfig(channels=(16,) * 7, norm=norm, bias=norm == "layer")  # type: ignore[arg-type]
    transformer = TransformerConfig(
        layers=2, dim=32, feed_forward_dim=64, heads=4, norm_first=norm == "layer", position_kernel=kernel, **changes
    )
    built = CTCModel(CTCConfig(EncoderConfig(frontend, features, transformer), 7)).eval()  # type: ignore[arg-type]
    if (position := built.encoder.transformer.position) is not None:
        position.gain.data *= 1 + torch.rand_like(position.gain)  # as if trained
    return built


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kernel", [16, 128])
def test_float32_is_the_same(norm: str, kernel: int) -> None:
    plain = model(norm, kernel)
    ready = for_inference(copy.deepcopy(plain), "float32")
    assert isinstance(ready.encoder.transformer.position, FixedPositionConvolution)
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    waveforms, lengths = torch.randn(2, 9000), torch.tensor([9000, 5001])
    with torch.inference_mode():
        ours, theirs = ready(waveforms, lengths), plain(waveforms, lengths)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("level", [1.0, 1e-4])
def test_bfloat16_is_near(norm: str, level: float) -> None:
    """Within 3 % of the logits' spread; quiet input and an offset included."""
    plain = model(norm)
    ready = for_inference(copy.deepcopy(plain), "bfloat16")
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.bfloat16}
    waveforms, lengths = (torch.randn(2, 9000) + 0.3) * level, torch.tensor([9000, 5001])
    with torch.inference_mode():
        ours, theirs = ready(waveforms, lengths), plain(waveforms, lengths)
    difference = ours.logits[1, :15].float() - theirs.logits[1, :15]
    assert float(difference.square().mean().sqrt()) < 0.03 * float(theirs.logits.std())


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend": "log_mel"},
        {"norm": "layer", "relative_buckets": 32},
        {"norm": "layer", "adapter_dim": 4},
        {"norm": "layer", "low_rank": 2},
        {"norm": "layer", "block": "conformer"},
        {"norm": "layer", "block": "conformer", "conformer": ConformerConfig("rotary"), "low_rank": 2},
    ],
    ids=str,
)
def test_bfloat16_of_every_kind(changes: dict[str, Any]) -> None:
    """Alone and padded: log-mel bands, WavLM's positions, adapters, low-rank changes."""
    plain = model(**{"norm": "group", **changes})
    ready = for_inference(copy.deepcopy(plain), "bfloat16")
    waveforms = torch.randn(2, 9000)
    for lengths in (torch.tensor([9000, 9000]), torch.tensor([9000, 5001])):
        with torch.inference_mode():
            ours, theirs = ready(waveforms, lengths), plain(waveforms, lengths)
        difference = ours.logits[1, :15].float() - theirs.logits[1, :15]
        assert float(difference.square().mean().sqrt()) < 0.03 * float(theirs.logits.std())


def test_wide_kernels_in_fourier_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position_convolution, "WIDE", 1000)
    stock = for_inference(model("group"), "float32")
    monkeypatch.undo()
    ours = for_inference(model("group"), "float32")
    waveforms, lengths = torch.randn(1, 9000), torch.tensor([9000])
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(waveforms, lengths).logits, stock(waveforms, lengths).logits, rtol=1e-4, atol=1e-5
        )


def test_alone_as_in_a_batch() -> None:
    ready = for_inference(model("group"), "float32")
    long, short = torch.randn(9000), torch.randn(5001)
    both = torch.stack([long, torch.cat([short, torch.zeros(9000 - 5001)])])
    with torch.inference_mode():
        together = ready(both, torch.tensor([9000, 5001])).logits[1]
        alone = ready(short[None], torch.tensor([5001])).logits[0]
    torch.testing.assert_close(together[: len(alone)], alone, rtol=1e-4, atol=1e-5)
