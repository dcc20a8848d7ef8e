"""The pre-training task: wav2vec 2.0's objective over a corpus of audio, whole however it is split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.config import to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan, share
from firstwords.corpus.languages import LanguageSampler, language_of, languages_of
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, ConfigError, CorpusError
from firstwords.losses.contrastive import (
    ContrastIndices,
    contrast_indices,
    contrastive_logits,
    contrastive_loss,
    scored_frames,
)
from firstwords.losses.diversity import diversity_loss
from firstwords.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from firstwords.nn.lengths import normalize_waveform
from firstwords.nn.masking import draw_spans, leave_one, thin_masks
from firstwords.nn.quantizer import gumbel_noise, perplexity
from firstwords.training.config import TrainingConfig
from firstwords.training.data import Skipped, id_bytes, is_silent, pad, read_waveform, sample_lengths
from firstwords.training.health import Health
from firstwords.training.loader import Loader
from firstwords.training.multilingual import again, heard_by_language
from firstwords.training.processes import Processes
from firstwords.training.task import Sums

VALIDATION_SEED = 1_000_003
"""Masks and distractors of validation are the same in every run of the same data."""


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
class PretrainConfig:
    """A pre-training run, as a recipe describes it."""

    model: Wav2Vec2Config = field(default_factory=Wav2Vec2Config)
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
    languages: list[str] = field(default_factory=list)
    """One an utterance."""


@dataclass
class WholeUpdate:
    """What a part's loss needs to know of the whole update."""

    probabilities: Tensor | None
    """(G, V) sum of entry probabilities over the update; None where the update has one part."""
    processes: Processes
    kept: list[bool]
    """LayerDrop's choice."""


class Pretraining:
    """wav2vec 2.0's objective as a Task of the loop.

    `weights` of a model to go on from replace those that the seed draws.
    """

    kind = "wav2vec2"
    best_is_low = "bits"

    def __init__(
        self,
        config: PretrainConfig,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self.settings = config
        self.skipped = skipped
        self.processes = processes
        torch.manual_seed(config.seed)
        self.model = Wav2Vec2(config.model)
        if weights is not None:
            self.model.load_state_dict(self.model.state_dict() | weights)
        codebooks = config.model.quantizer.groups * config.model.quantize_targets
        self.health = Health(config.chance_patience, codebooks, codebooks * config.model.quantizer.entries)
        self.crop = round(config.data.crop_seconds * SAMPLE_RATE)
        self.training = self._usable(training)
        self.validation = self._usable(validation)
        names = languages_of(self.training)
        self.languages = names if len(names) > 1 else ()
        self._by_language: dict[str, dict[str, float]] = {}
        lengths, alpha = np.minimum(sample_lengths(self.training), self.crop), config.data.language_alpha
        sizes = config.training
        plan = UpdatePlan(
            lengths,
            round(sizes.batch_seconds * SAMPLE_RATE),
            round(sizes.bucket_seconds * SAMPLE_RATE),
            crop=True,
            seed=config.seed,
            sampler=None if alpha is None else LanguageSampler(self.training, lengths, alpha),
        )
        micro = round(sizes.micro_batch_seconds * SAMPLE_RATE)
        self.loader = Loader(plan, self._load, micro, processes.rank, processes.count, sizes.workers)

    def _usable(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """Utterances long enough to be masked and scored."""
        data = self.settings.data
        shortest = max(data.min_seconds, self.model.encoder.feature_encoder.receptive_field / SAMPLE_RATE)
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

    def _load(self, bucket: Bucket, update: int) -> PretrainBatch | None:
        utterances, copies = (numbers.tolist() for numbers in self.loader.plan.which(bucket.members))
        chosen = [again(self.training[i], copy) for i, copy in zip(utterances, copies, strict=True)]
        return self.make_batch(chosen, bucket.samples, (self.settings.seed, update))

    def make_batch(self, utterances: Sequence[Utterance], samples: int, seeds: tuple[int, ...]) -> PretrainBatch | None:
        """Reads, crops to `samples` and masks utterances; what cannot be read or heard is left out, whole ones noted.

        Every choice is drawn from (seeds, the utterance's id), never from its neighbours.
        """
        model, config = self.model, self.settings.model
        waveforms, masks, scored, randoms, noise_seeds, languages = [], [], [], [], [], []
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
            if config.encoder.normalize_waveform:
                waveform = normalize_waveform(waveform[None], epsilon=config.encoder.normalize_epsilon)[0]
            waveform = waveform[start : start + samples]
            frames = model.encoder.frames(len(waveform))
            if frames < 1:
                self.skipped.add(utterance.id, f"utterance {utterance.id}: too short for a single frame")
                continue
            spans = draw_spans(frames, config.mask, random)
            mask = leave_one(spans.mask())
            waveforms.append(waveform)
            languages.append(language_of(utterance))
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
        frames = model.encoder.frames(padded.shape[1])
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

    def heard(self, batches: list[PretrainBatch]) -> Tensor:
        """(L,) seconds of each of `languages`."""
        return heard_by_language(self.languages, [(batch.languages, batch.lengths) for batch in batches])

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

    def validate(self, update: int) -> dict[str, float]:
        """The objective on validation audio, with the same crops, masks and distractors every time; where there are
        several languages, of each by itself too ("bits/de")."""
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

    def _validate(self, utterances: Sequence[Utterance], share_of: float, update: int) -> Sums:
        """Sums over as many of the utterances as validation has time for."""
        chosen, seconds = [], 0.0
        for utterance in sorted(utterances, key=lambda u: u.id):
            if seconds < self.settings.data.valid_seconds * share_of:
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
        alone = Processes.alone(self.processes.device)
        for update_buckets in UpdatePlan(lengths, bucket_samples, bucket_samples, crop=True, seed=0).epoch(0):
            for bucket in share(update_buckets, micro_samples):
                part = [chosen[i] for i in bucket.members]
                batch = self.make_batch(part, bucket.samples, (VALIDATION_SEED,))
                if batch is None or len(batch.indices.scored) == 0:
                    continue
                _, sums = self.loss(self.model, batch, update, self.count([batch]), WholeUpdate(None, alone, []))
                for name, value in sums.items():
                    totals[name] = totals.get(name, torch.zeros_like(value.cpu())) + value.cpu()
        return totals

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

    def examples(self) -> list[str]:
        """Codes say nothing to a reader; how languages fare does."""
        return [f"  {name}: {self.line(figures)}" for name, figures in self._by_language.items()]

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

    def state(self) -> dict[str, Any]:
        """Nothing besides weights and progress."""
        return {}

    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return to_dict(self.settings.model)
