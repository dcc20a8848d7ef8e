"""The acoustic task: a convolutional network learns to spell on features that stay as they are (wav2vec section 4).

Features are computed utterance by utterance, in the threads that read recordings, and kept: they are the same whatever
batch an utterance is in, and every epoch after the first costs the network only.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.config import to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.beam import BeamDecoder
from firstwords.decoding.greedy import GreedyDecoder
from firstwords.decoding.options import make_beam_decoder
from firstwords.decoding.viterbi import ViterbiDecoder
from firstwords.errors import AudioError, ConfigError, CorpusError, TextError
from firstwords.losses.asg import asg_loss, linear_loss, scales
from firstwords.losses.ctc import ctc_loss, frames_needed
from firstwords.models.encoders import encoder_kind
from firstwords.models.wav2letter import AcousticConfig, AcousticEmissions, AcousticModel
from firstwords.scoring import ErrorCounts, character_errors, word_errors
from firstwords.text.alphabet import Alphabet
from firstwords.training.acoustic_config import AcousticRecipe
from firstwords.training.data import Skipped, read_waveform, sample_lengths
from firstwords.training.loader import audio_loader
from firstwords.training.processes import Processes
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
class AcousticBatch:
    """A micro-batch."""

    features: Tensor
    """(B, T, layers, D), on the device."""
    lengths: Tensor
    """(B,) valid frames."""
    targets: Tensor
    """(B, L) labels."""
    target_lengths: Tensor
    """(B,)."""
    seconds: float
    """Of audio."""
    utterances: list[Utterance]


class AcousticTraining:
    """An acoustic model's training as a Task of the loop.

    Args:
        config: the run's configuration.
        encoder: whose features are heard (see `models.encoders`), with its weights; None takes log-mel bands.
        training, validation: utterances with transcripts.
        source: where the encoder is from, for the record.

    Raises:
        ConfigError: a layer that the encoder has not, or settings that contradict each other.
        CorpusError: nothing to learn from.
    """

    kind = "acoustic"

    def __init__(
        self,
        config: AcousticRecipe,
        encoder: nn.Module | None,
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
        self.patience = config.training.patience
        self.asg = config.criterion == "asg"
        self.best_is_low = "cer" if config.validation.lm is None else "wer"
        text = config.text
        self.alphabet = Alphabet.build(
            transcripts_of(training, text),
            text.units,
            text.normalization,
            text.final_boundary,
            text.first_boundary and self.asg,
            text.repetitions if self.asg else 0,
            blank=not self.asg,
        )
        torch.manual_seed(config.seed)
        kind = None if encoder is None else dict(zip(("kind", "config"), encoder_kind(encoder), strict=True))
        labels = len(self.alphabet)
        shape = AcousticConfig(config.features, config.network, labels, config.criterion, config.self_transition, kind)
        self.model = AcousticModel(shape, encoder)
        needed: Callable[[list[int]], int] = len if self.asg else frames_needed
        labelled = LabelledUtterances(self.alphabet, self.model.front.frames, needed, config.data, text, skipped)
        self.labels = labelled.labels
        self.training = some_hours(labelled.usable(training, strict=True), config.data.hours, config.seed)
        self.validation = labelled.usable(validation, strict=False)
        self._pairs: list[tuple[str, str]] = []
        if not self.training:
            raise CorpusError(f"none of {len(training)} training utterances can be used; the first reasons:\n{skipped}")
        self._decoder: BeamDecoder | None = None
        if config.validation.lm is not None:
            decoding = config.validation.decoder()
            try:
                self._decoder = make_beam_decoder(decoding, self.alphabet, self.model.transition_scores())
            except (ConfigError, TextError) as error:  # which name options as other commands have them
                options = "|".join(field.name.replace("_", "-") for field in fields(config.validation))
                raise type(error)(re.sub(f"--(?=(?:{options})\\b)", "--validation.", str(error))) from error
        self.loader = audio_loader(sample_lengths(self.training), self._load, config.training, config.seed, processes)
        self._known: dict[str, Tensor] = {}
        self._room = config.data.cache_gigabytes * 1e9
        self._lock = threading.Lock()

    def _load(self, bucket: Bucket, update: int) -> AcousticBatch | None:
        return self.make_batch([self.training[i] for i in bucket.members])

    def make_batch(self, utterances: Sequence[Utterance]) -> AcousticBatch | None:
        """Reads and hears utterances; what cannot be read is noted and left out."""
        heard, used = [], []
        for utterance in utterances:
            try:
                features = self._features(utterance)
            except AudioError as error:
                self.skipped.add(utterance.id, str(error))
                continue
            labels = self.labels[utterance.id]
            if len(features) < (len(labels) if self.asg else frames_needed(labels)):
                self.skipped.add(utterance.id, f"utterance {utterance.id}: shorter than its manifest line says")
                continue
            heard.append(features)
            used.append(utterance)
        if not used:
            return None
        targets = [torch.tensor(self.labels[utterance.id]) for utterance in used]
        device = self.processes.device
        return AcousticBatch(
            nn.utils.rnn.pad_sequence(heard, batch_first=True).to(device),
            torch.tensor([len(one) for one in heard], device=device),
            nn.utils.rnn.pad_sequence(targets, batch_first=True).to(device),
            torch.tensor([len(one) for one in targets], device=device),
            sum(utterance.duration or 0 for utterance in used),
            used,
        )

    def _features(self, utterance: Utterance) -> Tensor:
        """(T, layers, D) of one utterance, heard alone; on the CPU. Raises AudioError."""
        known = self._known.get(utterance.id)
        if known is not None:
            return known
        waveform = read_waveform(utterance, normalize=False)
        device, front = self.processes.device, self.model.front
        if front.frames(len(waveform)) < 1:
            return torch.zeros(0, front.layers, front.dim)
        lengths = torch.tensor([len(waveform)], device=device)
        with torch.autocast(device.type, enabled=False):
            found = self.model.features(waveform[None].to(device), lengths)[0].cpu()
        with self._lock:
            size = found.numel() * found.element_size()
            if size <= self._room and utterance.id not in self._known:
                self._known[utterance.id] = found
                self._room -= size
        return found

    def count(self, batches: list[AcousticBatch]) -> Tensor:
        """Utterances, seconds of audio."""
        rows = [(float(len(batch.utterances)), batch.seconds) for batch in batches]
        return torch.tensor(rows or [[0.0, 0.0]], dtype=torch.double).sum(0)

    def survey(self, batches: list[AcousticBatch], update: int, counts: Tensor, lacking: bool = False) -> None:
        """A part's loss needs nothing of the others."""

    def loss(
        self, module: nn.Module, batch: AcousticBatch, update: int, counts: Tensor, whole: None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean loss of an utterance."""
        found: AcousticEmissions = module(None, batch.lengths, batch.features)
        nats = self._nats(batch, found, linear=self.asg and update < self.settings.linear_updates)
        weights = scales(self.settings.scale, batch.lengths, batch.target_lengths).to(nats)
        scaled = (nats * weights).sum()
        return scaled / float(counts[0]), self._sums(batch, nats, scaled)

    def _nats(self, batch: AcousticBatch, found: AcousticEmissions, linear: bool = False) -> Tensor:
        """(B,) loss of each utterance, not divided by anything."""
        logits = found.logits.float()
        if found.transitions is None:
            return ctc_loss(logits, found.lengths, batch.targets, batch.target_lengths)
        criterion = linear_loss if linear else asg_loss
        return criterion(logits, found.lengths, batch.targets, batch.target_lengths, found.transitions, "none")

    def _sums(self, batch: AcousticBatch, nats: Tensor, scaled: Tensor) -> Sums:
        """What the log's figures are made of."""
        return {
            "nats": nats.detach().double().sum(),
            "scaled": scaled.detach().double(),
            "utterances": torch.tensor(float(len(batch.utterances)), dtype=torch.double),
            "labels": batch.target_lengths.double().sum(),
        }

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        return {
            "bits_per_label": float(sums["nats"]) / math.log(2) / max(1.0, float(sums["labels"])),
            "loss": float(sums["scaled"]) / max(1.0, float(sums["utterances"])),
        }

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        text = f"loss {figures['bits_per_label']:.3f} bits per label  "
        if "wer" in figures:
            name = "PER" if self.settings.text.units == "phonemes" else "WER"
            text += f"{name} {figures['wer']:.1%}  CER {figures['cer']:.1%}"
        if "path_wer" in figures:
            text += f"  without the language model {figures['path_wer']:.1%}, {figures['path_cer']:.1%}"
        return text.rstrip()

    def validate(self, update: int) -> dict[str, float]:
        """Loss and error rates on validation utterances: of the best path, and of the language model's reading."""
        chosen = validation_sample(self.validation, self.settings.data.valid_utterances)
        if not chosen:
            return {}
        transitions = self.model.transition_scores()
        plain = GreedyDecoder() if transitions is None else ViterbiDecoder(transitions)
        if self._decoder is not None:
            self._decoder.change_transitions(transitions)
        micro = round(self.settings.training.micro_batch_seconds * SAMPLE_RATE)
        totals: Sums = {}
        errors = {name: ErrorCounts() for name in ("wer", "cer", "path_wer", "path_cer")}
        pairs = {}
        for members in UpdatePlan(sample_lengths(chosen), micro, micro, crop=False, seed=0).epoch(0):
            for bucket in members:
                batch = self.make_batch([chosen[i] for i in bucket.members])
                if batch is None:
                    continue
                found = self.model(None, batch.lengths, batch.features)
                nats = self._nats(batch, found)
                weights = scales(self.settings.scale, batch.lengths, batch.target_lengths).to(nats)
                sums = self._sums(batch, nats, (nats * weights).sum())
                totals = {name: totals.get(name, 0) + value.cpu() for name, value in sums.items()}
                rows = zip(found.logits.float().cpu(), batch.lengths.tolist(), strict=True)
                emissions = [row[:length].log_softmax(-1) for row, length in rows]
                paths = plain(emissions)
                read = paths if self._decoder is None else self._decoder(emissions)
                for utterance, path, reading in zip(batch.utterances, paths, read, strict=True):
                    reference = self.alphabet.decode(self.labels[utterance.id])
                    for start, hypothesis in (("path_", path[0]), ("", reading[0])):
                        text = self.alphabet.decode(hypothesis.labels)
                        errors[f"{start}wer"] += word_errors(reference, text)
                        errors[f"{start}cer"] += character_errors(reference, text)
                    pairs[utterance.id] = (reference, text)
        if not totals:
            return {}
        self._pairs = few(pairs)
        kept = errors if self._decoder is not None else {name: errors[name] for name in ("wer", "cer")}
        return self.describe(totals) | {name: counts.rate for name, counts in kept.items()}

    def examples(self) -> list[str]:
        """A few references and hypotheses of the last validation."""
        return example_lines(self._pairs)

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """No illness that the error rates do not show."""
        return "healthy", None

    def state(self) -> dict[str, Any]:
        """The alphabet, and what was heard."""
        return {"alphabet": self.alphabet.to_dict(), "source": self.source}

    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        return to_dict(self.model.config)
