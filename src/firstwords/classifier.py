"""Audio in, classes out: utterances, speakers, or stretches of a recording."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.models import load_classifier
from firstwords.corpus.parallel import map_in_order
from firstwords.decoding.words import FrameClock
from firstwords.encoder import choose_device
from firstwords.errors import AudioError
from firstwords.models.classifier import Classifier, Decision
from firstwords.recording import Recording, Source, name_of

READ_AHEAD = 64
"""Recordings that are read and sorted by length at a time, so that batches need little padding."""
SPARE = 0.1
"""Share of a batch that may be padding on a CPU, where a batch is hardly faster than its utterances one by one."""


@dataclass(frozen=True)
class Stretch:
    """A part of a recording in which one class holds."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    label: str
    probability: float
    """Mean over its frames."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about a recording."""

    id: str
    """An utterance's id, a file's path, or "array" and a number."""
    duration: float
    """Seconds."""
    probabilities: dict[str, float]
    """Of each class, the most probable first. Of a head on frames: the mean over all frames."""
    embedding: np.ndarray
    """(E,) what was pooled and projected (the speaker's vector of an x-vector head), float32."""
    stretches: tuple[Stretch, ...] = ()
    """Of a head on frames: what was heard when."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """Of the most probable class."""
        return self.probabilities[self.label]


class SpeechClassifier:
    """A trained classifier, ours or one of transformers' heads.

    A recording gets the same answer alone and in a batch. Those longer than `whole_seconds` are heard in equal parts:
    probabilities and vectors are then means over the parts, stretches follow one another.
    """

    def __init__(
        self, model: Classifier, labels: Sequence[str], device: str = "cpu", label_field: str = "", whole: float = 60.0
    ) -> None:
        """
        Args:
            model: put into evaluation mode on `device`, in place.
            labels: what its outputs stand for.
            device: as torch names it.
            label_field: key of the manifest that named the classes; "" where nobody knows.
            whole: seconds up to which a recording is heard as a whole.
        """
        self.model = model.eval().requires_grad_(False).to(device)
        self.labels = list(labels)
        self.device = torch.device(device)
        self.label_field = label_field
        self.whole_seconds = whole

    @classmethod
    def load(cls, place: str | Path, device: str = "auto") -> SpeechClassifier:
        """Reads a run of `firstwords classify train` (its best checkpoint), or a Hugging Face folder or hub name.

        Raises:
            CheckpointError: nothing there, cut short, or no classifier.
        """
        model, checkpoint = load_classifier(place)
        field = str(checkpoint.state.get("label_field", ""))
        return cls(model, checkpoint.state["labels"], choose_device(device), field)

    @property
    def kind(self) -> str:
        """Of its head: "mean", "x-vector" or "frames"."""
        return self.model.config.head.kind

    @property
    def clock(self) -> FrameClock:
        """When the network's frames are."""
        front = self.model.encoder.feature_encoder
        return FrameClock(front.hop / SAMPLE_RATE, (front.receptive_field - front.hop) / 2 / SAMPLE_RATE)

    @property
    def shortest(self) -> int:
        """Samples that a recording needs for the head's context; shorter ones are padded with silence to one frame."""
        front = self.model.encoder.feature_encoder
        return int(front.receptive_field + (self.model.config.head.context - 1) * front.hop)

    def classify(
        self,
        sources: Iterable[Source],
        sample_rate: int = SAMPLE_RATE,
        batch_seconds: float = 60.0,
        skip: Callable[[str, AudioError], None] | None = None,
        heard: Callable[[float], None] | None = None,
        overlapping: bool = False,
    ) -> Iterator[Prediction]:
        """Predictions in the order of `sources`.

        Args:
            sources: files, samples (samples,), utterances of a corpus; any number.
            sample_rate: of samples given as arrays.
            batch_seconds: most audio, padding included, that the network sees at once.
            skip: called with the name and the error of a recording that cannot be used, which is then left out; None
                raises the error.
            heard: called with seconds of audio as they are done, for a progress bar.
            overlapping: of a head on frames: classes that may hold at the same time (two speakers), each where its own
                sigmoid is above one half, as published diarisation heads are trained; else each frame has one class.

        Raises:
            AudioError: a recording cannot be read, or is too short for an x-vector (without `skip`).
        """

        def read(item: tuple[int, Source]) -> tuple[str, Tensor | AudioError]:
            number, source = item
            try:
                recording = Recording.open(source, number, sample_rate)
                samples = recording.read()
                self._check(recording.name, samples)
                return recording.name, samples
            except AudioError as error:
                return name_of(source, number), error

        arriving = map_in_order(read, enumerate(sources))
        while chunk := list(islice(arriving, READ_AHEAD)):
            parts = [
                (number, part)
                for number, (_, samples) in enumerate(chunk)
                if isinstance(samples, Tensor)
                for part in self._parts(samples)
            ]
            decisions: dict[int, list[tuple[Decision, int]]] = {}
            for batch in self._batches(parts, round(batch_seconds * SAMPLE_RATE)):
                decision = self.decide([part for _, part in batch])
                for row, (number, part) in enumerate(batch):
                    one = Decision(decision.logits[row], decision.embeddings[row], decision.lengths[row])
                    decisions.setdefault(number, []).append((one, len(part)))
            for number, (name, samples) in enumerate(chunk):
                if isinstance(samples, AudioError):
                    if skip is None:
                        raise samples
                    skip(name, samples)
                    continue
                yield self._prediction(name, decisions[number], overlapping)
                if heard is not None:
                    heard(len(samples) / SAMPLE_RATE)

    def classify_one(self, source: Source, sample_rate: int = SAMPLE_RATE) -> Prediction:
        """The prediction for one recording. Raises AudioError where it cannot be used."""
        return next(self.classify([source], sample_rate))

    def similarity(self, first: Source, second: Source, sample_rate: int = SAMPLE_RATE) -> float:
        """Cosine of two recordings' vectors, -1 to 1: the higher, the likelier one speaker said both."""
        left, right = (p.embedding for p in self.classify([first, second], sample_rate))
        return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right) + 1e-12))

    @torch.inference_mode()
    def decide(self, waveforms: Sequence[Tensor]) -> Decision:
        """The network's decision on waveforms (samples,) each, on the CPU in float32."""
        least = self.model.encoder.feature_encoder.receptive_field
        lengths = torch.tensor([max(len(waveform), least) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), int(lengths.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        found = self.model(padded.to(self.device), lengths.to(self.device))
        return Decision(found.logits.float().cpu(), found.embeddings.float().cpu(), found.lengths.cpu())

    def _check(self, name: str, samples: Tensor) -> None:
        if self.kind == "x-vector" and len(samples) < self.shortest:
            seconds, least = len(samples) / SAMPLE_RATE, self.shortest / SAMPLE_RATE
            raise AudioError(f"{name}: {seconds:.2f} s, the x-vector head needs {least:.2f} s")

    def _parts(self, samples: Tensor) -> list[Tensor]:
        """A recording whole, or in equal parts where it is long; each a whole number of frames, but the last."""
        hop = int(self.model.encoder.feature_encoder.hop)
        count = -(-len(samples) // round(self.whole_seconds * SAMPLE_RATE))
        if count <= 1:
            return [samples]
        size = -(-len(samples) // (count * hop)) * hop
        parts = list(samples.split(size))
        if len(parts[-1]) < self.shortest:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _batches(self, parts: list[tuple[int, Tensor]], most: int) -> Iterator[list[tuple[int, Tensor]]]:
        """Parts of like length together, the order of each recording's parts kept."""
        spare = SPARE if self.device.type == "cpu" else 1.0
        batch: list[tuple[int, Tensor]] = []
        for number, part in sorted(parts, key=lambda item: -len(item[1])):
            longest = len(batch[0][1]) if batch else 0
            if batch and (longest * (len(batch) + 1) > most or len(part) < (1 - spare) * longest):
                yield batch
                batch = []
            batch.append((number, part))
        if batch:
            yield batch

    def _prediction(self, name: str, found: list[tuple[Decision, int]], overlapping: bool) -> Prediction:
        sizes = torch.tensor([float(size) for _, size in found])
        duration = float(sizes.sum()) / SAMPLE_RATE
        shares = (sizes / sizes.sum())[:, None]
        stretches: tuple[Stretch, ...] = ()
        if self.kind == "frames":
            rows = [one.logits[: int(one.lengths)] for one, _ in found]
            rows = [row.sigmoid() if overlapping else row.softmax(-1) for row in rows]
            means = torch.stack([row.mean(0) for row in rows])
            vectors = torch.stack([one.embeddings[: int(one.lengths)].mean(0) for one, _ in found])
            starts = torch.cumsum(sizes, 0) - sizes
            pairs = zip(rows, (starts / SAMPLE_RATE).tolist(), (sizes / SAMPLE_RATE).tolist(), strict=True)
            stretches = joined(
                [
                    s
                    for row, start, long in pairs
                    for s in self._stretches(row.numpy(), start, start + long, overlapping)
                ]
            )
        else:
            means = torch.stack([one.logits for one, _ in found]).softmax(-1)
            vectors = torch.stack([one.embeddings for one, _ in found])
            if self.kind == "x-vector" and len(found) > 1:
                vectors = F.normalize(vectors, dim=1)
        mean, vector = (means * shares).sum(0), (vectors * shares).sum(0)
        order = mean.argsort(descending=True, stable=True).tolist()
        named = {self.labels[number]: float(mean[number]) for number in order}
        return Prediction(name, duration, named, vector.numpy(), stretches)

    def _stretches(self, chances: np.ndarray, start: float, end: float, overlapping: bool) -> list[Stretch]:
        """Frames (T, C) as stretches of a part from `start` to `end` seconds; every moment belongs to a frame."""
        clock, found = self.clock, []
        edges = [clock.seconds(frame) + start for frame in range(len(chances) + 1)]
        edges[0], edges[-1] = start, end
        holds = chances > 0.5 if overlapping else chances == chances.max(1, keepdims=True)
        if not overlapping:  # a tie belongs to the first
            holds &= np.cumsum(holds, 1) == 1
        for number, label in enumerate(self.labels):
            change = np.flatnonzero(np.diff(np.concatenate([[0], holds[:, number].astype(int), [0]])))
            for first, last in change.reshape(-1, 2).tolist():
                sure = float(chances[first:last, number].mean())
                found.append(Stretch(edges[first], edges[last], label, sure))
        return sorted(found, key=lambda s: (s.start, s.label))


def joined(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Stretches of one class that meet (where a long recording was cut) as one."""
    last: dict[str, int] = {}
    kept: list[Stretch] = []
    for one in stretches:
        before = kept[last[one.label]] if one.label in last else None
        if before is not None and abs(before.end - one.start) < 1e-6:
            sizes = before.end - before.start, one.end - one.start
            sure = (sizes[0] * before.probability + sizes[1] * one.probability) / max(sum(sizes), 1e-9)
            kept[last[one.label]] = dataclasses.replace(before, end=one.end, probability=sure)
        else:
            last[one.label] = len(kept)
            kept.append(one)
    return tuple(sorted(kept, key=lambda s: (s.start, s.label)))
