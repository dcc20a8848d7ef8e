"""The pre-training task of vq-wav2vec: wav2vec's objective over codes, and the quantiser's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from firstwords.corpus.batches import Position
from firstwords.corpus.utterance import Utterance
from firstwords.errors import ConfigError
from firstwords.losses.diversity import diversity_loss
from firstwords.losses.noise_contrastive import draw_all_distractors, noise_contrastive_loss
from firstwords.models.vq_wav2vec import VqWav2Vec, VqWav2VecConfig
from firstwords.nn.lengths import length_mask
from firstwords.nn.quantizer import gumbel_noise, perplexity
from firstwords.training.audio_only import AudioOnly, AudioOnlyConfig
from firstwords.training.data import Skipped, pad
from firstwords.training.health import Health
from firstwords.training.processes import Processes
from firstwords.training.task import Sums
from firstwords.training.wav2vec import FutureBatch, count_predictions, describe_predictions, line_of_predictions

MOST_COMBINATIONS = 1 << 18
"""With more possible combinations of codes those in use are not counted."""


@dataclass(frozen=True)
class VqWav2VecPretrainConfig(AudioOnlyConfig):
    """A pre-training run of vq-wav2vec, as a recipe describes it."""

    model: VqWav2VecConfig = field(default_factory=VqWav2VecConfig)
    """The model and its objective."""


@dataclass
class CodedBatch(FutureBatch):
    """A micro-batch with all its random choices made."""

    noise_seeds: list[int]
    """One an utterance, for the Gumbel noise of its frames."""


@dataclass
class WholeCodes:
    """What a part's loss needs to know of the whole update."""

    probabilities: Tensor | None
    """(G, V) sum of entry probabilities over the update; None where the part's own, summed over processes, are it."""
    processes: Processes


class VqWav2VecPretraining(AudioOnly[CodedBatch]):
    """vq-wav2vec's objective as a Task of the loop.

    `weights` of a model to go on from replace those that the seed draws.
    """

    kind = "vq-wav2vec"

    def __init__(
        self,
        config: VqWav2VecPretrainConfig,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        kmeans = config.model.encoder.quantizer.kind == "kmeans"
        if kmeans and weights is None and not config.model.quantizer_weight > 0:
            raise ConfigError(
                "model: the codebooks of k-means learn from their own loss alone, and quantizer_weight is "
                f"{config.model.quantizer_weight}; fairseq's is 1: --model.quantizer-weight 1"
            )
        torch.manual_seed(config.seed)
        model = VqWav2Vec(config.model)
        self.offset = model.offset
        self.quantizer = config.model.encoder.quantizer
        self.entries = self.quantizer.groups * self.quantizer.entries
        self.code_dim = model.encoder.code_dim
        self.least_frames = max(2, model.offset + 1)
        health = Health(config.chance_patience, self.quantizer.groups, self.entries, codes_are_all=True)
        super().__init__(config, model, health, training, validation, processes, skipped, weights)
        if self.quantizer.kind == "kmeans" and self.quantizer.start == 0 and weights is None:
            self._start_from_frames()

    @torch.no_grad()
    def _start_from_frames(self) -> None:
        """k-means: codebooks become frames of the first update, the same in all processes."""
        encoder = self.model.encoder
        generator = torch.Generator().manual_seed(self.settings.seed)
        buckets, _ = next(self.loader.plan.updates_from(Position()))
        for bucket in buckets:
            if (batch := self._load(bucket, 0)) is not None:
                frames = encoder.frames(batch.lengths)
                projected = encoder.quantizer.project(encoder.feature_encoder(batch.waveforms, batch.lengths), frames)
                encoder.quantizer.start_from(projected[length_mask(frames, projected.shape[1])], generator)
                return

    def make_batch(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> CodedBatch | None:
        """Crops with distractors and seeds of noise; see AudioOnly."""
        crops = self.read_crops(utterances, samples, seeds)
        if not crops:
            return None
        padded, lengths = pad([crop.waveform for crop in crops])
        frames, randoms = [crop.frames for crop in crops], [crop.random for crop in crops]
        distractors = draw_all_distractors(frames, max(frames), self.settings.model.contrast, randoms)
        noise_seeds = [int(random.integers(2**62)) for random in randoms]
        return CodedBatch(padded, lengths, frames, distractors, [crop.language for crop in crops], noise_seeds)

    def count(self, batches: list[CodedBatch]) -> Tensor:
        """Predictions, frames, micro-batches, seconds of audio."""
        predictions, seconds = count_predictions(batches, self.settings.model.steps, self.offset)
        frames = float(sum(sum(batch.frames) for batch in batches))
        return torch.stack([predictions, *torch.tensor([frames, len(batches)], dtype=torch.double), seconds])

    def survey(self, batches: list[CodedBatch], update: int, counts: Tensor, lacking: bool = False) -> WholeCodes:
        """The entry probabilities of the whole update, where the loss of each part depends on them.

        That is with Gumbel softmax and a weight on its loss only. Where an update comes in several parts, the quantiser
        takes a first look at all of them, without gradient.
        """
        wanted = self.quantizer.kind == "gumbel" and self.settings.model.quantizer_weight > 0
        one_each = not lacking and int(counts[2]) == self.processes.count
        if one_each or not wanted:
            return WholeCodes(None, self.processes)
        device = self.processes.device
        total = torch.zeros(self.quantizer.groups, self.quantizer.entries, device=device)
        for batch in batches:
            total += self.model.code_statistics(batch.waveforms.to(device), batch.lengths.to(device))
        return WholeCodes(self.processes.sum(total), self.processes)

    def alone(self) -> WholeCodes:
        """The batch's own probabilities are the whole."""
        return WholeCodes(None, Processes.alone(self.processes.device))

    def loss(
        self, module: nn.Module, batch: CodedBatch, update: int, counts: Tensor, whole: WholeCodes
    ) -> tuple[Tensor, Sums]:
        """This part's share of: mean loss of a prediction + weight * the quantiser's loss.

        The latter is, with k-means, the mean over frames and channels of codebook and commitment terms, and with Gumbel
        softmax G V - perplexity (fairseq).
        """
        config, device = self.settings.model, self.processes.device
        temperature = self.quantizer.temperature(update)
        noise = self._noise(batch, device) if self.model.training else None
        result = module(batch.waveforms.to(device), batch.lengths.to(device), temperature, noise)
        found = noise_contrastive_loss(
            result.predictions,
            result.targets,
            result.lengths,
            batch.distractors.to(device),
            self.offset,
            config.contrast,
            shared_ties=True,
        )
        loss, frames, made = found.loss.sum() / float(counts[0]), float(counts[1]), result.quantized
        sums: Sums = {
            "nats": found.loss.double(),
            "correct": found.correct.double(),
            "predictions": found.predictions.double(),
            "codes": made.counts.double(),
            "frames": torch.tensor(sum(batch.frames), dtype=torch.double),
        }
        if made.squares is not None:
            loss = loss + config.quantizer_weight * made.squares / (frames * self.code_dim)
            sums["squares"] = made.squares.double()
        elif made.probabilities is not None:
            own = made.probabilities
            sums |= {"probabilities": own.double(), "temperature": temperature * sums["frames"]}
            if config.quantizer_weight:
                together = whole.processes.sum(own.detach()) if whole.probabilities is None else whole.probabilities
                share = together + own - own.detach()  # the value of the whole, the gradient of this part
                loss = loss + config.quantizer_weight * self.entries * diversity_loss(share, frames)
        if not self.model.training and self.quantizer.entries**self.quantizer.groups <= MOST_COMBINATIONS:
            sums["combinations"] = self._combinations(made.codes)
        return loss, sums

    def _noise(self, batch: CodedBatch, device: torch.device) -> Tensor | None:
        """Gumbel noise (N, G, V), each utterance's from its own seed."""
        if self.quantizer.kind != "gumbel" or not self.quantizer.gumbel_noise:
            return None
        shape = (self.quantizer.groups, self.quantizer.entries)
        parts = [
            gumbel_noise((count, *shape), device, torch.Generator(device).manual_seed(seed))
            for count, seed in zip(batch.frames, batch.noise_seeds, strict=True)
        ]
        return torch.cat(parts)

    def _combinations(self, codes: Tensor) -> Tensor:
        """(V^G,) how often each combination of codes (N, G) occurs."""
        numbers = torch.zeros_like(codes[:, 0])
        for group in range(self.quantizer.groups):
            numbers = numbers * self.quantizer.entries + codes[:, group]
        return torch.bincount(numbers, minlength=self.quantizer.entries**self.quantizer.groups).double()

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        figures = describe_predictions(sums, self.settings.model.contrast)
        frames = max(float(sums["frames"]), 1.0)
        figures["codes_used"] = float((sums["codes"] > 0).sum())
        for name in ("codes", "probabilities"):
            if name in sums:
                each = perplexity(sums[name])
                figures |= {f"{name}_perplexity_{group}": float(value) for group, value in enumerate(each)}
                figures[f"{name}_perplexity"] = float(each.sum())
        if "squares" in sums:
            figures["kmeans_loss"] = float(sums["squares"]) / (frames * self.code_dim)
        if "temperature" in sums:
            figures["temperature"] = float(sums["temperature"]) / frames
        if "combinations" in sums:
            figures["combinations_used"] = float((sums["combinations"] > 0).sum())
            figures["combinations_perplexity"] = float(perplexity(sums["combinations"]))
        return figures

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        text = f"{line_of_predictions(figures)}  codes {figures['codes_perplexity']:.0f}"
        text += f" of {self.entries} ({figures['codes_used']:.0f} used"
        if "combinations_used" in figures:
            text += f", {figures['combinations_used']:.0f} combinations"
        text += ")"
        if "kmeans_loss" in figures:
            text += f"  k-means loss {figures['kmeans_loss']:.3f}"
        return text + (f"  temp {figures['temperature']:.2f}" if "temperature" in figures else "")

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """The run's health."""
        sentence = self.health.look(
            update, figures["bits"], figures["chance_bits"], figures["accuracy"], figures["codes_perplexity"]
        )
        return self.health.verdict, sentence
