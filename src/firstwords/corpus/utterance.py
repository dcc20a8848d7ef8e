"""One utterance of a corpus: where its samples lie and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.audio import SAMPLE_RATE, probe, read_audio
from firstwords.errors import AudioError

SLACK_SECONDS = 0.1
"""How much shorter than its manifest line a recording may be (headers of compressed files round)."""


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest.

    `audio` is a recording, or a tar shard where `offset` and `size` are given. Either way `start` and `duration`
    choose the stretch of it that belongs to this utterance.
    """

    id: str
    """Unique within its corpus."""
    audio: Path
    """The recording, or the shard that holds it."""
    start: float = 0.0
    """Seconds into the recording."""
    duration: float | None = None
    """Seconds; None until someone has looked."""
    text: str | None = None
    """Transcript, None where there is none."""
    speaker: str | None = None
    language: str | None = None
    split: str | None = None
    """"train", "dev", "test" or any other name."""
    offset: int | None = None
    """First byte of the recording within a shard."""
    size: int | None = None
    """Bytes of the recording within a shard."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Every other key of the manifest line, kept as it is."""

    def source(self) -> Path | bytes:
        """The file, or for a shard the recording's bytes, read by position without opening anything else.

        Raises:
            AudioError: the shard is missing or shorter than its index says.
        """
        if self.offset is None or self.size is None:
            return self.audio
        try:
            with open(self.audio, "rb", buffering=0) as shard:
                shard.seek(self.offset)
                content = shard.read(self.size)
        except OSError as error:
            raise AudioError(f"{self.audio}: shard cannot be read ({error.strerror})") from error
        if len(content) < self.size:
            raise AudioError(f"{self.audio}: shard ends before utterance {self.id} does; write it again")
        return content

    def read(self) -> np.ndarray:
        """Samples (samples,) float32, mono, 16 kHz.

        Raises:
            AudioError: naming the utterance; also where the manifest claims another sample rate (key `sample_rate`)
                or more seconds than the recording holds.
        """
        source = self.source()
        try:
            claimed = self.extras.get("sample_rate")
            if claimed is not None and claimed != (found := probe(source).sample_rate):
                raise AudioError(f"the manifest says {claimed} Hz, the recording {found} Hz; correct one of them")
            samples = read_audio(source, self.start, self.duration)
            seconds = len(samples) / SAMPLE_RATE
            if self.duration is not None and seconds < self.duration - SLACK_SECONDS:
                raise AudioError(f"the manifest says {self.duration:.2f} s, the recording holds {seconds:.2f} s")
        except AudioError as error:
            raise AudioError(f"utterance {self.id}: {error}") from error
        return samples
