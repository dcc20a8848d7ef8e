"""The pre-training task of wav2vec (2019): its objective over a corpus of audio, whole however it is split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.losses.noise_contrastive import (
    Distractors,
    NoiseContrastConfig,
    chance_nats,
    draw_all_distractors,
    noise_contrastive_loss,
    predictions_of,
)
from firstwords.models.wav2vec import Wav2Vec, Wav2VecConfig
from firstwords.training.audio_only import AudioOnly, AudioOnlyConfig
from firstwords.training.data import Skipped, pad
from firstwords.training.health import Health
from firstwords.training.processes import Processes
from firstwords.training.task import Sums


@dataclass(frozen=True)
class Wav2VecPretrainConfig(AudioOnlyConfig):
    """A pre-training run of wav2vec, as a recipe describes it."""

    model: Wav2VecConfig = field(default_factory=Wav2VecConfig)
    """The model and its objective."""


@dataclass
class FutureBatch:
    """A micro-batch with all its random choices made."""

    waveforms: Tensor
    """(B, samples)."""
    lengths: Tensor
    """(B,) valid samples."""
    frames: list[int]
    """Valid frames of each utterance."""
    distractors: Distractors
    """Of every frame."""
    languages: list[str]
    """One an utterance."""


class Wav2VecPretraining(AudioOnly[FutureBatch]):
    """wav2vec's objective as a Task of the loop.

    `weights` of a model to go on from replace those that the seed draws.
    """

    kind = "wav2vec"

    def __init__(
        self,
        config: Wav2VecPretrainConfig,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        model = Wav2Vec(config.model)
        self.offset = model.offset
        self.least_frames = max(2, model.offset + 1)
        health = Health(config.chance_patience, codebooks=0)
        super().__init__(config, model, health, training, validation, processes, skipped, weights)

    def make_batch(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> FutureBatch | None:
        """Crops with distractors; see AudioOnly."""
        crops = self.read_crops(utterances, samples, seeds)
        if not crops:
            return None
        padded, lengths = pad([crop.waveform for crop in crops])
        frames = [crop.frames for crop in crops]
        distractors = draw_all_distractors(
            frames, max(frames), self.settings.model.contrast, [crop.random for crop in crops]
        )
        return FutureBatch(padded, lengths, frames, distractors, [crop.language for crop in crops])

    def count(self, batches: list[FutureBatch]) -> Tensor:
        """Predictions, seconds of audio."""
        return count_predictions(batches, self.settings.model.steps, self.offset)

    def survey(self, batches: list[FutureBatch], update: int, counts: Tensor, lacking: bool = False) -> None:
        """Nothing: every prediction stands for itself."""

    def alone(self) -> None:
        """Nothing."""

    def loss(
        self, module: nn.Module, batch: FutureBatch, update: int, counts: Tensor, whole: None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean loss of a prediction."""
        device = self.processes.device
        result = module(batch.waveforms.to(device), batch.lengths.to(device))
        found = noise_contrastive_loss(
            result.predictions,
            result.targets,
            result.lengths,
            batch.distractors.to(device),
            self.offset,
            self.settings.model.contrast,
        )
        sums: Sums = {
            "nats": found.loss.double(),
            "correct": found.correct.double(),
            "predictions": found.predictions.double(),
        }
        return found.loss.sum() / float(counts[0]), sums

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        return describe_predictions(sums, self.settings.model.contrast)

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        return line_of_predictions(figures)

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """The run's health."""
        sentence = self.health.look(
            update, figures["bits"], figures["chance_bits"], figures["accuracy"], perplexity=math.inf
        )
        return self.health.verdict, sentence


def count_predictions(batches: Sequence[FutureBatch], steps: int, offset: int) -> Tensor:
    """(2,) predictions and seconds of audio of some micro-batches."""
    rows = [
        (
            float(sum(predictions_of(frames, steps, offset) for frames in batch.frames)),
            float(batch.lengths.sum()) / SAMPLE_RATE,
        )
        for batch in batches
    ]
    return torch.tensor(rows or [[0.0, 0.0]], dtype=torch.double).sum(0)


def describe_predictions(sums: Sums, contrast: NoiseContrastConfig) -> dict[str, float]:
    """Loss in bits beside chance level, and how many predictions found their target, for each step and overall."""
    nats, correct, made = (sums[name].double().cpu() for name in ("nats", "correct", "predictions"))
    total = max(float(made.sum()), 1.0)
    figures = {
        "bits": float(nats.sum()) / total / math.log(2),
        "chance_bits": chance_nats(contrast) / math.log(2),
        "accuracy": float(correct.sum()) / total,
        "chance_accuracy": 1 / (1 + contrast.distractors + contrast.batch_distractors),
    }
    for step, (right, count) in enumerate(zip(correct.tolist(), made.tolist(), strict=True), start=1):
        if count:
            figures[f"accuracy_step_{step}"] = right / count
    return figures


def line_of_predictions(figures: dict[str, float]) -> str:
    """The same, for a person."""
    steps = [value for name, value in figures.items() if name.startswith("accuracy_step_")]
    text = f"loss {figures['bits']:.3f} of {figures['chance_bits']:.2f} bits  accuracy {figures['accuracy']:.3f}"
    return text + (f" (first step {steps[0]:.2f}, last {steps[-1]:.2f})" if len(steps) > 1 else "")
