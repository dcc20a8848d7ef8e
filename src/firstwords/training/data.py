"""What both tasks ask of a corpus: its utterances, their lengths, and a list of what could not be used."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstwords.audio import SAMPLE_RATE, probe
from firstwords.corpus.languages import language_of, languages_of
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError
from firstwords.nn.lengths import normalize_waveform

SILENCE = 2 / 32768
"""Two steps of 16 bits (-84 dB of full scale): what a muted recorder leaves, and digital silence with dither."""


class Skipped:
    """Utterances left out, each counted and named once with the reason, and written to a file once there is one."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._path: Path | None = None
        self._lock = threading.Lock()

    def write_to(self, path: Path) -> None:
        """Writes what is known to a tab-separated file, and whatever comes later as it comes."""
        with self._lock:
            self._path = path
            path.unlink(missing_ok=True)
            for utterance, reason in self.reasons.items():
                self._append(utterance, reason)

    def add(self, utterance: str, reason: str) -> None:
        """Notes one utterance."""
        with self._lock:
            if utterance not in self.reasons:
                self.reasons[utterance] = reason
                self._append(utterance, reason)

    def _append(self, utterance: str, reason: str) -> None:
        if self._path is not None:
            with (
                contextlib.suppress(OSError),  # a full disk must not stop a run for a note; the checkpoint will tell
                open(self._path, "a", encoding="utf-8", errors="backslashreplace") as lines,
            ):
                lines.write(f"{utterance}\t{reason}\n")

    def __len__(self) -> int:
        return len(self.reasons)

    def __str__(self) -> str:
        shown = "\n".join(f"  {reason}" for reason in list(self.reasons.values())[:5])
        more = f"\n  and {len(self.reasons) - 5} more" if len(self.reasons) > 5 else ""
        kept = f", all named in {self._path}" if self._path else ""
        return f"{len(self.reasons)} utterances left out{kept}:\n{shown}{more}"


def read_corpora(corpora: Sequence[Path]) -> list[Utterance]:
    """The utterances of several corpora; ids are made different where two corpora share some."""
    if not corpora:
        raise CorpusError("no corpus given: name corpus folders or manifests")
    utterances: list[Utterance] = []
    seen: set[str] = set()
    for corpus in corpora:
        for utterance in read_manifest(corpus):
            while utterance.id in seen:
                utterance = dataclasses.replace(utterance, id=f"{Path(corpus).resolve().stem}/{utterance.id}")
            seen.add(utterance.id)
            utterances.append(utterance)
    if not utterances:
        raise CorpusError(f"{', '.join(map(str, corpora))}: no utterances in the manifest")
    return utterances


def with_durations(utterances: Iterable[Utterance], skipped: Skipped) -> list[Utterance]:
    """Fills in durations that the manifest lacks from the files' headers; unreadable files are left out.

    Raises:
        CorpusError: all are unreadable.
    """

    def measure(utterance: Utterance) -> Utterance | None:
        if utterance.duration is not None:
            return utterance
        try:
            found = probe(utterance.source())
        except AudioError as error:
            skipped.add(utterance.id, str(error))
            return None
        if found.cut_short:
            skipped.add(
                utterance.id, f"utterance {utterance.id}: {utterance.audio}: cut short after {found.duration:.2f} s"
            )
            return None
        return dataclasses.replace(utterance, duration=max(0.0, found.duration - utterance.start))

    with ThreadPoolExecutor() as pool:
        measured = [utterance for utterance in pool.map(measure, utterances) if utterance is not None]
    if not measured:
        raise CorpusError(f"no recording can be read: {skipped}")
    return measured


def sample_lengths(utterances: Sequence[Utterance]) -> np.ndarray:
    """(n,) samples of each utterance, from its duration."""
    return np.array([round((utterance.duration or 0) * SAMPLE_RATE) for utterance in utterances], dtype=np.int64)


def choose_splits(
    utterances: Sequence[Utterance],
    train: Sequence[str],
    valid: Sequence[str],
    held_out: float,
    by_language: bool = False,
) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation utterances.

    Args:
        utterances: of all splits.
        train, valid: names of splits. Where no utterance has a split, all train.
        held_out: share of the training utterances to validate on where no utterance is in `valid`; chosen by a hash of
            the id, so that it stays the same when a corpus grows.
        by_language: do so for each language by itself, so that each has utterances to validate on.

    Raises:
        CorpusError: no utterance (by language: none of some language) is in the training splits.
    """
    if by_language:
        parts = []
        for name in languages_of(utterances):
            own = [u for u in utterances if language_of(u) == name]
            try:
                parts.append(choose_splits(own, train, valid, held_out))
            except CorpusError as error:
                raise CorpusError(f"language {name!r}: {error}") from error
        return [u for part, _ in parts for u in part], [u for _, part in parts for u in part]
    named = {utterance.split for utterance in utterances if utterance.split is not None}
    training = [u for u in utterances if u.split in train or (u.split is None and not named & set(train))]
    if not training:
        raise CorpusError(
            f"no utterance in split {', '.join(train)}; the corpus has: {', '.join(sorted(named)) or 'none'}"
        )
    validation = [u for u in utterances if u.split in valid]
    if not validation and held_out > 0:
        ranked = sorted(training, key=lambda u: hashlib.sha256(id_bytes(u)).hexdigest())
        validation = ranked[: max(1, round(held_out * len(training)))] if len(training) > 1 else []
        chosen = {u.id for u in validation}
        training = [u for u in training if u.id not in chosen]
    return training, validation


def fingerprint(utterances: Sequence[Utterance]) -> dict[str, Any]:
    """What a continued run must find again: how many utterances, how long, and a hash of their ids and lengths."""
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(f"{utterance.id}\t{utterance.duration}\n".encode("utf-8", "surrogatepass"))
    hours = sum(utterance.duration or 0 for utterance in utterances) / 3600
    return {"utterances": len(utterances), "hours": round(hours, 3), "hash": digest.hexdigest()[:16]}


def id_bytes(utterance: Utterance) -> bytes:
    """The id as numbers that seed the utterance's random choices; ids of files may be no Unicode."""
    return utterance.id.encode("utf-8", "surrogatepass")


def read_waveform(utterance: Utterance, normalize: bool, epsilon: float = 1e-5) -> torch.Tensor:
    """Samples (samples,), with zero mean and unit variance (plus `epsilon`) if asked. Raises AudioError."""
    samples = torch.from_numpy(utterance.read())
    return normalize_waveform(samples[None], epsilon=epsilon)[0] if normalize else samples


def is_silent(waveform: torch.Tensor) -> bool:
    """Whether a waveform (samples,) as it was read never leaves its mean by more than SILENCE: nothing can be heard."""
    return float((waveform - waveform.mean()).abs().max()) <= SILENCE


def pad(waveforms: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Waveforms side by side (B, samples), zeros after each, and their lengths (B,)."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), lengths
