"""What all objectives on audio alone share: which utterances, their crops, how they are read, and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.config import to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan, share
from firstwords.corpus.languages import LanguageSampler, language_of, languages_of
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, ConfigError, CorpusError
from firstwords.nn.lengths import normalize_waveform
from firstwords.training.config import TrainingConfig
from firstwords.training.data import Skipped, id_bytes, is_silent, read_waveform, sample_lengths
from firstwords.training.health import Health
from firstwords.training.loader import Loader, audio_loader
from firstwords.training.multilingual import again, heard_by_language
from firstwords.training.processes import Processes
from firstwords.training.task import Batch, Sums

VALIDATION_SEED = 1_000_003
"""Crops, masks and distractors of validation are the same in every run of the same data."""


@dataclass(frozen=True)
class PretrainDataConfig:
    """Which audio is listened to."""

    min_seconds: float = 2.0
    """Shorter utterances are left out: 32 k samples. Source: wav2vec 2.0 section 4.2."""
    crop_seconds: float = 15.625
    """Longer utterances are cropped at random: 250 k samples BASE, 20 s (320 k) LARGE."""
    train: tuple[str, ...] = ("train",)
    """Splits to listen to; utterances without any split always count."""
    valid: tuple[str, ...] = ("dev", "valid", "validation")
    """Splits to validate on."""
    held_out: float = 0.01
    """Share of the training utterances to validate on where no utterance is in a `valid` split."""
    valid_seconds: float = 1800.0
    """Most audio of a validation; several languages share it evenly."""
    language_alpha: float | None = None
    """Sample languages (the manifest's `language`) with probability proportional to (n_l / N)^alpha, n_l their hours:
    1 keeps their proportions, 0 makes them alike. XLSR takes 0.5. None takes every utterance once an epoch."""


@dataclass(frozen=True)
class AudioOnlyConfig:
    """A pre-training run, as a recipe describes it."""

    model: Any = None
    """The model and its objective."""
    data: PretrainDataConfig = field(default_factory=PretrainDataConfig)
    """Which audio."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How much at a time, how fast."""
    steps: int = 400_000
    """Updates. Source: BASE."""
    seed: int = 1
    """Of weights, order, crops, masks, distractors and noise. Source: fairseq."""
    chance_patience: int = 20_000
    """Updates after which a loss still at chance level means that the run is stuck."""


class Crop(NamedTuple):
    """A stretch of an utterance, ready for the model."""

    waveform: Tensor
    """(samples,)."""
    frames: int
    """That it gives."""
    random: np.random.Generator
    """Of the utterance in this update: what is drawn from it does not depend on the utterance's neighbours."""
    language: str
    """Of the utterance."""


class AudioOnly(ABC, Generic[Batch]):
    """The part of a Task of the loop that does not depend on the objective.

    `weights` of a model to go on from replace those that the seed drew.
    """

    kind: str
    best_is_low = "bits"
    least_frames = 1
    """Fewer than these teach nothing."""

    def __init__(
        self,
        config: AudioOnlyConfig,
        model: nn.Module,
        health: Health,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        weights: dict[str, Tensor] | None,
    ) -> None:
        self.settings = config
        self.skipped = skipped
        self.processes = processes
        self.model: Any = model
        if weights is not None:
            model.load_state_dict(model.state_dict() | weights)
        self.health = health
        self.crop = round(config.data.crop_seconds * SAMPLE_RATE)
        self.training = self._usable(training)
        self.validation = self._usable(validation)
        names = languages_of(self.training)
        self.languages = names if len(names) > 1 else ()
        """Those that are told apart in the log: none where there is but one."""
        self._by_language: dict[str, dict[str, float]] = {}
        lengths, alpha = np.minimum(sample_lengths(self.training), self.crop), config.data.language_alpha
        sampler = None if alpha is None else LanguageSampler(self.training, lengths, alpha)
        self.loader: Loader[Batch] = audio_loader(
            lengths, self._load, config.training, config.seed, processes, crop=True, sampler=sampler
        )

    def _usable(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """Utterances long enough to be scored."""
        data, features = self.settings.data, self.model.encoder.feature_encoder
        least = features.receptive_field + (self.least_frames - 1) * features.hop
        shortest = max(data.min_seconds, least / SAMPLE_RATE)
        if shortest > data.crop_seconds:
            raise ConfigError(f"data: min_seconds ({shortest}) is above crop_seconds ({data.crop_seconds})")
        kept = []
        for utterance in utterances:
            if (utterance.duration or 0) < shortest:
                self.skipped.add(utterance.id, f"utterance {utterance.id}: shorter than {shortest:g} s")
            else:
                kept.append(utterance)
        if utterances and not kept:
            raise CorpusError(f"all {len(utterances)} utterances are shorter than data.min_seconds = {shortest:g} s")
        return kept

    def _load(self, bucket: Bucket, update: int) -> Batch | None:
        utterances, copies = (numbers.tolist() for numbers in self.loader.plan.which(bucket.members))
        chosen = [again(self.training[i], copy) for i, copy in zip(utterances, copies, strict=True)]
        return self.make_batch(chosen, bucket.samples, (self.settings.seed, update))

    @abstractmethod
    def make_batch(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> Batch | None:
        """A micro-batch with all its random choices made, of crops of `samples`; None where nothing can be used.

        Every choice is drawn from (seeds, the utterance's id), never from its neighbours.
        """

    def read_crops(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> list[Crop]:
        """Reads utterances and crops them to `samples`; what cannot be read or heard is left out, whole ones noted."""
        encoder = self.model.encoder
        crops = []
        for utterance in utterances:
            random = np.random.default_rng([*seeds, *id_bytes(utterance)])
            try:
                waveform = read_waveform(utterance, normalize=False)
            except AudioError as error:
                self.skipped.add(utterance.id, str(error))
                continue
            start = int(random.integers(0, max(0, len(waveform) - samples) + 1))
            if len(waveform) and is_silent(waveform[start : start + samples]):
                # Frames that cannot be told apart teach nothing, and many of them keep a run from learning the rest.
                if is_silent(waveform):
                    self.skipped.add(utterance.id, f"utterance {utterance.id}: nothing to hear: silence, or one value")
                continue
            if encoder.config.normalize_waveform:
                waveform = normalize_waveform(waveform[None], epsilon=encoder.config.normalize_epsilon)[0]
            waveform = waveform[start : start + samples]
            frames = encoder.frames(len(waveform))
            if frames < self.least_frames:
                few = "a single frame" if self.least_frames == 1 else f"{self.least_frames} frames"
                self.skipped.add(utterance.id, f"utterance {utterance.id}: too short for {few}")
                continue
            crops.append(Crop(waveform, frames, random, language_of(utterance)))
        return crops

    @abstractmethod
    def count(self, batches: list[Batch]) -> Tensor:
        """See Task."""

    def heard(self, batches: list[Batch]) -> Tensor:
        """(L,) seconds of each of `languages`; batches have `languages`, one an utterance, and `lengths` (B,)."""
        return heard_by_language(self.languages, [(batch.languages, batch.lengths) for batch in batches])  # type: ignore[attr-defined]

    @abstractmethod
    def survey(self, batches: list[Batch], update: int, counts: Tensor, lacking: bool = False) -> Any:
        """See Task."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: Batch, update: int, counts: Tensor, whole: Any) -> tuple[Tensor, Sums]:
        """See Task."""

    @abstractmethod
    def alone(self) -> Any:
        """What `survey` would say of a batch that is an update by itself, in evaluation mode."""

    def validate(self, update: int) -> dict[str, float]:
        """The objective on validation audio, with the same random choices every time; where there are several
        languages, on each by itself too ("bits/de")."""
        names = languages_of(self.validation)
        totals: Sums = {}
        self._by_language = {}
        for name in names:
            own = self._validate([u for u in self.validation if language_of(u) == name], 1 / len(names), update)
            for key, value in own.items():
                totals[key] = totals.get(key, torch.zeros_like(value)) + value
            if self.languages and own:
                self._by_language[name] = self.describe(own)
        if not totals:
            return {}
        return self.describe(totals) | {
            f"{key}/{name}": figures[key]
            for name, figures in self._by_language.items()
            for key in ("bits", "accuracy", "codes_perplexity")
            if key in figures
        }

    def _validate(self, utterances: Sequence[Utterance], part: float, update: int) -> Sums:
        """Sums over the utterances, as many as `part` of a validation's audio holds."""
        chosen, seconds = [], 0.0
        for utterance in sorted(utterances, key=lambda u: u.id):
            if seconds < self.settings.data.valid_seconds * part:
                chosen.append(utterance)
                seconds += min(utterance.duration or 0, self.settings.data.crop_seconds)
        if not chosen:
            return {}
        lengths = np.minimum(sample_lengths(chosen), self.crop)
        bucket_samples, micro_samples = (
            round(seconds * SAMPLE_RATE)
            for seconds in (self.settings.training.bucket_seconds, self.settings.training.micro_batch_seconds)
        )
        totals: Sums = {}
        for update_buckets in UpdatePlan(lengths, bucket_samples, bucket_samples, crop=True, seed=0).epoch(0):
            for bucket in share(update_buckets, micro_samples):
                batch = self.make_batch([chosen[i] for i in bucket.members], bucket.samples, (VALIDATION_SEED,))
                if batch is None or not float(self.count([batch])[0]):
                    continue
                _, sums = self.loss(self.model, batch, update, self.count([batch]), self.alone())
                for name, value in sums.items():
                    totals[name] = totals.get(name, torch.zeros_like(value.cpu())) + value.cpu()
        return totals

    @abstractmethod
    def describe(self, sums: Sums) -> dict[str, float]:
        """See Task."""

    @abstractmethod
    def line(self, figures: dict[str, float]) -> str:
        """See Task."""

    @abstractmethod
    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """See Task."""

    def examples(self) -> list[str]:
        """Sounds and codes say nothing to a reader; how languages fare does."""
        return [f"  {name}: {self.line(figures)}" for name, figures in self._by_language.items()]

    def state(self) -> dict[str, Any]:
        """Nothing besides weights and progress."""
        return {}

    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return to_dict(self.settings.model)
