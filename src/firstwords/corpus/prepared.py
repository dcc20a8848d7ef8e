"""A folder prepared for unsupervised training: features of speech without its silences, and phones of other text.

    prepared.json                    what it was made from, and with what
    train.npy .lengths .ids          what the generator reads, and the same for valid: mean-pooled segments, about 14 a
                                     second (1.0), or features as they are, 50 a second (2.0)
    train.mfcc-units.npy             2.0: int16, a cluster of MFCCs for each frame of train.npy, for the auxiliary loss
    unpooled/train.npy ...           1.0: segments before adjacent pairs were pooled, for decoding with a language model
    frames/train.npy ...             1.0: the same features frame by frame, 50 or 100 a second, for the HMM
    frames/train.clusters.npy        1.0: int16, the cluster of each frame
    train.durations.npy              1.0: int16, the frames of each step of train.npy
    text/phones.txt                  text to learn from: a sentence a line, phones between spaces, <SIL> among them
    text/dict.txt                    a phone and its count a line, the most frequent first, <SIL> last
    text/phones.4.arpa.gz and .6     language models over phones, <SIL> among them
    text/lexicon.txt                 a word and its phones a line; words.arpa.gz is a language model over these words
    valid.phones, train.phones       true phones of the utterances where the corpus has them: an id, a tab, phones

Utterances stand in the same order in all files of a split.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from firstwords.corpus.feature_store import Features, have_features, read_features, write_lines
from firstwords.errors import CorpusError

SILENCE = "<SIL>"
"""The phone that stands for a pause. Source: wav2vec-U, as fairseq writes it."""
FACTS = "prepared.json"
SPLITS = ("train", "valid")

Kind = Literal["1.0", "2.0"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder, opened; nothing large is in memory."""

    folder: Path
    facts: dict[str, Any]
    """What prepared.json says."""
    train: Features
    """(T, D) float32 for each utterance, what the generator learns from."""
    valid: Features
    phones: tuple[str, ...]
    """The most frequent first, SILENCE last."""
    counts: tuple[int, ...]
    """How often each phone stands in the text."""

    @property
    def kind(self) -> Kind:
        """Which of the two methods the features are for: "1.0" has segments, "2.0" frames."""
        found: Kind = self.facts["kind"]
        return found

    @property
    def text(self) -> Path:
        """The folder with text, dictionary and language models."""
        return self.folder / "text"

    @cached_property
    def train_units(self) -> np.ndarray:
        """2.0: (sum of T,) int16, an MFCC cluster for each frame of `train`, memory-mapped. Raises CorpusError."""
        return _numbers(self.folder / "train.mfcc-units.npy", len(self.train.values))

    @property
    def mfcc_clusters(self) -> int:
        """2.0: how many MFCC clusters there are."""
        return int(self.facts["mfcc_clusters"])

    def features(self, split: str, rate: Literal["pooled", "unpooled", "frames"] = "pooled") -> Features:
        """Features of "train" or "valid" at one of the three rates; 2.0 has only frames, which stand for all three.

        Raises:
            CorpusError: the files are missing or broken.
        """
        if rate == "pooled" or self.kind == "2.0":
            return self.train if split == "train" else self.valid
        return read_features(self.folder / rate, split)

    def clusters(self, split: str) -> np.ndarray:
        """1.0: (sum of T,) int16, the cluster of each frame of `features(split, "frames")`. Raises CorpusError."""
        frames = self.features(split, "frames")
        return _numbers(self.folder / "frames" / f"{split}.clusters.npy", len(frames.values))

    def durations(self, split: str) -> np.ndarray:
        """1.0: (sum of T,) int16, the frames that each pooled segment lasts. Raises CorpusError."""
        pooled = self.train if split == "train" else self.valid
        return _numbers(self.folder / f"{split}.durations.npy", len(pooled.values))

    @property
    def frame_seconds(self) -> float:
        """From one frame to the next."""
        return float(self.facts.get("frame_seconds", 0.02))

    def sentences(self) -> Iterator[list[str]]:
        """The phones of each sentence of the text, SILENCE among them. Raises CorpusError."""
        path = self.text / "phones.txt"
        try:
            with open(path, encoding="utf-8") as lines:
                yield from (line.split() for line in lines)
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror}); prepare again") from error

    def phone_model(self, order: int = 4) -> Path:
        """The language model over phones of order 4 or 6."""
        return self.text / f"phones.{order}.arpa.gz"

    @property
    def lexicon(self) -> Path:
        """Words and their phones."""
        return self.text / "lexicon.txt"

    @property
    def word_model(self) -> Path:
        """The language model over words."""
        return self.text / "words.arpa.gz"

    def true_phones(self, split: str) -> dict[str, list[str]] | None:
        """The true phones of a split's utterances by id, where the corpus has them; never to be used for a choice."""
        path = self.folder / f"{split}.phones"
        if not path.is_file():
            return None
        lines = path.read_text("utf-8", "surrogateescape").split("\n")[:-1]
        return {name: phones.split() for name, _, phones in (line.partition("\t") for line in lines)}

    @cached_property
    def valid_phones(self) -> dict[str, list[str]] | None:
        """Those of the valid split."""
        return self.true_phones("valid")


def read_prepared(folder: Path) -> Prepared:
    """Opens what `firstwords unsupervised prepare` wrote.

    Raises:
        CorpusError: no such folder, not prepared to the end, or broken.
    """
    facts = read_facts(folder)
    if not facts.get("finished"):
        raise CorpusError(f"{folder}: not prepared to the end; the same `firstwords unsupervised prepare` goes on")
    phones, counts = read_phone_counts(folder / "text" / "dict.txt")
    return Prepared(
        folder, facts, read_features(folder, "train"), read_features(folder, "valid"), tuple(phones), tuple(counts)
    )


def read_facts(folder: Path) -> dict[str, Any]:
    """What prepared.json says. Raises CorpusError."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{folder}: not a prepared folder (no {FACTS}); make one: firstwords unsupervised prepare"
        ) from error
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); prepare again into a new folder") from error
    if not isinstance(facts, dict) or facts.get("kind") not in ("1.0", "2.0"):
        raise CorpusError(f"{path}: says no kind that is known; prepare again into a new folder")
    return facts


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Writes prepared.json, whole or not at all. Raises CorpusError."""
    write_lines(folder / FACTS, [json.dumps(facts, ensure_ascii=False, indent=1)])


def read_phone_counts(path: Path) -> tuple[list[str], list[int]]:
    """Phones and counts of a dict.txt. Raises CorpusError where it is missing, broken, or does not end with SILENCE."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        phones, counts = [row[0] for row in rows], [int(row[1]) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise CorpusError(f"{path}: no dictionary of phones ({error}); prepare again") from error
    if not phones or phones[-1] != SILENCE or len(set(phones)) < len(phones):
        raise CorpusError(f"{path}: expected each phone once and {SILENCE} at the end; prepare again")
    return phones, counts


def write_numbers(path: Path, values: np.ndarray) -> None:
    """One int16 a frame, written whole or not at all. Raises CorpusError."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.save(file, values.astype(np.int16))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error


def _numbers(path: Path, frames: int) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); prepare again") from error
    if values.shape != (frames,):
        raise CorpusError(f"{path}: {values.shape} numbers for {frames} frames; prepare again")
    return values


__all__ = [
    "SILENCE", "SPLITS", "Features", "Kind", "Prepared", "have_features", "read_facts", "read_features",
    "read_phone_counts", "read_prepared", "write_facts", "write_numbers",
]  # fmt: skip
