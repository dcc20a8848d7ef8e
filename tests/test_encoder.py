"""Layers of an encoder: all in one pass are those one by one, alone and in a batch; codes are the quantiser's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints.small import KINDS, encoder_config, pretrained, recogniser, saved
from conftest import tone
from torch import Tensor

from firstwords.checkpoints.models import pretraining_of
from firstwords.coder import load_coder
from firstwords.encoder import load_encoder
from firstwords.errors import CheckpointError

SAMPLES = [8000, 3000, 5123]


def batch() -> tuple[Tensor, Tensor]:
    waveforms = [torch.from_numpy(tone(samples / 16_000, seed)) for seed, samples in enumerate(SAMPLES)]
    return torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), torch.tensor(SAMPLES)


@pytest.mark.parametrize("kind", ["base", "vox", "wavlm"])
@torch.inference_mode()
def test_hidden_states_are_the_layers_one_by_one(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder(saved(recogniser(KINDS[kind]), tmp_path), device="cpu")
    waveforms, lengths = batch()
    states, frames = encoder.hidden_states(waveforms, lengths)
    assert len(states) == encoder.layers + 1
    for number, state in enumerate(states):
        wanted = encoder(waveforms, lengths, None if number == encoder.layers else number)
        assert torch.equal(state, wanted)
    some, _ = encoder.hidden_states(waveforms, lengths, [2, 0])
    assert torch.equal(some[0], encoder(waveforms, lengths, 2)) and torch.equal(some[1], states[0])
    for row, samples in enumerate(SAMPLES):
        alone, count = encoder.hidden_states(waveforms[row : row + 1, :samples])
        assert int(count) == int(frames[row]) == encoder.frames(samples)
        for state, own in zip(states, alone, strict=True):
            torch.testing.assert_close(state[row, : int(count)], own[0], atol=2e-5, rtol=1e-4)


def test_there_is_no_layer_beyond_the_last(tmp_path: Path) -> None:
    encoder = load_encoder(saved(recogniser(encoder_config()), tmp_path), device="cpu")
    with pytest.raises(ValueError, match="layer 3: this encoder has 0 to 2"):
        encoder.hidden_states(*batch(), [0, 3])


@torch.inference_mode()
def test_codes_are_what_pretraining_would_aim_at(tmp_path: Path) -> None:
    checkpoint = pretrained(encoder_config(vox=True))
    coder = load_coder(saved(checkpoint, tmp_path), device="cpu")
    waveforms, lengths = batch()
    codes = coder(waveforms, lengths)
    model = pretraining_of(checkpoint, "small").eval()
    for row, samples in enumerate(SAMPLES):
        frames = coder.frames(samples)
        latents = model.encoder.latent_norm(
            model.encoder.feature_encoder(
                coder_waveform(waveforms[row : row + 1, :samples]), lengths[row : row + 1].clone()
            )
        )
        assert torch.equal(codes[row, :frames], model.quantizer(latents[0], 1.0).codes)
    assert codes.shape[2] == coder.groups and int(codes.max()) < coder.entries


def coder_waveform(waveform: Tensor) -> Tensor:
    return (waveform - waveform.mean()) / torch.sqrt(waveform.var(correction=0) + 1e-5)


def test_a_recogniser_has_no_codes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'ctc' has no quantiser"):
        load_coder(saved(recogniser(encoder_config()), tmp_path))
