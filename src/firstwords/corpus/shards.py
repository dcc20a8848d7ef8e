"""Shards: plain tar files in WebDataset's layout, read by position through the manifest beside them.

Each utterance is two members, KEY.wav (or .flac) and KEY.json. KEY is the id with every character other than letters,
digits, "_" and "-" written as %XX, because WebDataset ends a key at its first dot and tar takes slashes for folders;
the id itself stands in the JSON and in the manifest.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from firstwords.audio import SAMPLE_RATE, probe
from firstwords.corpus.importers.common import Problem, lost_utterance
from firstwords.corpus.manifest import format_line, manifest_line
from firstwords.corpus.parallel import map_in_order, track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError

ShardFormat = Literal["wav", "flac"]

SHARD_BYTES = 500_000_000
"""How large a shard grows before the next one begins."""

MINIMUM_SAMPLES = 400
"""One frame of the feature encoder (25 ms); less gives no frame at all."""

CLIP_NOTE = 1.5
"""Peak (full scale is 1) above which cutting to 16 bits is worth telling."""


@dataclass
class Sharded:
    """What `write_shards` wrote."""

    utterances: list[Utterance] = field(default_factory=list)
    """Each points to its place in a shard; durations are those of the samples written."""
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Encoded:
    """One utterance ready to be written, or the reason why it is not."""

    utterance: Utterance
    content: bytes = b""
    problem: Problem | None = None


def write_shards(
    utterances: Sequence[Utterance],
    folder: Path,
    format: ShardFormat = "wav",
    shard_bytes: int = SHARD_BYTES,
    minimum_samples: int = MINIMUM_SAMPLES,
    workers: int | None = None,
    accept: Callable[[list[Utterance]], None] | None = None,
) -> Sharded:
    """Writes utterances as 16-bit mono 16 kHz WAV or FLAC into `folder`/shard-000000.tar and so on, in their order.

    All shards are written beside `folder` under the name `folder`.part, and take its place when the last one is
    complete; until then whatever `folder` held is still there, and after an error it stays.

    Args:
        utterances: those that cannot be read, or are shorter than `minimum_samples`, become problems and are left out.
        folder: replaced as a whole.
        format: WAV costs nothing to decode; FLAC is about half the size and loses nothing.
        shard_bytes: a shard ends after the utterance that makes it this large.
        workers: decoding threads; None for one per core.
        accept: called with the utterances before their shards take the place of `folder`; may raise to refuse.

    Raises:
        CorpusError: the disk is full or cannot be written (the unfinished shards are gone then), or no utterance at
            all could be read.
    """
    partial = folder.with_name(folder.name + ".part")
    result = Sharded()

    def encode(utterance: Utterance) -> _Encoded:
        return _encode(utterance, format, minimum_samples)

    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with _ShardWriter(partial, folder, shard_bytes) as writer:
            for encoded in track(map_in_order(encode, utterances, workers), len(utterances), "writing shards"):
                if encoded.problem is not None:
                    result.problems.append(encoded.problem)
                if encoded.content:
                    result.utterances.append(writer.add(encoded.utterance, encoded.content, format))
        if not result.utterances:
            raise nothing_readable(result.problems)
        if accept is not None:
            accept(result.utterances)
        _replace_folder(partial, folder)
    except OSError as error:
        raise CorpusError(
            f"{folder}: shards cannot be written ({error.strerror or error}); nothing was kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def member_key(id: str) -> str:
    """The id as a tar member's name without its ending: no dots, slashes or spaces, and back by URL decoding."""
    safe = [
        c if c.isalnum() or c in "_-" else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass")) for c in id
    ]
    return "".join(safe)


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Float samples to 16 bits, the inverse of what reading 16 bits does: exact for what was 16-bit before."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def _encode(utterance: Utterance, format: ShardFormat, minimum_samples: int) -> _Encoded:
    """Reads and encodes one utterance; runs in a thread."""
    try:
        samples = utterance.read()
        rate = probe(utterance.source()).sample_rate
    except AudioError as error:
        return _Encoded(utterance, problem=lost_utterance(utterance.id, error))
    if len(samples) < minimum_samples:
        return _Encoded(utterance, problem=Problem(utterance.id, too_short(len(samples), minimum_samples)))
    problem = None
    if (peak := float(np.abs(samples).max())) > CLIP_NOTE:
        what = f"peak is {peak:.1f} times full scale and was cut; scale the recording down"
        problem = Problem(utterance.id, what, lost=False)
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(samples), SAMPLE_RATE, format=format.upper(), subtype="PCM_16")
    extras = dict(utterance.extras)
    if "sample_rate" in extras:
        extras["sample_rate"] = SAMPLE_RATE
    if rate != SAMPLE_RATE:
        extras.setdefault("src_rate", rate)
    seconds = round(len(samples) / SAMPLE_RATE, 6)
    return _Encoded(replace(utterance, start=0.0, duration=seconds, extras=extras), buffer.getvalue(), problem)


def too_short(samples: int, minimum: int) -> str:
    """The sentence for a recording without a single frame."""
    return f"too short: {samples} samples at 16 kHz, one frame needs {minimum}"


def nothing_readable(problems: Sequence[Problem]) -> CorpusError:
    """The error for a corpus of which nothing is left."""
    first = "".join(f"\n  {problem.where}: {problem.what}" for problem in problems[:5])
    return CorpusError(f"none of the {len(problems)} recordings can be used:{first}")


class _ShardWriter:
    """Appends utterances to numbered tar files."""

    def __init__(self, folder: Path, final: Path, shard_bytes: int) -> None:
        self.folder, self.final, self.shard_bytes = folder, final, shard_bytes
        self.count = 0
        self.file: BinaryIO | None = None

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.file is not None and kind is None:
            self._finish()
        elif self.file is not None:
            try:
                self.file.close()  # may try to write what a full disk did not take
            except OSError:
                pass

    def add(self, utterance: Utterance, content: bytes, format: ShardFormat) -> Utterance:
        """Writes the two members and returns the utterance pointing to the first."""
        if self.file is None:
            self.name = f"shard-{self.count:06d}.tar"
            self.file = open(self.folder / self.name, "wb")  # noqa: SIM115
            self.count += 1
        key = member_key(utterance.id)
        offset = _write_member(self.file, f"{key}.{format}", content)
        placed = replace(utterance, audio=self.final / self.name, offset=offset, size=len(content))
        about = {
            name: value
            for name, value in manifest_line(placed, self.final).items()
            if name not in ("audio", "offset", "size")
        }
        _write_member(self.file, f"{key}.json", format_line(about).encode())
        if self.file.tell() >= self.shard_bytes:
            self._finish()
        return placed

    def _finish(self) -> None:
        assert self.file is not None
        self.file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar is two empty blocks
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.file = None


def _write_member(file: BinaryIO, name: str, content: bytes) -> int:
    """Appends a tar member and returns where its content begins."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.write(member.tobuf(tarfile.PAX_FORMAT))
    offset = file.tell()
    file.write(content)
    file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    return offset


def _replace_folder(new: Path, old: Path) -> None:
    """Puts `new` in the place of `old`."""
    aside = old.with_name(old.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        if aside.exists():
            os.replace(aside, old)
        raise
    shutil.rmtree(aside, ignore_errors=True)
