"""The pre-training task: wav2vec 2.0's objective over a corpus of audio, whole however it is split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.losses.contrastive import (
    ContrastIndices,
    contrast_indices,
    contrastive_logits,
    contrastive_loss,
    scored_frames,
)
from firstwords.losses.diversity import diversity_loss
from firstwords.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from firstwords.nn.masking import draw_spans, leave_one, thin_masks
from firstwords.nn.quantizer import gumbel_noise, perplexity
from firstwords.training.audio_only import AudioOnly, AudioOnlyConfig
from firstwords.training.data import Skipped, pad
from firstwords.training.health import Health
from firstwords.training.processes import Processes
from firstwords.training.task import Sums


@dataclass(frozen=True)
class PretrainConfig(AudioOnlyConfig):
    """A pre-training run of wav2vec 2.0, as a recipe describes it."""

    model: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)
    """The model and its objective."""


@dataclass
class PretrainBatch:
    """A micro-batch with all its random choices made."""

    waveforms: Tensor
    """(B, samples)."""
    lengths: Tensor
    """(B,) valid samples."""
    mask: Tensor
    """(B, T) bool."""
    indices: ContrastIndices
    """Candidates, scored frames, distractors."""
    noise_seeds: list[int]
    """One an utterance, for the Gumbel noise of its candidates."""
    candidates: list[int]
    """How many candidates each utterance has."""
    frames: int
    """Valid frames, of all utterances."""
    languages: list[str]
    """One an utterance."""


@dataclass
class WholeUpdate:
    """What a part's loss needs to know of the whole update."""

    probabilities: Tensor | None
    """(G, V) sum of entry probabilities over the update; None where the update has one part."""
    processes: Processes
    kept: list[bool]
    """LayerDrop's choice."""


class Pretraining(AudioOnly[PretrainBatch]):
    """wav2vec 2.0's objective as a Task of the loop.

    `weights` of a model to go on from replace those that the seed draws.
    """

    kind = "wav2vec2"

    def __init__(
        self,
        config: PretrainConfig,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        model = Wav2Vec2(config.model)
        codebooks = config.model.quantizer.groups * config.model.quantize_targets
        health = Health(config.chance_patience, codebooks, codebooks * config.model.quantizer.entries)
        super().__init__(config, model, health, training, validation, processes, skipped, weights)

    def make_batch(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> PretrainBatch | None:
        """Crops with masks and distractors; see AudioOnly."""
        config = self.settings.model
        waveforms, masks, scored, randoms, noise_seeds, languages = [], [], [], [], [], []
        for waveform, frames, random, language in self.read_crops(utterances, samples, seeds):
            spans = draw_spans(frames, config.mask, random)
            mask = leave_one(spans.mask())
            waveforms.append(waveform)
            languages.append(language)
            masks.append(mask)
            scored.append(scored_frames(mask, spans, config.contrast))
            randoms.append(random)
            noise_seeds.append(int(random.integers(2**62)))
        if not waveforms:
            return None
        if config.mask.equalize or config.mask.dropout:
            masks = thin_masks(masks, config.mask, randoms[0])
            scored = [part & mask for part, mask in zip(scored, masks, strict=True)]
        padded, lengths = pad(waveforms)
        frames = self.model.encoder.frames(padded.shape[1])
        indices = contrast_indices(masks, scored, frames, config.contrast, randoms)
        together = np.zeros((len(masks), frames), dtype=bool)
        for row, mask in zip(together, masks, strict=True):
            row[: len(mask)] = mask
        pools = masks if config.contrast.candidates == "masked" else [np.ones_like(mask) for mask in masks]
        return PretrainBatch(
            padded,
            lengths,
            torch.from_numpy(together),
            indices,
            noise_seeds,
            [int(pool.sum()) for pool in pools],
            sum(map(len, masks)),
            languages,
        )

    def count(self, batches: list[PretrainBatch]) -> Tensor:
        """Scored frames, candidates, all frames, micro-batches, seconds of audio."""
        rows = [
            (len(b.indices.scored), len(b.indices.pool), b.frames, 1, float(b.lengths.sum()) / SAMPLE_RATE)
            for b in batches
        ]
        return torch.tensor(rows or [[0.0] * 5], dtype=torch.double).sum(0)

    def survey(self, batches: list[PretrainBatch], update: int, counts: Tensor, lacking: bool = False) -> WholeUpdate:
        """The entry probabilities of the whole update, which the diversity loss of each part depends on.

        One part: they are its own. One part a process: they are summed inside the loss. Otherwise the quantiser takes
        a first look at all of them (no Transformer, no gradient, about a tenth of the update's arithmetic).
        """
        layers = self.settings.model.encoder.transformer
        shared = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + update)  # alike in all processes
        kept = (torch.rand(layers.layers, generator=shared) > layers.layerdrop).tolist()
        one_each = not lacking and int(counts[3]) == self.processes.count
        if one_each or not self.settings.model.quantize_targets:
            return WholeUpdate(None, self.processes, kept)
        quantizer, device = self.settings.model.quantizer, self.processes.device
        total = torch.zeros(quantizer.groups, quantizer.entries, device=device)
        for batch in batches:
            waveforms, lengths = batch.waveforms.to(device), batch.lengths.to(device)
            total += self.model.code_statistics(waveforms, lengths, batch.indices.to(device))
        return WholeUpdate(self.processes.sum(total), self.processes, kept)

    def loss(
        self, module: nn.Module, batch: PretrainBatch, update: int, counts: Tensor, whole: WholeUpdate
    ) -> tuple[Tensor, Sums]:
        """This part's share of: mean contrastive loss + alpha * diversity loss + weight * mean squared latent."""
        config = self.settings.model
        device = self.processes.device
        indices = batch.indices.to(device)
        temperature = config.quantizer.temperature(update)
        result = module(
            batch.waveforms.to(device),
            batch.lengths.to(device),
            batch.mask.to(device),
            indices,
            temperature,
            self._noise(batch, device) if self.model.training else None,
            whole.kept if self.model.training else None,
        )
        logits = contrastive_logits(result.context, result.targets, result.codes, indices, config.contrast.temperature)
        contrast = contrastive_loss(logits)
        latents = float(counts[2]) * self.model.encoder.feature_encoder.output_dim
        loss = contrast.loss / float(counts[0]) + config.feature_penalty * result.squares / latents
        sums: Sums = {
            "nats": contrast.loss.double(),
            "correct": contrast.correct.double(),
            "unopposed": contrast.unopposed.double(),
            "scored": torch.tensor(contrast.frames, dtype=torch.double, device=device),
            "squares": result.squares.double(),
            "masked": batch.mask.sum().double(),
            "frames": torch.tensor(batch.frames, dtype=torch.double),
            "temperature": torch.tensor(temperature * contrast.frames, dtype=torch.double),
        }
        if result.probabilities is not None and result.counts is not None:
            own = result.probabilities
            together = whole.processes.sum(own.detach()) if whole.probabilities is None else whole.probabilities
            share = together + own - own.detach()  # the value of the whole, the gradient of this part
            loss = loss + config.diversity_weight * diversity_loss(share, float(counts[1]))
            sums |= {"probabilities": own.double(), "codes": result.counts.double()}
        return loss, sums

    def _noise(self, batch: PretrainBatch, device: torch.device) -> Tensor | None:
        """Gumbel noise (N, G, V), each utterance's from its own seed."""
        quantizer = self.settings.model.quantizer
        if not self.settings.model.quantize_targets or not quantizer.gumbel_noise:
            return None
        parts = [
            gumbel_noise(
                (count, quantizer.groups, quantizer.entries), device, torch.Generator(device).manual_seed(seed)
            )
            for count, seed in zip(batch.candidates, batch.noise_seeds, strict=True)
        ]
        return torch.cat(parts)

    def alone(self) -> WholeUpdate:
        """One part, no other processes, no LayerDrop."""
        return WholeUpdate(None, Processes.alone(self.processes.device), [])

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        scored = max(float(sums["scored"]), 1.0)
        contrast = self.settings.model.contrast
        dim = self.model.encoder.feature_encoder.output_dim
        figures = {
            "bits": float(sums["nats"]) / scored / math.log(2),
            "chance_bits": math.log2(contrast.distractors + contrast.batch_distractors + 1),
            "accuracy": float(sums["correct"]) / scored,
            "unopposed_share": float(sums["unopposed"]) / scored,
            "feature_penalty": float(sums["squares"]) / (float(sums["frames"]) * dim),
            "masked_share": float(sums["masked"]) / float(sums["frames"]),
            "temperature": float(sums["temperature"]) / scored,
        }
        for name in ("codes", "probabilities"):
            if name in sums:
                each = perplexity(sums[name])
                figures |= {f"{name}_perplexity_{group}": float(value) for group, value in enumerate(each)}
                figures[f"{name}_perplexity"] = float(each.sum())
        return figures

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        text = f"loss {figures['bits']:.3f} of {figures['chance_bits']:.2f} bits  accuracy {figures['accuracy']:.3f}  "
        if "codes_perplexity" in figures:
            text += f"codes {figures['codes_perplexity']:.0f}/{figures['probabilities_perplexity']:.0f}  "
        text += f"temp {figures['temperature']:.2f}"
        return text.rstrip()

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """The run's health."""
        sentence = self.health.look(
            update,
            figures["bits"],
            figures["chance_bits"],
            figures["accuracy"],
            figures.get("codes_perplexity", math.inf),
            figures["unopposed_share"],
        )
        return self.health.verdict, sentence
