"""The classification task: a head, or head and encoder, learn classes that the manifest names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.class_scoring import ClassificationScore, Classified, classification_score
from firstwords.config import to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError
from firstwords.losses.additive_margin import additive_margin_logits
from firstwords.models.classifier import Classifier, ClassifierConfig, Decision
from firstwords.nn.masking import draw_mask
from firstwords.training.classes import IGNORED, Classes
from firstwords.training.classify_config import ClassifyConfig
from firstwords.training.data import Skipped, id_bytes, pad, read_waveform, sample_lengths
from firstwords.training.loader import audio_loader
from firstwords.training.processes import Processes
from firstwords.training.task import Sums
from firstwords.verification import make_trials, verification_score


@dataclass
class ClassifyBatch:
    """A micro-batch with all its random choices made: waveforms, or what was heard of them."""

    waveforms: Tensor | None
    """(B, samples); None where means are there."""
    means: Tensor | None
    """(B, S, D) of each layer over time."""
    lengths: Tensor
    """(B,) valid samples; frames, where means are there."""
    targets: Tensor
    """(B,) classes; (B, T) of a head on frames."""
    mask: Tensor | None
    """(B, T) bool."""
    channel_mask: Tensor | None
    """(B, D) bool."""
    seconds: float
    """Of audio."""
    utterances: list[Utterance]


class Classification:
    """Classes of utterances or frames as a Task of the loop.

    Args:
        config: the run's configuration.
        encoder: kind of the encoder, and its configuration with the run's changes applied.
        weights: of the encoder; None starts from random ones.
        training, validation: utterances; those without a class are left out.
        source: where the encoder came from, for the record.

    Raises:
        CorpusError: nothing to learn: no class, one class only, or no usable utterance.
    """

    kind = "classifier"

    def __init__(
        self,
        config: ClassifyConfig,
        encoder: tuple[str, Any],
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
        self.best_is_low = "eer" if config.head.kind == "x-vector" else "error_rate"
        self.on_frames = config.head.kind == "frames"
        self.classes = Classes(training, config.data.label, self.on_frames)
        self.labels = self.classes.labels
        torch.manual_seed(config.seed)
        kind, settings = encoder
        self.model = Classifier(ClassifierConfig(kind, to_dict(settings), config.head, len(self.labels)), config.learn)
        if weights is not None:
            self.model.encoder.load_state_dict(weights)
        self.frozen_updates = round(config.frozen * config.steps) if weights is not None else 0
        self._rows: dict[str, int] = {}
        self._means = self._frames = torch.zeros(0)
        self.training = self._usable(training, learning=True)
        known = self.classes.known(validation, unseen=self.best_is_low == "eer")
        self.validation = self._usable(known, learning=False)
        self._score: ClassificationScore | None = None
        if not self.training:
            raise CorpusError(f"none of {len(training)} training utterances can be used; the first reasons:\n{skipped}")
        lengths = sample_lengths(self.training)
        if self.crop:
            lengths = np.minimum(lengths, self.crop)
        self.loader = audio_loader(lengths, self._load, config.training, config.seed, processes)

    @property
    def notes(self) -> list[str]:
        """What the user should know about the classes, in sentences."""
        return self.classes.notes

    @property
    def crop(self) -> int:
        """Samples to which longer training utterances are cropped; 0 for none."""
        return round(self.settings.data.crop_seconds * SAMPLE_RATE)

    @property
    def cacheable(self) -> bool:
        """Whether the means of the layers are all that a run needs of an utterance, and always the same."""
        config = self.settings
        return config.cache == "auto" and config.learn == "head" and config.head.kind == "mean" and not self.crop

    def hear(self, means: dict[str, Tensor]) -> None:
        """Takes the (S, D) means of the layers of each utterance, by id (`training.pooled`); none is read again."""
        self._rows = {name: row for row, name in enumerate(means)}
        self._means = torch.stack(list(means.values()))
        seconds = {u.id: u.duration or 0.0 for u in (*self.training, *self.validation)}
        samples = torch.tensor([round(seconds[name] * SAMPLE_RATE) for name in means])
        self._frames = self.model.encoder.frames(samples)

    def _usable(self, utterances: Sequence[Utterance], learning: bool) -> list[Utterance]:
        """Utterances with a class that are neither too long nor too short; the others are noted and left out."""
        kept = []
        least, longest = self.settings.head.context, self.settings.data.max_seconds
        for utterance in utterances:
            if not self.classes.has(utterance):
                continue
            seconds = utterance.duration or 0
            frames = self.model.encoder.frames(round(seconds * SAMPLE_RATE))
            if frames < least:
                self.skipped.add(utterance.id, f"utterance {utterance.id}: {frames} frames, the head needs {least}")
            elif seconds > longest and not (learning and self.crop):
                reason = f"utterance {utterance.id}: {seconds:.1f} s, above max_seconds {longest:g}"
                self.skipped.add(utterance.id, reason)
            else:
                kept.append(utterance)
        return kept

    def _load(self, bucket: Bucket, update: int) -> ClassifyBatch | None:
        return self.make_batch([self.training[i] for i in bucket.members], (self.settings.seed, update))

    def make_batch(self, utterances: Sequence[Utterance], seeds: tuple[int, ...] | None) -> ClassifyBatch | None:
        """Reads utterances; crops and masks them where `seeds` are given; what cannot be read is noted and left out."""
        if self._rows:
            return self._heard([u for u in utterances if u.id in self._rows])
        waveforms, starts, masks, channel_masks, used = [], [], [], [], []
        masked = seeds is not None and self.settings.learn == "all" and (
            self.settings.mask.probability > 0 or self.settings.channel_mask.probability > 0
        )  # fmt: skip
        for utterance in utterances:
            try:
                waveform = read_waveform(utterance, normalize=False)
            except AudioError as error:
                self.skipped.add(utterance.id, str(error))
                continue
            random = np.random.default_rng([*(seeds or (0,)), *id_bytes(utterance)])
            start = 0
            if seeds is not None and self.crop and len(waveform) > self.crop:
                start = int(random.integers(len(waveform) - self.crop + 1))
                waveform = waveform[start : start + self.crop]
            frames = self.model.encoder.frames(len(waveform))
            if frames < self.settings.head.context:
                self.skipped.add(utterance.id, f"utterance {utterance.id}: shorter than its manifest line says")
                continue
            waveforms.append(waveform)
            starts.append(start / SAMPLE_RATE)
            used.append(utterance)
            if masked:
                masks.append(draw_mask(frames, self.settings.mask, random))
                channel_masks.append(draw_mask(self.model.encoder.dim, self.settings.channel_mask, random))
        if not waveforms:
            return None
        padded, lengths = pad(waveforms)
        mask = channel_mask = None
        if masked:
            together = np.zeros((len(masks), self.model.encoder.frames(padded.shape[1])), dtype=bool)
            for row, part in zip(together, masks, strict=True):
                row[: len(part)] = part
            mask, channel_mask = torch.from_numpy(together), torch.from_numpy(np.stack(channel_masks))
        targets = self._targets(used, starts, lengths)
        seconds = float(lengths.sum()) / SAMPLE_RATE
        return ClassifyBatch(padded, None, lengths, targets, mask, channel_mask, seconds, used)

    def _heard(self, utterances: list[Utterance]) -> ClassifyBatch | None:
        if not utterances:
            return None
        rows = torch.tensor([self._rows[u.id] for u in utterances])
        seconds = sum(u.duration or 0.0 for u in utterances)
        targets = self.classes.targets(utterances)
        return ClassifyBatch(None, self._means[rows], self._frames[rows], targets, None, None, seconds, utterances)

    def _targets(self, utterances: Sequence[Utterance], starts: Sequence[float], lengths: Tensor) -> Tensor:
        if self.on_frames:
            return self.classes.frame_targets(utterances, starts, lengths, self.model.encoder)
        return self.classes.targets(utterances)

    def count(self, batches: list[ClassifyBatch]) -> Tensor:
        """Decisions (utterances, or frames with a class), seconds of audio."""
        rows = [(float((batch.targets != IGNORED).sum()), batch.seconds) for batch in batches]
        return torch.tensor(rows or [[0.0, 0.0]], dtype=torch.double).sum(0)

    def survey(
        self, batches: list[ClassifyBatch], update: int, counts: Tensor, lacking: bool = False
    ) -> list[bool] | None:
        """LayerDrop's choice, alike in all parts of the update; None where there is none to make."""
        layers = getattr(self.model.encoder.config, "transformer", None)
        if layers is None or self.settings.learn == "head":
            return None
        shared = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + update)
        return (torch.rand(layers.layers, generator=shared) > layers.layerdrop).tolist()

    def loss(
        self, module: nn.Module, batch: ClassifyBatch, update: int, counts: Tensor, whole: list[bool] | None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean cross-entropy of a decision."""
        decision = self._decide(module, batch, whole if self.model.training else None, update < self.frozen_updates)
        sums = self._sums(batch, decision)
        return sums["nats"] / float(counts[0]), {name: value.detach().double() for name, value in sums.items()}

    def _decide(
        self, module: nn.Module, batch: ClassifyBatch, kept: list[bool] | None = None, frozen: bool = False
    ) -> Decision:
        def there(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(self.processes.device)

        decision: Decision = module(
            there(batch.waveforms), there(batch.lengths), there(batch.mask), there(batch.channel_mask), kept, frozen,
            means=there(batch.means),
        )  # fmt: skip
        return decision

    def _sums(self, batch: ClassifyBatch, decision: Decision) -> Sums:
        """What the log's figures are made of; the loss in nats with its gradient."""
        head = self.settings.head
        logits, targets = decision.logits.float(), batch.targets.to(decision.logits.device)
        if self.on_frames:
            logits, targets = logits.flatten(0, 1), targets.flatten()
        known = targets != IGNORED
        logits, targets = logits[known], targets[known]
        right = (logits.argmax(-1) == targets).sum()
        if head.kind == "x-vector":
            logits = additive_margin_logits(logits / head.scale, targets, head.scale, head.margin)
        nats = F.cross_entropy(logits, targets, reduction="sum")
        return {"nats": nats, "right": right, "decisions": known.sum()}

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        decisions = max(1.0, float(sums["decisions"]))
        return {
            "bits_per_decision": float(sums["nats"]) / math.log(2) / decisions,
            "accuracy": float(sums["right"]) / decisions,
            "chance_bits": math.log2(len(self.labels)),
        }

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        parts = []
        if "bits_per_decision" in figures:
            beside = " (with margin)" if self.best_is_low == "eer" else f" (chance {figures['chance_bits']:.2f})"
            parts += [f"loss {figures['bits_per_decision']:.3f} bits{beside}", f"accuracy {figures['accuracy']:.1%}"]
        parts += [f"macro-F1 {figures['macro_f1']:.1%}"] if "macro_f1" in figures else []
        return "  ".join([*parts, f"EER {figures['eer']:.1%}"] if "eer" in figures else parts)

    def validate(self, update: int) -> dict[str, float]:
        """Loss, accuracy and macro-F1 on validation utterances; the equal error rate of an x-vector head."""
        chosen = sorted(self.validation, key=lambda u: u.id)
        chosen = chosen[:: max(1, len(chosen) // max(1, self.settings.data.valid_utterances))]
        chosen = chosen[: self.settings.data.valid_utterances]
        micro = round(self.settings.training.micro_batch_seconds * SAMPLE_RATE)
        totals: Sums = {}
        found: list[Classified] = []
        vectors: dict[str, np.ndarray] = {}
        plan = UpdatePlan(sample_lengths(chosen), micro, micro, crop=False, seed=0).epoch(0) if chosen else []
        for bucket in (bucket for buckets in plan for bucket in buckets):
            batch = self.make_batch([chosen[i] for i in bucket.members], None)
            if batch is None:
                continue
            decision = self._decide(self.model, batch)
            sums = self._sums(batch, decision)
            totals = {name: totals.get(name, 0) + value.double().cpu() for name, value in sums.items()}
            if self.on_frames:
                continue
            best = decision.logits.argmax(-1).tolist()
            rows = F.normalize(decision.embeddings.float(), dim=1).cpu().numpy()
            for utterance, hypothesis, row in zip(batch.utterances, best, rows, strict=True):
                found.append(Classified(utterance.id, self.classes.of(utterance), self.labels[hypothesis]))
                vectors[utterance.id] = row
        if not totals:
            return {}
        figures = {}
        if float(totals["decisions"]):  # none where all speakers are strangers
            wrong = 1 - float(totals["right"]) / float(totals["decisions"])
            figures = self.describe(totals) | {"error_rate": wrong}
        if known := [one for one in found if one.reference in self.classes.numbers]:
            self._score = classification_score(known, self.labels, resamples=0)
            figures["macro_f1"] = self._score.macro_f1
        if self.best_is_low == "eer":
            trials = make_trials({one.id: one.reference for one in found})
            if len({trial.same for trial in trials}) == 2:
                scores = np.array([float(vectors[t.first] @ vectors[t.second]) for t in trials])
                figures["eer"] = verification_score(trials, scores, resamples=0).equal_error_rate
        return figures

    def examples(self) -> list[str]:
        """What the last validation took for what."""
        pairs = self._score.commonest(3) if self._score else []
        return [f"{'':>15}{times} x {reference} taken for {found}" for reference, found, times in pairs if times > 1]

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """A head has no illness that loss and accuracy do not show."""
        return "healthy", None

    def state(self) -> dict[str, Any]:
        """The classes, the field that named them, and where the encoder came from."""
        return {"labels": self.labels, "label_field": self.settings.data.label, "source": self.source}

    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        return to_dict(self.model.config)
