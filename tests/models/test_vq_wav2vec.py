"""vq-wav2vec: an utterance has the same codes, features, losses and gradients alone and in a padded batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tone
from torch import Tensor, nn

from firstwords.losses.noise_contrastive import NoiseContrastConfig, draw_all_distractors, noise_contrastive_loss
from firstwords.models.vq_wav2vec import VqQuantizerConfig, VqWav2Vec, VqWav2VecConfig, VqWav2VecEncoderConfig
from firstwords.nn.context_network import ContextNetworkConfig
from firstwords.nn.latent_encoder import LatentEncoderConfig

VARIANTS = {
    "gumbel": VqQuantizerConfig(entries=10),
    "gumbel, narrower": VqQuantizerConfig(entries=10, dim=4, shared=False, depth=1),
    "kmeans": VqQuantizerConfig(kind="kmeans", entries=10),
    "kmeans, apart": VqQuantizerConfig(kind="kmeans", entries=10, shared=False),
}
LENGTHS = [6400, 465, 3333, 5001, 719]


def batch() -> tuple[list[Tensor], Tensor, Tensor]:
    """Waveforms alone, padded with noise, and their lengths."""
    alone = [torch.from_numpy(tone(length / 16_000, seed)) for seed, length in enumerate(LENGTHS)]
    padded = torch.randn(len(alone), max(LENGTHS), generator=torch.Generator().manual_seed(1))
    for row, waveform in zip(padded, alone, strict=True):
        row[: len(waveform)] = waveform
    return alone, padded, torch.tensor(LENGTHS)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5 * max(1.0, float(theirs.detach().abs().max())))


def seeded(built: nn.Module) -> None:
    """With norms that do something, as after training."""
    for name, value in built.named_parameters():
        if "norm" in name:
            nn.init.normal_(value, 1 if name.endswith("weight") else 0, 0.2)


def model(variant: str) -> VqWav2Vec:
    torch.manual_seed(0)
    encoder = VqWav2VecEncoderConfig(
        LatentEncoderConfig(
            (8,) * 6, (10, 8, 4, 4, 4, 1), (5, 4, 2, 2, 2, 1), activation="gelu", log_compression=False
        ),
        ContextNetworkConfig((8,) * 3, (2, 3, 4), activation="gelu"),
        quantizer=VARIANTS[variant],
    )
    built = VqWav2Vec(VqWav2VecConfig(encoder, steps=4))
    seeded(built)
    torch.nn.init.normal_(built.encoder.quantizer.codebooks)
    return built


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_codes_and_features(variant: str) -> None:
    encoder = model(variant).eval().encoder
    alone, padded, lengths = batch()
    codes, together = encoder.codes(padded, lengths), encoder(padded, lengths)
    entries = encoder(padded, lengths, layer=0).features
    for row, (waveform, frames) in enumerate(zip(alone, together.lengths.tolist(), strict=True)):
        own = encoder.codes(waveform[None])
        assert own.shape == (1, frames, 2) and torch.equal(own[0], codes[row, :frames])
        assert not codes[row, frames:].any() and not entries[row, frames:].any()
        close(together.features[row, :frames], encoder(waveform[None]).features[0])
        books = encoder.quantizer.codebooks.expand(2, -1, -1)
        looked_up = torch.cat([books[group][own[0, :, group]] for group in range(2)], 1)
        close(entries[row, :frames], looked_up)


@torch.no_grad()
def test_codes_never_have_noise() -> None:
    """Whatever mode the model is in (reference: pitfalls)."""
    alone, _, _ = batch()
    encoder = model("gumbel").train().encoder
    before = encoder.codes(alone[0][None])
    assert torch.equal(before, encoder.codes(alone[0][None]))
    assert torch.equal(before, encoder.eval().codes(alone[0][None]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients(variant: str) -> None:
    """The sums and gradients of a padded batch are those of its utterances together, noise and distractors alike."""
    built = model(variant).train()
    alone, padded, lengths = batch()
    frames = built.encoder.frames(lengths).tolist()
    quantizer = built.config.encoder.quantizer
    noise = torch.randn(sum(frames), quantizer.groups, quantizer.entries)
    wanted = torch.randn(quantizer.groups, quantizer.entries)

    def learn(waveforms: Tensor, sizes: Tensor, seeds: list[int], noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        built.zero_grad()
        result = built(waveforms, sizes, 0.8, noise)
        randoms = [np.random.default_rng(seed) for seed in seeds]
        contrast = built.config.contrast
        chosen = draw_all_distractors(result.lengths.tolist(), result.targets.shape[1], contrast, randoms)
        found = noise_contrastive_loss(
            result.predictions, result.targets, result.lengths, chosen, built.offset, contrast
        )
        made = result.quantized
        extra = made.squares if made.probabilities is None else (made.probabilities * wanted).sum()
        assert extra is not None
        (found.loss.sum() + extra).backward()
        sums = torch.cat([found.loss.detach(), made.counts.float().flatten(), extra.detach()[None]])
        return sums, {name: value.grad.clone() for name, value in built.named_parameters() if value.grad is not None}

    together, gradients = learn(padded, lengths, list(range(len(alone))), noise)
    parts = [
        learn(waveform[None], torch.tensor([len(waveform)]), [number], own)
        for number, (waveform, own) in enumerate(zip(alone, noise.split(frames), strict=True))
    ]
    close(together, torch.stack([sums for sums, _ in parts]).sum(0))
    for name, value in gradients.items():
        close(value, torch.stack([part[name] for _, part in parts if name in part]).sum(0))


def test_sizes_of_the_published_models() -> None:
    """About 33 to 34 million parameters (reference)."""
    shape = (
        LatentEncoderConfig((512,) * 8, (10, 8, 4, 4, 4, 1, 1, 1), (5, 4, 2, 2, 2, 1, 1, 1), activation="gelu"),
        ContextNetworkConfig((512,) * 12, tuple(range(2, 14)), activation="gelu", skip_connections=True),
    )
    counts = []
    with torch.device("meta"):
        for kind in ("gumbel", "kmeans"):
            config = VqWav2VecEncoderConfig(*shape, quantizer=VqQuantizerConfig(kind=kind))  # type: ignore[arg-type]
            counts.append(sum(value.numel() for value in VqWav2Vec(VqWav2VecConfig(config)).parameters()) / 1e6)
    assert all(33 <= count <= 35 for count in counts), counts


def test_a_target_among_its_equals_is_a_share_of_a_find() -> None:
    """With all codes alike nothing is told from anything, though no candidate beats the target."""
    targets = torch.ones(1, 6, 4)
    predictions = torch.ones(1, 6, 2, 4)
    config, random = NoiseContrastConfig(distractors=3), np.random.default_rng(0)
    chosen = draw_all_distractors([6], 6, config, [random])
    length = torch.tensor([6])
    alike = noise_contrastive_loss(predictions, targets, length, chosen, 1, config, shared_ties=True)
    assert float(alike.correct.sum()) == 0  # neither above nor below the others
    targets[0, ::2] = 0  # two codes: those of odd frames are found among their equals
    half = noise_contrastive_loss(predictions, targets, length, chosen, 1, config, shared_ties=True)
    whole = noise_contrastive_loss(predictions, targets, length, chosen, 1, config)
    assert 0 < float(half.correct.sum()) < float(whole.correct.sum())


@pytest.mark.parametrize("frames", [1, 4, 9, 11])
def test_fewer_frames_than_candidates(frames: int) -> None:
    config, random = NoiseContrastConfig(), np.random.default_rng(0)
    predictions, targets = torch.randn(1, frames, 4, 8, requires_grad=True), torch.randn(1, frames, 8)
    chosen = draw_all_distractors([frames], frames, config, [random])
    found = noise_contrastive_loss(predictions, targets, torch.tensor([frames]), chosen, 3, config)
    found.loss.sum().backward()
    assert found.predictions.tolist() == [max(0, frames - 3 - step) for step in range(4)]
