"""What codes stand for: over a corpus, how often each came with which phone, speaker and language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.models import load_encoder_weights
from firstwords.codebook import Codebook
from firstwords.coder import Coder, load_coder
from firstwords.cooccurrence import Cooccurrence, Table
from firstwords.corpus.intervals import frame_labels
from firstwords.corpus.parallel import AudioProgress, map_in_order
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.words import FrameClock
from firstwords.encoder import load_encoder
from firstwords.errors import AlignmentError, AudioError, CheckpointError, ConfigError, CorpusError
from firstwords.features import LayerFeatures
from firstwords.nn.kmeans import assign
from firstwords.phone_times import Times, nothing_aligned

READ_AHEAD = 64
"""Utterances that are read and sorted by length at a time, so that batches need little padding."""
PIECE_SECONDS = 30.0
"""Longer utterances are coded in pieces of this length, each by itself: pre-training hears crops, too."""
STRESSED = frozenset(
    vowel + stress
    for vowel in ("AA", "AE", "AH", "AO", "AW", "AX", "AY", "EH", "ER", "EY", "IH", "IX", "IY", "OW", "OY", "UH", "UW")
    for stress in "012"
)
"""ARPAbet vowels with their stress."""


class Codes(Protocol):
    """What is counted: a quantiser's codes, or units of k-means."""

    groups: int
    entries: int
    stride: int
    receptive_field: int

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give."""

    def __call__(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, samples) to (B, T, G) int64."""


class UnitCoder(nn.Module):
    """The nearest of K centroids to an encoder's features at each frame, as one codebook of K entries."""

    def __init__(self, features: LayerFeatures, centroids: Tensor) -> None:
        super().__init__()
        self.features, self.encoder = features, features.encoder
        self.groups, self.entries = 1, len(centroids)
        self.stride, self.receptive_field = features.stride, features.receptive_field
        self.register_buffer("centroids", centroids)

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give."""
        return self.encoder.frames(samples)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, samples) to (B, T, 1) int64."""
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        return assign(self.features.together(waveforms, lengths)[0], self.get_buffer("centroids"))[:, :, None]


def choose_codes(
    place: str | Path, layer: int | None = None, units: Path | None = None, device: str = "auto"
) -> Coder | UnitCoder:
    """The codes of a model's own quantiser, or the units of a file of centroids over one of its layers.

    Args:
        place: a run, checkpoint or imported model.
        layer: of the units, counted as `Encoder.forward` does; None is the layer that the file names, if it does.
        units: centroids that `firstwords units` wrote; None takes the quantiser.
        device: "auto", "cpu" or "cuda".

    Raises:
        CheckpointError: nothing there, no quantiser, or no centroids.
        ConfigError: a layer without units, or one that the encoder has not; centroids of another layer or model.
    """
    if units is None:
        if layer is not None:
            raise ConfigError(f"layer {layer} has features, not codes: name centroids too (--units FILE)")
        try:
            return load_coder(place, device)
        except CheckpointError as error:
            load_encoder_weights(place)  # with an encoder there, it is the quantiser that lacks; without, this says so
            raise CheckpointError(
                f"{error}. Units of one of its layers can be counted in their place: firstwords units, then "
                "--layer N --units FILE"
            ) from error
    codebook = Codebook.load(units)
    weights = None
    if layer is None:
        if "weights" in codebook.about:
            of_layers = {number: weight for number, weight in codebook.about["weights"]}
        elif "layer" not in codebook.about:
            raise ConfigError(f"{units}: does not say of which layer its centroids are; say --layer N")
        layer = codebook.about.get("layer")
    encoder = load_encoder(place, device)
    if layer is None and "weights" in codebook.about:
        weights = [float(of_layers.get(number, 0.0)) for number in encoder.all_layers]
    features = LayerFeatures(encoder, layer, weights)
    codebook.check(features)
    if not codebook.fits(features):
        raise ConfigError(f"{units}: its centroids were learnt from another model or layer than this of {place}")
    return UnitCoder(features, codebook.centroids.to(features.device))


@dataclass
class CodeCounts:
    """What was counted over a corpus. A code is one number for the entries of all codebooks, see `entries_of`."""

    groups: int
    """Codebooks G."""
    entries: int
    """Entries V of each."""
    usage: Table
    """Frames of each code; one label."""
    phones: Table | None
    """By phone, over utterances whose phone times are known; None where none are."""
    fields: dict[str, tuple[Table, Table]]
    """By what the manifest says of an utterance (speaker, language, ...), in two halves of the utterances."""
    seconds: float = 0.0
    """Of the utterances counted."""
    utterances: int = 0
    """How many were counted."""
    aligned: int = 0
    """How many of those had phone times."""
    lacking: dict[str, int] = field(default_factory=dict)
    """How many lack a field."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Utterances that could not be read, with the reason."""

    @property
    def kind(self) -> str:
        """ "phones", or "characters" where every label is a single letter: a recogniser of letters aligned them."""
        names = [] if self.phones is None else [name for name in self.phones.names if not name.startswith("(")]
        return "characters" if names and all(len(name) == 1 for name in names) else "phones"

    def entries_of(self, codes: np.ndarray) -> np.ndarray:
        """(n,) codes to (n, G) entries."""
        places = self.entries ** np.arange(self.groups - 1, -1, -1, dtype=np.int64)
        return codes[:, None] // places % self.entries

    def of_codebook(self, number: int) -> CodeCounts:
        """The counts of one codebook's entries by themselves.

        Raises:
            ConfigError: no such codebook.
        """
        if not 0 <= number < self.groups:
            raise ConfigError(f"codebook {number}: the model has {self.groups}, numbered from 0")

        def one(table: Table) -> Table:
            return table.taking(self.entries_of(table.codes)[:, number])

        halves = {name: (one(first), one(second)) for name, (first, second) in self.fields.items()}
        phones = None if self.phones is None else one(self.phones)
        rest = (self.seconds, self.utterances, self.aligned, self.lacking, self.left_out)
        return CodeCounts(1, self.entries, one(self.usage), phones, halves, *rest)


def field_of(utterance: Utterance, name: str) -> str | None:
    """What the manifest says of an utterance: speaker, language, split, or any of its extras; None where nothing."""
    value = getattr(utterance, name) if name in ("speaker", "language", "split") else utterance.extras.get(name)
    return None if value is None or isinstance(value, list | dict) else str(value)


def check_field(utterances: Iterable[Utterance], name: str) -> None:
    """Raises CorpusError where no utterance has the field, naming those that there are."""
    known: set[str] = set()
    for utterance in utterances:
        if field_of(utterance, name) is not None:
            return
        known |= {key for key in ("speaker", "language", "split") if field_of(utterance, key) is not None}
        known |= {key for key in utterance.extras if field_of(utterance, key) is not None}
    raise CorpusError(f"no utterance has {name!r} in its manifest; there are: {', '.join(sorted(known)) or 'none'}")


@torch.inference_mode()
def count_codes(
    codes: Codes,
    utterances: Sequence[Utterance],
    times: Times | None = None,
    fields: Sequence[str] = ("speaker", "language"),
    batch_seconds: float = 60.0,
    stress: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> CodeCounts:
    """Codes of every frame of a corpus, counted by phone and by what the manifest says of the utterance, in one pass.

    Args:
        codes: a quantiser or units.
        utterances: of one or several corpora.
        times: when phones were said; None counts no phones.
        fields: `speaker`, `language` or extras of the manifest.
        batch_seconds: most audio at once.
        stress: keep the stress of ARPAbet's vowels (AH0, AH1), which are one phone otherwise.
        device: None: that of the codes' parameters.
        progress: show it.

    Raises:
        CorpusError: no utterance could be read.
        AlignmentError: phone times are of none of the utterances, or broken.
    """
    counter = _Counter(codes, times, fields, stress, device)
    total = sum(utterance.duration or 0.0 for utterance in utterances)

    def read(utterance: Utterance) -> tuple[Utterance, Tensor | AudioError]:
        try:
            return utterance, torch.from_numpy(utterance.read())
        except AudioError as error:
            return utterance, error

    with AudioProgress(total, "counting codes") if progress else _Silently() as shown:
        arriving = map_in_order(read, utterances)
        while part := list(islice(arriving, READ_AHEAD)):
            readable: list[tuple[Utterance, Tensor]] = []
            for utterance, samples in part:
                if isinstance(samples, AudioError):
                    counter.left_out[utterance.id] = str(samples)
                elif len(samples) < codes.receptive_field:
                    counter.left_out[utterance.id] = f"utterance {utterance.id}: too short for a single frame"
                else:
                    readable.append((utterance, samples))
            for batch in _batches(readable, round(batch_seconds * SAMPLE_RATE)):
                counter.add([utterance for utterance, _ in batch], [samples for _, samples in batch])
                shown.advance(sum(len(samples) for _, samples in batch) / SAMPLE_RATE)
    return counter.counts(len(utterances))


def _batches(
    readable: list[tuple[Utterance, Tensor]], most: int, spare: float = 0.1
) -> Iterator[list[tuple[Utterance, Tensor]]]:
    """By falling length, no more than `most` samples with padding; a batch ends where a tenth would be padding."""
    batch: list[tuple[Utterance, Tensor]] = []
    for item in sorted(readable, key=lambda one: len(one[1]), reverse=True):
        longest = len(batch[0][1]) if batch else 0
        if batch and (longest * (len(batch) + 1) > most or len(item[1]) < (1 - spare) * longest):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


class _Counter:
    def __init__(
        self,
        codes: Codes,
        times: Times | None,
        fields: Sequence[str],
        stress: bool,
        device: torch.device | str | None,
    ) -> None:
        self.codes, self.times, self.stress = codes, times, stress
        self.device = device if device is not None else next(codes.parameters()).device  # type: ignore[attr-defined]
        front, hop = codes.receptive_field, codes.stride
        self.clock = FrameClock(hop / SAMPLE_RATE, (front - hop) / 2 / SAMPLE_RATE)
        self.piece = round(PIECE_SECONDS * SAMPLE_RATE) // hop * hop
        self.places = codes.entries ** np.arange(codes.groups - 1, -1, -1, dtype=np.int64)
        self.usage, self.phones = Cooccurrence(), Cooccurrence()
        self.usage.index("all")
        self.fields = {name: (Cooccurrence(), Cooccurrence()) for name in dict.fromkeys(fields)}
        self.lacking = dict.fromkeys(self.fields, 0)
        self.left_out: dict[str, str] = {}
        self.seconds, self.utterances, self.aligned = 0.0, 0, 0

    def add(self, utterances: list[Utterance], waveforms: list[Tensor]) -> None:
        """Counts a batch."""
        known = self.times(utterances, waveforms) if self.times is not None else [None] * len(utterances)
        coded = self._coded(waveforms)
        for utterance, samples, (found, seconds), intervals in zip(utterances, waveforms, coded, known, strict=True):
            self.usage.add(found, 0)
            if intervals is not None:
                self.phones.add(found, frame_labels(intervals, seconds, self._phone))
                self.aligned += 1
            half = sha256(utterance.id.encode("utf-8", "surrogatepass")).digest()[0] % 2
            for name, halves in self.fields.items():
                value = field_of(utterance, name)
                if value is None:
                    self.lacking[name] += 1
                    continue
                halves[1 - half].index(value)  # both halves know the same names by the same numbers
                halves[half].add(found, halves[half].index(value))
            self.utterances += 1
            self.seconds += len(samples) / SAMPLE_RATE

    def _phone(self, label: str) -> int:
        return self.phones.index(label[:-1] if not self.stress and label in STRESSED else label)

    def _coded(self, waveforms: list[Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each utterance its codes (T,) and the middle of their frames (T,), seconds."""
        if len(waveforms[0]) <= self.piece:
            lengths = torch.tensor([len(samples) for samples in waveforms])
            padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
            found = self.codes(padded.to(self.device), lengths.to(self.device)).cpu().numpy() @ self.places
            frames = self.codes.frames(lengths).tolist()
            return [(row[:count], self._middles(count)) for row, count in zip(found, frames, strict=True)]
        result = []
        for samples in waveforms:
            parts, seconds = [], []
            for first in range(0, len(samples), self.piece):
                piece = samples[first : first + self.piece]
                if len(piece) >= self.codes.receptive_field:
                    parts.append(self.codes(piece[None].to(self.device))[0].cpu().numpy() @ self.places)
                    seconds.append(self._middles(len(parts[-1])) + first / SAMPLE_RATE)
            result.append((np.concatenate(parts), np.concatenate(seconds)))
        return result

    def _middles(self, frames: int) -> np.ndarray:
        return np.array([self.clock.seconds(frame + 0.5) for frame in range(frames)])

    def counts(self, asked: int) -> CodeCounts:
        """What was counted, unless there is nothing to tell."""
        if not self.utterances:
            reasons = "; ".join(list(self.left_out.values())[:3])
            raise CorpusError(f"none of {asked} utterances could be coded: {reasons or 'there are none'}")
        if self.times is not None and not self.aligned:
            raise AlignmentError(nothing_aligned(self.times, self.utterances))
        found = CodeCounts(
            self.codes.groups,
            self.codes.entries,
            self.usage.table(),
            self.phones.table() if self.aligned else None,
            {name: (first.table(), second.table()) for name, (first, second) in self.fields.items()},
        )
        found.seconds, found.utterances, found.aligned = self.seconds, self.utterances, self.aligned
        found.lacking, found.left_out = self.lacking, self.left_out
        return found


class _Silently:
    """No progress."""

    def __enter__(self) -> _Silently:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, seconds: float) -> None:
        """Nothing."""
