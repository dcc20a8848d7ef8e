"""Recordings in, mono float32 samples out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from firstwords.errors import AudioError

SAMPLE_RATE = 16_000
"""Samples per second that every model of the family works on."""

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aiff", ".aif", ".au", ".sph", ".w64", ".caf"})
"""File endings that a folder search takes for recordings (libsndfile reads them)."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header claims."""

    frames: int
    """Samples per channel at the file's own rate."""
    sample_rate: int
    """Samples per second."""
    channels: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def probe(source: Path | bytes) -> AudioInfo:
    """Reads the header only. Raises AudioError where there is none that libsndfile knows."""
    try:
        info = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{_name(source)}: not a readable recording ({_reason(error)})") from error
    return AudioInfo(info.frames, info.samplerate, info.channels)


def read_audio(
    source: Path | bytes, start: float = 0.0, duration: float | None = None, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Samples of a recording, or of a stretch of it: channels averaged, resampled by soxr (HQ).

    Args:
        source: a file, or the bytes of one.
        start: seconds to skip.
        duration: seconds to read; None reads to the end.
        sample_rate: samples per second of the result.

    Returns:
        float32 array (samples,), at least one sample.

    Raises:
        AudioError: the file is missing, unreadable, cut short, empty, or holds NaN or infinite samples.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
            rate = file.samplerate
            first = round(start * rate)
            wanted = -1 if duration is None else round(duration * rate)
            if first > 0:
                file.seek(min(first, file.frames))
            samples = file.read(wanted, dtype="float32", always_2d=True)
            promised = file.frames - first if wanted < 0 else min(wanted, file.frames - first)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{_name(source)}: not a readable recording ({_reason(error)})") from error
    if len(samples) == 0:
        raise AudioError(f"{_name(source)}: no samples" + (f" after {start:.2f} s" if start else ""))
    if len(samples) < promised:
        raise AudioError(f"{_name(source)}: cut short, {len(samples)} of {promised} samples could be read")
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{_name(source)}: {int((~np.isfinite(mono)).sum())} samples are not numbers (NaN or infinite)")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if len(mono) == 0:
            raise AudioError(f"{_name(source)}: no samples left after resampling from {rate} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _name(source: Path | bytes) -> str:
    return f"{len(source)} bytes of audio" if isinstance(source, bytes) else str(source)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.rsplit(": ", 1)[-1].rstrip(".") if text else type(error).__name__
