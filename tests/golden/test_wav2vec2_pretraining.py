"""Ours against fairseq's wav2vec 2.0: forward, every loss, every gradient, with its randomness fed in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Case, cases

from firstwords.checkpoints.fairseq import wav2vec2_config, wav2vec2_weights
from firstwords.losses.contrastive import contrast_indices, contrastive_logits, contrastive_loss
from firstwords.losses.diversity import diversity_loss
from firstwords.models.wav2vec2 import Wav2Vec2
from firstwords.nn.quantizer import perplexity

CASES = cases("wav2vec 2.0 pretraining")


def build(case: Case, **encoder_changes: str) -> Wav2Vec2:
    config = wav2vec2_config(case.info["config"], case.info["criterion"]["loss_weights"], normalize=False)
    model = Wav2Vec2(config)
    model.load_state_dict(wav2vec2_weights(case.weights, config))
    return model.eval()


def given_indices(case: Case, part: str, model: Wav2Vec2):
    """The stored mask and distractors in our layout."""
    mask = case["mask_indices"].numpy()
    indices = contrast_indices(
        list(mask), list(mask), mask.shape[1], model.config.contrast, [np.random.default_rng(0)] * len(mask)
    )
    masked = int(mask.sum(1)[0])
    negatives = case[f"{part}/negatives"].view(len(mask), masked, -1)
    local = negatives - masked * torch.arange(len(mask))[:, None, None]
    choices = torch.cat([torch.arange(masked).expand(len(mask), -1)[:, :, None], local], 2)
    return indices._replace(choices=choices)


@pytest.mark.parametrize("case", CASES, ids=str)
class TestPretraining:
    def test_features(self, case: Case) -> None:
        model = build(case)
        waveforms = case["source"]
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
        with torch.no_grad():
            latents = model.encoder.feature_encoder(waveforms, lengths)
            case.close(latents.transpose(1, 2), "eval/conv_features")
            normed = model.encoder.latent_norm(latents)
            case.close(normed, "eval/features_normed")
            case.close(model.encoder(waveforms).features, "eval/encoder_out")
            case.close(model.encoder(waveforms, layer=1).features, "eval/encoder_out_layer0")
            for number in range(model.config.encoder.transformer.layers):
                case.close(model.encoder(waveforms, layer=number + 1).features, f"eval/layer{number}_out")
            case.close(model.encoder(waveforms, mask=case["mask_indices"]).features, "eval/encoder_out_masked")
            quantized = model.quantizer(normed.flatten(0, 1), temperature=1.0)
            assert torch.equal(quantized.codes.view_as(case["eval/quantize_indices"]), case["eval/quantize_indices"])
            case.close(quantized.vectors.view_as(case["eval/quantize_x"]), "eval/quantize_x")

    def test_padding(self, case: Case) -> None:
        model = build(case)
        waveforms, lengths = case["padded/source"], case["padded/lengths"]
        with torch.no_grad():
            ours = model.encoder(waveforms, lengths)
            valid = ~case["padded/padding_mask"]
            assert torch.equal(valid.sum(1), ours.lengths)
            alone = case["padded/encoder_out_row1_alone"]
            case.near(ours.features[1:, : alone.shape[1]], alone, "row 1 as if alone")
            norm = model.encoder.feature_encoder
            object.__setattr__(norm.config, "group_statistics", "padded")
            like_theirs = model.encoder(waveforms, lengths).features
            case.near(like_theirs[valid], case["padded/encoder_out"][valid], "padded statistics")
            object.__setattr__(norm.config, "group_statistics", "valid")

    @pytest.mark.parametrize("part", ["eval", "train"])
    def test_losses_and_gradients(self, case: Case, part: str) -> None:
        model = build(case).train(part == "train")
        waveforms = case["source"]
        indices = given_indices(case, part, model)
        noise = case.get("train/gumbel_noise")
        temperature = float(case["train/tau"])
        assert model.config.quantizer.temperature(case.info["derived"]["num_updates"]) == pytest.approx(temperature)
        groups, entries = model.config.quantizer.groups, model.config.quantizer.entries
        result = model(
            waveforms,
            torch.full((len(waveforms),), waveforms.shape[1]),
            case["mask_indices"],
            indices,
            temperature,
            None if noise is None else noise.view(-1, groups, entries),
        )
        case.near(result.targets, case[f"{part}/targets_projected"].flatten(0, 1), "targets")
        case.near(result.context, case[f"{part}/predictions_projected"].flatten(0, 1), "predictions")
        assert result.codes is not None and result.probabilities is not None and result.counts is not None
        logits = contrastive_logits(
            result.context, result.targets, result.codes, indices, model.config.contrast.temperature
        )
        case.near(logits, case[f"{part}/logits"].permute(1, 2, 0).flatten(0, 1), "logits")

        contrast = contrastive_loss(logits)
        count = int(case[f"{part}/sample_size"])
        assert contrast.frames == count
        case.close_loss(contrast.loss, f"{part}/loss_contrastive")
        assert int(contrast.correct) == int(case[f"{part}/correct"])
        diversity = diversity_loss(result.probabilities, len(indices.pool))
        penalty = result.squares / case["eval/conv_features"].numel()
        case.close_loss(penalty, f"{part}/features_pen")
        case.close_loss(diversity, f"{part}/diversity", relative=1e-3)
        case.close_loss(perplexity(result.probabilities).sum(), f"{part}/prob_perplexity")
        case.close_loss(perplexity(result.counts).sum(), f"{part}/code_perplexity")
        config = model.config
        total = contrast.loss + count * (config.diversity_weight * diversity + config.feature_penalty * penalty)
        case.close_loss(total, f"{part}/loss")

        if part == "train":
            total.backward()
            expected = wav2vec2_weights(case.group("train/grad/"), model.config)
            assert set(expected) == {name for name, value in model.named_parameters() if value.grad is not None}
            case.close_gradients({name: value.grad for name, value in model.named_parameters()}, expected)
