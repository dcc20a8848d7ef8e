"""Recordings in, mono float32 samples out."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from firstwords.errors import AudioError
from firstwords.shorten import unpack

SAMPLE_RATE = 16_000
"""Samples per second that every model of the family works on."""

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aiff", ".aif", ".au", ".sph", ".wv1", ".wv2", ".w64", ".caf"}
)
"""File endings that a folder search takes for recordings (libsndfile reads them)."""

STREAMED_BYTES = 0x7F000000
"""A WAV header with this size or more was written before the length was known (a pipe); it promises nothing."""

SPHERE_HEADER = 1024
"""Bytes before the samples of a NIST SPHERE file."""

HEADER_SLACK_BYTES = 1024
"""By how much a sound header may overstate its data: some writers count the header in."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header claims."""

    frames: int
    """Samples per channel at the file's own rate."""
    sample_rate: int
    """Samples per second."""
    channels: int
    cut_short: bool = False
    """The header promises clearly more than the file holds (not every format lets one see it without decoding)."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def probe(source: Path | bytes) -> AudioInfo:
    """Reads the header only. Raises AudioError where there is none that libsndfile knows, or `firstwords.shorten`."""
    if packed := _packed_sphere(source):
        return packed
    with _open(source) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels, _promises_more(file.extra_info))


def read_native(source: Path | bytes, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, int]:
    """Samples of a recording as they are: own rate, all channels, float32 (samples, channels), and the rate.

    Arguments and errors are those of `read_audio`, but values that are not numbers pass.
    """
    with _open(source) as file:
        first = round(start * file.samplerate)
        wanted = -1 if duration is None else round(duration * file.samplerate)
        left = file.frames - first
        promised = left if wanted < 0 else min(wanted, left)
        if wanted < 0 and _promises_more(file.extra_info):
            raise AudioError(f"{_name(source)}: cut short after {file.frames / file.samplerate:.2f} s")
        try:
            if first > 0:
                file.seek(min(first, file.frames))
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"{_name(source)}: broken recording ({_reason(error, source)})") from error
        rate, exact = file.samplerate, file.format != "MP3" or _mp3_counts_frames(source)
    if len(samples) == 0:
        raise AudioError(f"{_name(source)}: no samples" + (f" after {start:.2f} s" if start else ""))
    if exact and len(samples) < promised:
        raise AudioError(f"{_name(source)}: cut short, {len(samples)} of {promised} samples could be read")
    return samples, rate


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
    samples, rate = read_native(source, start, duration)
    return to_mono(samples, rate, sample_rate, _name(source))


def read_blocks(
    source: Path | bytes,
    start: float = 0.0,
    duration: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    block_seconds: float = 10.0,
) -> Iterator[np.ndarray]:
    """What `read_audio` gives, a block (samples,) at a time, so that memory does not grow with the recording.

    Joined, the blocks are the same samples: the resampler runs on from block to block. Errors come where they are met,
    after the blocks before them.
    """
    with _open(source) as file:
        rate, first = file.samplerate, round(start * file.samplerate)
        left = file.frames - first if duration is None else min(round(duration * rate), file.frames - first)
        exact = file.format != "MP3" or _mp3_counts_frames(source)
        if duration is None and _promises_more(file.extra_info):
            raise AudioError(f"{_name(source)}: cut short after {file.frames / rate:.2f} s")
        open_end = duration is None and not exact  # the header's length is a guess: read what there is
        resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32", quality="HQ")
        given = 0
        try:
            if first > 0:
                file.seek(min(first, file.frames))
            while left > 0 or open_end:
                size = round(block_seconds * rate) if open_end else min(round(block_seconds * rate), left)
                samples = file.read(size, dtype="float32", always_2d=True)
                left -= len(samples)
                last = len(samples) < size or (left <= 0 and not open_end)
                if not len(samples) and exact and left > 0:
                    raise AudioError(f"{_name(source)}: cut short, {left} samples could not be read")
                mono = to_mono(samples, rate, rate, _name(source))
                block = mono if resampler is None else resampler.resample_chunk(mono, last=last)
                given += len(block)
                if len(block):
                    yield block
                if last:
                    break
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"{_name(source)}: broken recording ({_reason(error, source)})") from error
    if exact and left > 0:
        raise AudioError(f"{_name(source)}: cut short, {left} samples could not be read")
    if not given:
        raise AudioError(f"{_name(source)}: no samples" + (f" after {start:.2f} s" if start else ""))


def to_mono(samples: np.ndarray, rate: int, sample_rate: int = SAMPLE_RATE, name: str = "audio") -> np.ndarray:
    """(samples, channels) at `rate` to (samples,) float32 at `sample_rate`; raises AudioError on NaN and infinity."""
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: {int((~np.isfinite(mono)).sum())} samples are not numbers (NaN or infinite)")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if len(mono) == 0:
            raise AudioError(f"{name}: no samples left after resampling from {rate} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _open(source: Path | bytes) -> soundfile.SoundFile:
    try:
        if packed := _packed_sphere(source):
            return _unpacked(source, packed)
        if isinstance(source, bytes):
            return soundfile.SoundFile(io.BytesIO(source))
        return soundfile.SoundFile(str(source) if os.name == "nt" else os.fsencode(source))  # names need not be Unicode
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless .raw
        raise AudioError(f"{_name(source)}: not a readable recording ({_reason(error, source)})") from error


def _packed_sphere(source: Path | bytes) -> AudioInfo | None:
    """What the header of a NIST SPHERE file with packed samples says; None where they are not, or it is none.

    Raises AudioError where they are packed otherwise than by shorten, or the header does not say enough.
    """
    start = source[:SPHERE_HEADER] if isinstance(source, bytes) else b""
    if isinstance(source, Path):
        try:
            with open(source, "rb") as file:
                start = file.read(7)
                start += file.read(SPHERE_HEADER - 7) if start == b"NIST_1A" else b""
        except OSError:
            return None
    coding = re.search(rb"sample_coding -s\d+ (\S*,\S+)", start) if start[:7] == b"NIST_1A" else None
    if coding is None:
        return None
    if not coding[1].startswith(b"pcm,embedded-shorten"):
        raise AudioError(
            f"{_name(source)}: a SPHERE file whose samples are packed ({coding[1].decode('ascii', 'replace')}), which "
            "cannot be read here; unpack it first: sph2pipe -f wav FILE FILE.wav"
        )
    values = []
    for name in ("sample_count", "sample_rate", "channel_count"):
        match = re.search(rb"\n%s -i +(\d{1,12})\s" % name.encode(), start)
        if match is None or not int(match[1]):
            raise AudioError(f"{_name(source)}: a SPHERE file whose header does not say its {name}")
        values.append(int(match[1]))
    return AudioInfo(values[0], values[1], values[2])


def _unpacked(source: Path | bytes, header: AudioInfo) -> soundfile.SoundFile:
    """A SPHERE file with shorten's samples, as WAV in memory."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        samples = unpack(data[SPHERE_HEADER:])
    except AudioError as error:
        raise AudioError(f"{_name(source)}: {error}") from error
    if len(samples) < header.frames:
        raise AudioError(f"{_name(source)}: cut short, {len(samples)} of {header.frames} samples could be read")
    memory = io.BytesIO()
    soundfile.write(memory, samples[: header.frames], header.sample_rate, "PCM_16", format="WAV")
    memory.seek(0)
    return soundfile.SoundFile(memory)


def _promises_more(header: str) -> bool:
    """Whether libsndfile's notes on the header say that the data were cut: RIFF, AIFF and AU sizes, Ogg pages."""
    if "Last page lacks an end-of-stream bit" in header and "Junk after the last page" in header:
        return True
    for claimed, found in re.findall(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", header, re.MULTILINE):
        if int(found) + HEADER_SLACK_BYTES < int(claimed) < STREAMED_BYTES:
            return True
    return False


def _mp3_counts_frames(source: Path | bytes) -> bool:
    """Whether an MP3 says how long it is; without that its number of samples is an estimate."""
    if isinstance(source, bytes):
        start = source[:4096]
    else:
        with open(source, "rb") as file:
            start = file.read(10)
            if start[:3] == b"ID3":  # skip the tag: four bytes of seven bits
                file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True)))
            start += file.read(4096)
    return any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))


def _name(source: Path | bytes) -> str:
    return f"{len(source)} bytes of audio" if isinstance(source, bytes) else str(source)


def _reason(error: Exception, source: Path | bytes) -> str:
    if isinstance(source, Path):
        if not source.exists():
            return "no such file"
        if source.is_dir():
            return "a folder"
        if source.stat().st_size == 0:
            return "the file is empty"
    text = str(error).strip()
    return text.rsplit(": ", 1)[-1].rstrip(".") if text else type(error).__name__
