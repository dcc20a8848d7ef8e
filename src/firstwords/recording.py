"""What can be transcribed: files, samples, utterances of a corpus, whole or a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soxr
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE, probe, read_audio, read_blocks
from firstwords.corpus.parallel import map_in_order
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError

Source: TypeAlias = str | Path | np.ndarray | Tensor | Utterance
"""A recording: a file, samples (samples,) at 16 kHz, or an utterance of a corpus."""

BLOCK_SECONDS = 10.0
"""Audio that is read at a time."""


@dataclass(frozen=True)
class Recording:
    """A recording that has a name and can be read more than once."""

    name: str
    """An utterance's id, a file's path, or "array" and a number."""
    source: Utterance | Path | Tensor
    """Samples are at 16 kHz here."""
    seconds: float
    """As the header says."""

    @classmethod
    def open(cls, source: Source, number: int = 0, sample_rate: int = SAMPLE_RATE) -> Recording:
        """Looks at the header.

        Args:
            source: what to transcribe.
            number: of an array, for its name.
            sample_rate: of samples given as an array.

        Raises:
            AudioError: nothing that could be read; samples that are no numbers or not one channel.
        """
        name = name_of(source, number)
        if isinstance(source, Utterance):
            if source.duration is not None:
                return cls(name, source, source.duration)
            return cls(name, source, max(0.0, probe(source.source()).duration - source.start))
        if isinstance(source, str | Path):
            return cls(name, Path(source), probe(Path(source)).duration)
        samples = _samples(source, sample_rate)
        return cls(name, samples, len(samples) / SAMPLE_RATE)

    def read(self) -> Tensor:
        """All samples (samples,) at 16 kHz. Raises AudioError."""
        if isinstance(self.source, Utterance):
            return torch.from_numpy(self.source.read())
        return torch.from_numpy(read_audio(self.source)) if isinstance(self.source, Path) else self.source

    def blocks(self) -> Iterator[Tensor]:
        """The same samples, some seconds at a time. Raises AudioError where a file turns out to be broken."""
        if isinstance(self.source, Tensor):
            yield from self.source.split(round(BLOCK_SECONDS * SAMPLE_RATE))
        elif isinstance(self.source, Path):
            yield from map(torch.from_numpy, read_blocks(self.source, block_seconds=BLOCK_SECONDS))
        else:
            utterance = self.source
            try:
                for block in read_blocks(
                    utterance.source(), utterance.start, utterance.duration, block_seconds=BLOCK_SECONDS
                ):
                    yield torch.from_numpy(block)
            except AudioError as error:
                raise AudioError(f"utterance {utterance.id}: {error}") from error


def total_seconds(sources: Iterable[Source], sample_rate: int = SAMPLE_RATE) -> float:
    """How long recordings are together, by their headers; 0 for those that cannot be read."""

    def seconds(source: Source) -> float:
        if isinstance(source, np.ndarray | Tensor):
            return len(source) / sample_rate
        try:
            return Recording.open(source).seconds
        except AudioError:
            return 0.0

    return sum(map_in_order(seconds, sources))


def name_of(source: Source, number: int = 0) -> str:
    """What a recording is called in transcripts and messages."""
    if isinstance(source, Utterance):
        return source.id
    return str(source) if isinstance(source, str | Path) else f"array {number}"


def _samples(source: np.ndarray | Tensor, sample_rate: int) -> Tensor:
    samples = np.asarray(source, dtype=np.float32)
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioError(f"expected samples as a one-dimensional array, found shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise AudioError("some samples are not numbers (NaN or infinite)")
    return torch.from_numpy(soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32))
