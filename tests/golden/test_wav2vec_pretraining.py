"""Ours against fairseq's wav2vec: features, similarities, loss, every gradient, with its distractors fed in."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases
from torch import Tensor

from firstwords.checkpoints.fairseq_wav2vec import wav2vec_config, wav2vec_weights
from firstwords.losses.noise_contrastive import Distractors, noise_contrastive_loss, step_logits
from firstwords.models.wav2vec import Wav2Vec

CASES = cases("wav2vec 1.0")


def build(case: Case) -> Wav2Vec:
    model = Wav2Vec(wav2vec_config(case.info["config"], case.info["criterion"].get("infonce", False)))
    model.load_state_dict(wav2vec_weights(case.weights))
    return model


def whole(waveforms: Tensor) -> Tensor:
    return torch.full((len(waveforms),), waveforms.shape[1])


def given_distractors(case: Case, model: Wav2Vec) -> Distractors:
    """The stored ones in our layout: those of the same utterance, then those of all."""
    flat = case["negatives"].permute(1, 2, 0)
    count = model.config.contrast.distractors
    base = torch.arange(len(flat))[:, None, None] * flat.shape[1]
    return Distractors(flat[:, :, :count] - base, flat[:, :, count:])


@pytest.mark.parametrize("case", CASES, ids=str)
class TestWav2Vec:
    def test_features(self, case: Case) -> None:
        model = build(case).eval()
        with torch.no_grad():
            latents = model.encoder.feature_encoder(case["source"], whole(case["source"]))
            case.close(latents.transpose(1, 2), "z")
            case.close(model.encoder(case["source"]).features.transpose(1, 2), "c")

    def test_offset(self, case: Case) -> None:
        assert build(case).offset == case.info["derived"]["offset"]

    def test_loss_and_gradients(self, case: Case) -> None:
        model = build(case).train()
        result = model(case["source"], whole(case["source"]))
        distractors, contrast = given_distractors(case, model), model.config.contrast
        steps = list(step_logits(result.predictions, result.targets, distractors, model.offset))
        if contrast.loss == "infonce":  # fairseq lays out (time, batch, copies)
            case.close(torch.cat([step.transpose(0, 1).flatten(0, 1) for step in steps]), "cpc_logits")
        else:  # (copies, batch, time)
            case.close(torch.cat([step.permute(2, 0, 1).flatten() for step in steps]), "cpc_logits")
        found = noise_contrastive_loss(
            result.predictions, result.targets, result.lengths, distractors, model.offset, contrast
        )
        assert int(found.predictions.sum()) == int(case["sample_size"])
        case.close_loss(found.loss.sum(), "loss")
        if (correct := case.get("correct")) is not None:
            assert int(found.correct.sum()) == int(correct)
        found.loss.sum().backward()
        expected = wav2vec_weights(case.group("grad/"))
        assert set(expected) == {name for name, _ in model.named_parameters()}
        case.close_gradients({name: value.grad for name, value in model.named_parameters()}, expected)
