"""Ours against fairseq's vq-wav2vec: codes, vectors, losses, every gradient, with its noise and distractors fed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import Case, cases
from torch import Tensor

from firstwords.checkpoints.fairseq_vq import vq_wav2vec_config, vq_wav2vec_weights
from firstwords.checkpoints.models import vq_wav2vec_of
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.cli import main
from firstwords.coder import load_coder
from firstwords.encoder import load_encoder
from firstwords.losses.diversity import diversity_loss
from firstwords.losses.noise_contrastive import Distractors, noise_contrastive_loss, step_logits
from firstwords.models.vq_wav2vec import VqWav2Vec
from firstwords.nn.kmeans_quantizer import KMeansQuantizer
from firstwords.nn.quantizer import perplexity

CASES = cases("vq-wav2vec")
FILES = [pytest.param(case, path, id=f"{case}-{path.stem}") for case in CASES for path in case.folder.glob("*.pt")]


def build(case: Case) -> VqWav2Vec:
    criterion = case.info["criterion"]
    weights, infonce = criterion.get("loss_weights") or (), criterion.get("infonce", False)
    config = vq_wav2vec_config(case.info["config"], weights, infonce)
    model = VqWav2Vec(config)
    model.load_state_dict(vq_wav2vec_weights(case.weights, config))
    return model


def whole(waveforms: Tensor) -> Tensor:
    return torch.full((len(waveforms),), waveforms.shape[1])


@pytest.mark.parametrize("case", CASES, ids=str)
class TestVqWav2Vec:
    @torch.no_grad()
    def test_codes(self, case: Case) -> None:
        encoder = build(case).eval().encoder
        source, lengths = case["source"], whole(case["source"])
        latents, frames = encoder.feature_encoder(source, lengths), encoder.frames(lengths)
        case.close(latents.transpose(1, 2), "eval/z")
        assert torch.equal(encoder.codes(source), case["eval/indices"])
        vectors, quantized = encoder.quantize(latents, frames)
        assert torch.equal(quantized.codes.view_as(case["eval/indices"]), case["eval/indices"])
        case.close(vectors.transpose(1, 2), "eval/quantized")
        case.close(encoder(source).features.transpose(1, 2), "eval/c")
        assert torch.equal(encoder(source, layer=0).features, vectors)
        case.close_loss(perplexity(quantized.counts).sum(), "eval/code_perplexity")
        if isinstance(encoder.quantizer, KMeansQuantizer):
            case.close(encoder.quantizer.project(latents, frames).transpose(1, 2), "eval/projected")
            assert quantized.squares is not None
            case.close_loss(quantized.squares / vectors.numel(), "eval/kmeans_loss")
        else:
            logits = encoder.quantizer.entry_logits(latents.flatten(0, 1))
            case.close(logits.view_as(case["eval/logits"]), "eval/logits")
            assert quantized.probabilities is not None
            case.close_loss(perplexity(quantized.probabilities).sum(), "eval/prob_perplexity")

    def test_temperature(self, case: Case) -> None:
        config = build(case).config.encoder.quantizer
        if config.kind == "gumbel":
            found = config.temperature(case.info["derived"]["num_updates"])
            assert found == pytest.approx(float(case["train/tau"]), rel=1e-12)

    def test_losses_and_gradients(self, case: Case) -> None:
        model = build(case).train()
        config, quantizer = model.config, model.config.encoder.quantizer
        temperature, noise = 1.0, None
        if quantizer.kind == "gumbel":
            temperature = float(case["train/tau"])
            noise = case["train/gumbel_noise"].view(-1, quantizer.groups, quantizer.entries)
        result = model(case["source"], whole(case["source"]), temperature, noise)
        flat = case["train/negatives"].permute(1, 2, 0)
        own = config.contrast.distractors
        base = torch.arange(len(flat))[:, None, None] * flat.shape[1]
        distractors = Distractors(flat[:, :, :own] - base, flat[:, :, own:])
        steps = list(step_logits(result.predictions, result.targets, distractors, model.offset))
        order = (1, 0, 2) if config.contrast.loss == "infonce" else (2, 0, 1)
        case.close(torch.cat([step.permute(order).flatten() for step in steps]), "train/cpc_logits")
        found = noise_contrastive_loss(
            result.predictions, result.targets, result.lengths, distractors, model.offset, config.contrast
        )
        count = int(found.predictions.sum())
        assert count == int(case["train/sample_size"])
        loss, frames = found.loss.sum(), int(result.lengths.sum())
        case.close_loss(perplexity(result.quantized.counts).sum(), "train/code_perplexity")
        extra = torch.zeros(())
        if result.quantized.squares is not None:
            extra = result.quantized.squares / result.targets.numel()
            case.close_loss(extra, "train/kmeans_loss")
        elif result.quantized.probabilities is not None:
            case.close_loss(perplexity(result.quantized.probabilities).sum(), "train/prob_perplexity")
            entries = quantizer.groups * quantizer.entries
            extra = entries * diversity_loss(result.quantized.probabilities, frames)
        extra = config.quantizer_weight * extra * count
        if config.quantizer_weight:
            case.close_loss(loss, "train/loss_0")
            case.close_loss(extra, "train/loss_1", relative=1e-3)
        case.close_loss(loss + extra, "train/loss")
        (loss + extra).backward()
        expected = vq_wav2vec_weights(case.group("train/grad/"), config)
        assert set(expected) == {name for name, _ in model.named_parameters()}
        case.close_gradients({name: value.grad for name, value in model.named_parameters()}, expected)


@pytest.mark.parametrize(("case", "path"), FILES)
class TestFiles:
    @torch.no_grad()
    def test_read(self, case: Case, path: Path) -> None:
        model = vq_wav2vec_of(*open_checkpoint(path))
        assert model.config == build(case).config
        encoder = load_encoder(path, device="cpu")
        case.close(encoder(case["source"]).transpose(1, 2), "eval/c")
        case.close(encoder(case["source"], layer=0).transpose(1, 2), "eval/quantized")
        assert torch.equal(load_coder(path, device="cpu")(case["source"]), case["eval/indices"])

    def test_convert(self, case: Case, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", str(path), str(tmp_path / "ours")]) == 0
        (ours, _), (theirs, _) = open_checkpoint(tmp_path / "ours"), open_checkpoint(path)
        assert ours.config == theirs.config and ours.weights.keys() == theirs.weights.keys()
        assert all(torch.equal(value, theirs.weights[key]) for key, value in ours.weights.items())
        assert main(["convert", str(path), str(tmp_path / "hf"), "--to", "huggingface"]) == 2
        assert "Firstwords only" in capsys.readouterr().err
