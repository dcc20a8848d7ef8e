"""wav2vec-U 1.0 and 2.0 against fairseq: segmenters, both steps with their losses, and every gradient."""

from __future__ import annotations

import pytest
import torch
from golden import Case, cases
from torch import Tensor

from firstwords.checkpoints.wav2vec_u import fairseq_names, wav2vec_u_config, wav2vec_u_weights
from firstwords.losses.adversarial import (
    discriminator_losses,
    distributions,
    generator_losses,
    one_hot,
)
from firstwords.models.wav2vec_u import PAD, Generated, Wav2VecU
from firstwords.nn.lengths import length_mask
from firstwords.nn.segmenters import Joined, join, pool_uniformly

EVERY = cases("wav2vec-U")
GAN = [case for case in EVERY if "features" in case.tensors and "random_label" in case.tensors]
SEGMENTERS = [case for case in EVERY if any(name.startswith("join") for name in case.tensors)]


def draws_of(case: Case, prefix: str, logits: Tensor, padding: Tensor) -> Tensor:
    """The recorded draws, one per run longer than a step (runs of padding too), at the number of their run."""
    rows, steps, _ = logits.shape
    chosen = torch.where(padding, -1, logits.argmax(-1))
    draws = torch.zeros(rows, steps)
    for row in range(rows):
        counts = chosen[row].unique_consecutive(return_counts=True)[1]
        draws[row, : len(counts)][counts > 1] = case[f"{prefix}{row}"]
    return draws


def load(case: Case) -> Wav2VecU:
    config = wav2vec_u_config(case.info["config"], case.info["vocabulary_size"], case.weights)
    model = Wav2VecU(config)
    model.load_state_dict(wav2vec_u_weights(case.weights, config))
    return model


def padding_of(lengths: Tensor, size: int) -> Tensor:
    return ~length_mask(lengths, size)


@pytest.mark.parametrize("case", SEGMENTERS, ids=str)
class TestSegmenters:
    def close(self, case: Case, ours: Tensor, name: str) -> None:
        tolerance = case.info["tolerance"]
        torch.testing.assert_close(ours, case[name], rtol=tolerance["rtol"], atol=tolerance["atol"])

    def inputs(self, case: Case) -> tuple[Tensor, Tensor]:
        return case["join/logits"], (~case["join/padding_mask"]).sum(1)

    def check(self, case: Case, joined: Joined, name: str) -> None:
        self.close(case, joined.logits[0], f"{name}/logits")
        padding = padding_of(joined.lengths[0], joined.logits.shape[2])
        assert torch.equal(padding, case[f"{name}/padding_mask"])
        assert joined.sizes.tolist() == [joined.logits.shape[2]]

    def test_mean(self, case: Case) -> None:
        logits, lengths = self.inputs(case)
        self.check(case, join(logits[None], lengths), "join_mean")

    def test_mean_without_zeros(self, case: Case) -> None:
        logits, lengths = self.inputs(case)
        self.check(case, join(logits[None], lengths, remove_zeros=True), "join_mean_remove_zeros")

    def test_sampled(self, case: Case) -> None:
        logits, lengths = self.inputs(case)
        draws = draws_of(case, "join_sample/rand_row", logits, case["join/padding_mask"])
        self.check(case, join(logits[None], lengths, draws), "join_sample")

    def test_uniform(self, case: Case) -> None:
        names = [name for name in case.tensors if name.startswith("uniform_mean_") and name.endswith("/features")]
        assert names
        _, lengths = self.inputs(case)
        features = case["uniform/features"]  # the case has something beyond the lengths too
        for name in names:
            rate = float(name.split("/")[0].removeprefix("uniform_mean_"))
            pooled, kept = pool_uniformly(features, lengths, rate)
            self.close(case, pooled, name)
            mask = case[name.replace("features", "padding_mask")]
            assert torch.equal(padding_of(kept, pooled.shape[1]), mask)


@pytest.mark.parametrize("case", GAN, ids=str)
class TestGan:
    def inputs(self, case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features, padding = case["features"], case["padding_mask"]
        tokens = case["random_label"]
        return features, (~padding).sum(1), tokens, (tokens != PAD).sum(1)

    @torch.no_grad()
    def test_evaluation(self, case: Case) -> None:
        model = load(case).eval()
        features, lengths, tokens, text_lengths = self.inputs(case)
        generated, joined = model.generate(features, lengths)
        case.close(generated.logits[0], "eval/generator_logits")
        padding = padding_of(generated.lengths, generated.width)
        assert torch.equal(padding, case["eval/generator_padding_mask"])
        case.close(joined.logits[0], "eval/segmented_logits")
        assert torch.equal(padding_of(joined.lengths[0], joined.logits.shape[2]), case["eval/segmented_padding_mask"])
        fake = distributions(joined)
        case.close(fake[0], "eval/probs")
        case.close(model.discriminator(fake, joined.lengths)[0], "eval/disc_fake_score")
        real = one_hot(tokens, model.config.symbols)
        case.close(model.discriminator(real, text_lengths[None])[0], "eval/disc_real_score")

    def step(self, case: Case, name: str) -> tuple[Wav2VecU, Generated, Joined]:
        model = load(case).train()
        features, lengths, _, _ = self.inputs(case)
        draws = draws_of(
            case,
            f"{name}/rand/segment_row",
            case[f"{name}/generator_logits"],
            case[f"{name}/generator_padding_mask"],
        )
        generated, joined = model.generate(features, lengths, draws)
        case.close(generated.logits[0], f"{name}/generator_logits")
        case.close(distributions(joined)[0], f"{name}/fake_input")
        case.close(model.discriminator(distributions(joined), joined.lengths)[0], f"{name}/fake_score")
        return model, generated, joined

    def close_gradients(self, case: Case, model: Wav2VecU, name: str) -> None:
        theirs = case.group(f"{name}/grad/")
        names = fairseq_names(model.config)
        gradients = {names[key]: None if p.grad is None else p.grad[0] for key, p in model.named_parameters()}
        for key in theirs:  # what a step does not reach has no gradient here, zeros there
            if gradients[key] is None:
                gradients[key] = torch.zeros_like(theirs[key])
        case.close_gradients(gradients, theirs)

    def test_generator_step(self, case: Case) -> None:
        model, generated, joined = self.step(case, "generator_step")
        options = case.info["config"]
        targets = case.get("aux_target")
        if targets is not None:  # of 100 frames a second, as fairseq has it by default, whatever the features are
            targets = targets[:, :: options.get("target_downsample_rate", 2)]
        losses = generator_losses(model.discriminator, generated, joined, targets, model.auxiliary)
        case.close_loss(losses.adversarial, "generator_step/losses/dense_g")
        diversity = options["code_penalty"] * losses.diversity
        case.close_loss(diversity, "generator_step/losses/code_pen", relative=1e-3)
        smoothness = options["smoothness_weight"] * losses.smoothness
        case.close_loss(smoothness, "generator_step/losses/smoothness")
        auxiliary = options.get("mmi_weight", 0.0) * losses.auxiliary
        if model.auxiliary is not None:
            case.close_loss(auxiliary, "generator_step/losses/mmi")
        total = losses.adversarial + diversity + smoothness + auxiliary
        case.close_loss(total, "generator_step/loss_total")
        case.close_loss(losses.choices, "generator_step/code_ppl")
        case.close_loss(losses.probabilities, "generator_step/prob_ppl")
        total.sum().backward()
        self.close_gradients(case, model, "generator_step")
        for ours, theirs in (("running_mean", "bn_running_mean_after"), ("running_variance", "bn_running_var_after")):
            if f"generator_step/{theirs}" in case.tensors:
                case.close(getattr(model.generator, ours)[0], f"generator_step/{theirs}")

    def test_discriminator_step(self, case: Case) -> None:
        model, _, joined = self.step(case, "discriminator_step")
        _, _, tokens, text_lengths = self.inputs(case)
        share = case["discriminator_step/rand/interp_alpha"].flatten()
        losses = discriminator_losses(model.discriminator, joined, tokens, text_lengths, share)
        case.close_loss(losses.generated, "discriminator_step/losses/dense_d")
        case.close_loss(losses.text, "discriminator_step/losses/token_d")
        penalty = case.info["config"]["gradient_penalty"] * losses.penalty
        case.close_loss(penalty, "discriminator_step/losses/grad_pen")
        total = losses.generated + losses.text + penalty
        case.close_loss(total, "discriminator_step/loss_total")
        total.sum().backward()
        self.close_gradients(case, model, "discriminator_step")
