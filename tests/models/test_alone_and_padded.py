"""An utterance gives the same alone and in a padded batch: features, logits, gradients, every family."""

from __future__ import annotations

import pytest
import torch
from conftest import tone

from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2, Wav2Vec2Config, Wav2Vec2Encoder
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.lengths import normalize_waveform
from firstwords.nn.log_mel import LogMel
from firstwords.nn.quantizer import QuantizerConfig
from firstwords.nn.transformer import TransformerConfig

LENGTHS = [6400, 400, 3333, 5001, 719]
FAMILIES = ["base", "large-vox", "log-mel", "conformer"]


def config(family: str) -> EncoderConfig:
    vox = family == "large-vox"
    return EncoderConfig(
        frontend="log_mel" if family == "log-mel" else "waveform",
        feature_encoder=FeatureEncoderConfig((6, 6, 8, 8, 8, 8, 8), norm="layer" if vox else "group", bias=vox),
        transformer=TransformerConfig(
            2,
            16,
            32,
            2,
            norm_first=vox,
            position_kernel=16,
            position_groups=2,
            dropout=0,
            attention_dropout=0,
            layerdrop=0,
            block="conformer" if family == "conformer" else "transformer",
        ),
        input_dropout=0.0,
        normalize_waveform=vox,
    )


def batch(family: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Waveforms alone, padded, and their lengths."""
    lengths = [max(560, length) for length in LENGTHS] if family == "log-mel" else LENGTHS
    alone = [torch.from_numpy(tone(length / 16_000, seed)) for seed, length in enumerate(lengths)]
    if family == "large-vox":
        alone = [normalize_waveform(waveform) for waveform in alone]
    return alone, torch.nn.utils.rnn.pad_sequence(alone, batch_first=True), torch.tensor(lengths)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5 * max(1.0, float(theirs.abs().max())))


def seeded(model: torch.nn.Module) -> torch.nn.Module:
    """With norms that do something, as after training; batch norms as where they do not learn."""
    for name, value in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(value, 1 if name.endswith("weight") else 0, 0.2)
        if "batch_norm" in name:
            value.requires_grad_(False)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_encoder(family: str, layer: int | None) -> None:
    torch.manual_seed(0)
    model = seeded(Wav2Vec2Encoder(config(family))).eval()
    alone, padded, lengths = batch(family)
    with torch.no_grad():
        together = model(padded, lengths, layer=layer)
        for row, waveform, frames in zip(together.features, alone, together.lengths.tolist(), strict=True):
            features = model(waveform[None], layer=layer).features[0]
            assert len(features) == frames
            close(row[:frames], features)


@pytest.mark.parametrize("family", FAMILIES)
def test_ctc_gradients(family: str) -> None:
    """With masks in time and channels, the gradient of a batch is the sum of its utterances' gradients."""
    torch.manual_seed(0)
    model = seeded(CTCModel(CTCConfig(config(family), labels=5))).train()
    alone, padded, lengths = batch(family)
    frames = model.encoder.frames(lengths)
    mask = torch.rand(len(alone), int(frames.max())) < 0.3
    channels = torch.rand(len(alone), 16) < 0.2
    weights = torch.randn(len(alone), int(frames.max()), 5)
    emissions = model(padded, lengths, mask, channels)
    valid = torch.arange(int(frames.max())) < frames[:, None]
    total = (emissions.logits * weights * valid[:, :, None]).sum()
    parameters = [value for name, value in model.named_parameters() if value.requires_grad]
    together = torch.autograd.grad(total, parameters, allow_unused=True)
    summed = [torch.zeros_like(value) for value in parameters]
    for b, waveform in enumerate(alone):
        own = int(frames[b])
        logits = model(waveform[None], None, mask[b : b + 1, :own], channels[b : b + 1]).logits[0]
        close(emissions.logits[b, :own].detach(), logits.detach())
        parts = torch.autograd.grad((logits * weights[b, :own]).sum(), parameters, allow_unused=True)
        summed = [old if part is None else old + part for old, part in zip(summed, parts, strict=True)]
    for mine, sum_of_parts in zip(together, summed, strict=True):
        if mine is not None:
            close(mine, sum_of_parts)


def test_log_mel_is_zero_beyond_the_end() -> None:
    _, padded, lengths = batch("log-mel")
    frontend = LogMel()
    features = frontend(padded + (torch.arange(padded.shape[1]) >= lengths[:, None]), lengths)
    for row, frames in zip(features, frontend.frames(lengths).tolist(), strict=True):
        assert not row[frames:].any() and torch.isfinite(row).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_any_length_gives_numbers(family: str) -> None:
    torch.manual_seed(0)
    model = CTCModel(CTCConfig(config(family), labels=5)).eval()
    shortest = model.encoder.feature_encoder.receptive_field
    with torch.no_grad():
        for length in [*range(shortest, shortest + 330, 11), 1999, 3001, 4999, 5000]:
            waveform = torch.from_numpy(tone(length / 16_000, length))[None]
            emissions = model(waveform)
            assert emissions.logits.shape[1] == int(emissions.lengths[0]) >= 1
            assert torch.isfinite(emissions.logits).all()
            assert torch.isfinite(model(torch.zeros_like(waveform)).logits).all()


@pytest.mark.parametrize("quantize_inputs", [False, True])
def test_pretraining_codes(quantize_inputs: bool) -> None:
    """The quantiser gives an utterance the same codes alone and in a batch."""
    torch.manual_seed(0)
    settings = Wav2Vec2Config(
        config("base"), QuantizerConfig(2, 8), final_dim=8, feature_dropout=0.0, quantize_inputs=quantize_inputs
    )
    model = seeded(Wav2Vec2(settings)).eval()
    alone, padded, lengths = batch("base")
    with torch.no_grad():
        latents = model.encoder.latent_norm(model.encoder.feature_encoder(padded, lengths))
        for b, waveform in enumerate(alone):
            own = model.encoder.latent_norm(model.encoder.feature_encoder(waveform[None], lengths[b : b + 1]))[0]
            close(latents[b, : len(own)], own)
            together = model.quantizer(latents[b, : len(own)], 1.0)
            assert torch.equal(together.codes, model.quantizer(own, 1.0).codes)
