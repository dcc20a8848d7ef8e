"""The fine-tuning task: a pre-trained encoder learns to spell with CTC (wav2vec 2.0 section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.config import to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.greedy import blank_share, greedy
from firstwords.errors import AudioError, ConfigError, CorpusError
from firstwords.losses.ctc import ctc_loss, frames_needed
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.masking import draw_mask
from firstwords.scoring import ErrorCounts, character_errors, word_errors
from firstwords.text.alphabet import Alphabet
from firstwords.training.data import Skipped, id_bytes, pad, read_waveform, sample_lengths
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.loader import audio_loader
from firstwords.training.processes import Processes
from firstwords.training.small_weights import base_of, fix_the_rest, is_small
from firstwords.training.task import Sums
from firstwords.training.transcribed import (
    LabelledUtterances,
    example_lines,
    few,
    some_hours,
    transcripts_of,
    validation_sample,
)


@dataclass
class FinetuneBatch:
    """A micro-batch with all its random choices made."""

    waveforms: Tensor
    """(B, samples)."""
    lengths: Tensor
    """(B,) valid samples."""
    targets: Tensor
    """(B, L) labels."""
    target_lengths: Tensor
    """(B,)."""
    mask: Tensor | None
    """(B, T) bool."""
    channel_mask: Tensor | None
    """(B, D) bool."""
    utterances: list[Utterance]


class Finetuning:
    """CTC fine-tuning as a Task of the loop.

    Args:
        config: the run's configuration.
        encoder: configuration of the pre-trained encoder.
        weights: of the pre-trained encoder; None starts from random ones.
        training, validation: utterances with transcripts.
        source: what was fine-tuned, for the record.
    """

    kind = "ctc"
    best_is_low = "cer"
    """Characters, not words: with few labels every word may be wrong while letters already come out right."""

    def __init__(
        self,
        config: FinetuneConfig,
        encoder: EncoderConfig,
        weights: dict[str, Tensor] | None,
        training: Sequence[Utterance],
        validation: Sequence[Utterance],
        processes: Processes,
        skipped: Skipped,
        source: str,
    ) -> None:
        self.settings = config
        self.processes = processes
        self.skipped = skipped
        self.source = source
        self.alphabet = self._alphabet(training)
        torch.manual_seed(config.seed)
        if config.frontend == "log_mel":
            encoder, weights = replace(encoder, frontend="log_mel"), None
        adapted = config.adapt.apply(encoder, random=weights is None)
        self.model = CTCModel(CTCConfig(adapted, len(self.alphabet), config.adapt.final_dropout))
        if weights is not None:
            small = {n: v for n, v in self.model.encoder.state_dict().items() if is_small(n) and n not in weights}
            self.model.encoder.load_state_dict(self._kept(weights) | small)
        self.frozen_updates = round(config.frozen * config.steps) if weights is not None else 0
        self.base: dict[str, str] = {}
        if config.adapt.method != "all":
            if weights is None or config.adapt.fresh_blocks:
                raise ConfigError(
                    f"adapt.method {config.adapt.method} trains small weights in a fixed encoder: start from a "
                    "pre-trained one, with --adapt.fresh-blocks 0"
                )
            self.kind, self.frozen_updates = "adapter", 0
            self.base = base_of(source, weights)
            fix_the_rest(self.model)
        self._pairs: list[tuple[str, str]] = []
        labelled = LabelledUtterances(
            self.alphabet, self.model.encoder.frames, frames_needed, config.data, config.text, skipped
        )
        self.labels = labelled.labels
        self.training = some_hours(labelled.usable(training, strict=True), config.data.hours, config.seed)
        self.validation = labelled.usable(validation, strict=False)
        if not self.training:
            raise CorpusError(f"none of {len(training)} training utterances can be used; the first reasons:\n{skipped}")
        self.loader = audio_loader(sample_lengths(self.training), self._load, config.training, config.seed, processes)

    def _kept(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pre-trained weights, but new ones for the blocks that start anew and the norm after them.

        Where those are all blocks, what leads into them starts anew too: pre-training lets the residual stream grow to
        many times the size at which new blocks begin, and beside it they would hardly count.
        """
        fresh = self.settings.adapt.fresh_blocks
        if not fresh:
            return weights
        own = self.model.encoder.state_dict()
        first = len(self.model.encoder.transformer.blocks) - fresh
        new = tuple(f"transformer.blocks.{number}." for number in range(max(0, first), first + fresh))
        if self.model.encoder.config.transformer.final_norm:
            new += ("transformer.norm.",)
        if first <= 0:
            new += ("projection.", "transformer.position.")
        return {name: own[name] if name.startswith(new) else value for name, value in weights.items()}

    def _alphabet(self, training: Sequence[Utterance]) -> Alphabet:
        text = self.settings.text
        return Alphabet.build(transcripts_of(training, text), text.units, text.normalization, text.final_boundary)

    def _load(self, bucket: Bucket, update: int) -> FinetuneBatch | None:
        return self.make_batch([self.training[i] for i in bucket.members], (self.settings.seed, update))

    def make_batch(self, utterances: Sequence[Utterance], seeds: tuple[int, ...] | None) -> FinetuneBatch | None:
        """Reads utterances, and masks them where `seeds` are given; what cannot be read is noted and left out."""
        encoder = self.model.encoder
        waveforms, masks, channel_masks, used = [], [], [], []
        for utterance in utterances:
            try:
                waveform = read_waveform(utterance, encoder.config.normalize_waveform, encoder.config.normalize_epsilon)
            except AudioError as error:
                self.skipped.add(utterance.id, str(error))
                continue
            frames = encoder.frames(len(waveform))
            if frames < frames_needed(self.labels[utterance.id]):
                self.skipped.add(utterance.id, f"utterance {utterance.id}: shorter than its manifest line says")
                continue
            waveforms.append(waveform)
            used.append(utterance)
            if seeds is not None:
                random = np.random.default_rng([*seeds, *id_bytes(utterance)])
                masks.append(draw_mask(frames, self.settings.mask, random))
                channel_masks.append(draw_mask(encoder.dim, self.settings.channel_mask, random))
        if not waveforms:
            return None
        padded, lengths = pad(waveforms)
        labels = [torch.tensor(self.labels[utterance.id]) for utterance in used]
        mask = channel_mask = None
        if seeds is not None:
            together = np.zeros((len(masks), encoder.frames(padded.shape[1])), dtype=bool)
            for row, part in zip(together, masks, strict=True):
                row[: len(part)] = part
            mask, channel_mask = torch.from_numpy(together), torch.from_numpy(np.stack(channel_masks))
        return FinetuneBatch(
            padded,
            lengths,
            nn.utils.rnn.pad_sequence(labels, batch_first=True),
            torch.tensor([len(part) for part in labels]),
            mask,
            channel_mask,
            used,
        )

    def count(self, batches: list[FinetuneBatch]) -> Tensor:
        """Utterances, seconds of audio."""
        rows = [(len(batch.utterances), float(batch.lengths.sum()) / SAMPLE_RATE) for batch in batches]
        return torch.tensor(rows or [[0.0, 0.0]], dtype=torch.double).sum(0)

    def survey(self, batches: list[FinetuneBatch], update: int, counts: Tensor, lacking: bool = False) -> list[bool]:
        """LayerDrop's choice, alike in all parts of the update."""
        layers = self.model.config.encoder.transformer
        shared = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + update)
        return (torch.rand(layers.layers, generator=shared) > layers.layerdrop).tolist()

    def loss(
        self, module: nn.Module, batch: FinetuneBatch, update: int, counts: Tensor, whole: list[bool] | None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean CTC loss of an utterance."""
        device = self.processes.device
        logits, lengths = module(
            batch.waveforms.to(device),
            batch.lengths.to(device),
            None if batch.mask is None else batch.mask.to(device),
            None if batch.channel_mask is None else batch.channel_mask.to(device),
            whole if self.model.training else None,
            frozen=update < self.frozen_updates,
        )
        sums = self._sums(batch, logits, lengths)
        return sums["nats"] / float(counts[0]), {name: value.detach().double() for name, value in sums.items()}

    def _sums(self, batch: FinetuneBatch, logits: Tensor, lengths: Tensor) -> Sums:
        """What the log's figures are made of; the loss in nats with its gradient."""
        targets, sizes = batch.targets.to(logits.device), batch.target_lengths.to(logits.device)
        return {
            "nats": ctc_loss(logits, lengths, targets, sizes).sum(),
            "utterances": torch.tensor(float(len(batch.utterances))),
            "labels": batch.target_lengths.sum(),
            "blanks": torch.tensor(blank_share(logits.detach(), lengths) * float(lengths.sum())),
            "frames": lengths.sum(),
        }

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        figures = {
            "bits_per_label": float(sums["nats"]) / math.log(2) / max(1.0, float(sums["labels"])),
            "loss": float(sums["nats"]) / max(1.0, float(sums["utterances"])),
            "blank_share": float(sums["blanks"]) / max(1.0, float(sums["frames"])),
        }
        return figures

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        text = f"loss {figures['bits_per_label']:.3f} bits per label  blank {figures['blank_share']:.0%}  "
        if "wer" in figures:
            name = "PER" if self.settings.text.units == "phonemes" else "WER"
            text += f"{name} {figures['wer']:.1%}  CER {figures['cer']:.1%}"
        return text.rstrip()

    def validate(self, update: int) -> dict[str, float]:
        """Loss, error rates and blank share on validation utterances, decoded greedily; prints a few of them."""
        chosen = validation_sample(self.validation, self.settings.data.valid_utterances)
        if not chosen:
            return {}
        micro = round(self.settings.training.micro_batch_seconds * SAMPLE_RATE)
        totals: Sums = {}
        words, characters = ErrorCounts(), ErrorCounts()
        pairs = {}
        for members in UpdatePlan(sample_lengths(chosen), micro, micro, crop=False, seed=0).epoch(0):
            for bucket in members:
                batch = self.make_batch([chosen[i] for i in bucket.members], None)
                if batch is None:
                    continue
                logits, lengths = self.model(
                    batch.waveforms.to(self.processes.device), batch.lengths.to(self.processes.device)
                )
                sums = self._sums(batch, logits, lengths)
                totals = {name: totals.get(name, 0) + value.double().cpu() for name, value in sums.items()}
                for utterance, labels in zip(batch.utterances, greedy(logits, lengths), strict=True):
                    reference = self.alphabet.decode(self.labels[utterance.id])
                    hypothesis = self.alphabet.decode(labels)
                    words += word_errors(reference, hypothesis)
                    characters += character_errors(reference, hypothesis)
                    pairs[utterance.id] = (reference, hypothesis)
        if not totals:
            return {}
        self._pairs = few(pairs)
        return self.describe(totals) | {"wer": words.rate, "cer": characters.rate}

    def examples(self) -> list[str]:
        """A few references and hypotheses of the last validation."""
        return example_lines(self._pairs)

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """Fine-tuning has no illness that the blank share and the error rates do not show."""
        return "healthy", None

    def state(self) -> dict[str, Any]:
        """The alphabet, and what was fine-tuned."""
        return {"alphabet": self.alphabet.to_dict(), "source": self.source} | self.base

    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        return to_dict(self.model.config)
