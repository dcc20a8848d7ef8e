"""Sentences for a language model: from text files and manifests, without those that are kept for testing."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.corpus.parallel import track
from firstwords.errors import LanguageModelError
from firstwords.text.alphabet import BLANK, BOUNDARY, Alphabet, Units, transcript_of
from firstwords.text.normalization import NormalizationConfig, normalize_text

CHUNK = 1 << 20
"""Bytes of a file that are read at once."""
_MARK = "\ufeff"
"""What some editors begin UTF-8 files with."""
SHARED_RUN = 8
"""Words in a row that a sentence and a test transcript may not share: fewer are common speech."""


def read_sentences(
    sources: Sequence[Path], splits: Sequence[str] | None = ("train",), units: Units = "characters"
) -> Iterator[str]:
    """The lines of text files (.gz too) and the transcripts of corpora, one after another, blank ones left out.

    Args:
        sources: text files with a sentence a line; corpus folders or manifests (.jsonl).
        splits: of corpora, the transcripts in these splits or in none; None takes all.
        units: "phonemes" takes the manifests' `phones` instead of `text`.

    Raises:
        LanguageModelError: a file that is missing, broken or not UTF-8 (with the line).
        CorpusError: a broken manifest.
    """
    if not sources:
        raise LanguageModelError("no text given: name text files, corpus folders or manifests")
    for source in sources:
        lines = _transcripts(source, splits, units) if is_corpus(source) else _lines(source)
        yield from (line for line in lines if line and not line.isspace())


def is_corpus(source: Path) -> bool:
    """Is this a corpus folder or a manifest, not a text?"""
    return source.is_dir() or source.suffix == ".jsonl"


def _transcripts(source: Path, splits: Sequence[str] | None, units: Units) -> Iterator[str]:
    if source.is_dir() and not (source / MANIFEST_NAME).is_file():
        raise LanguageModelError(f"{source}: a folder without {MANIFEST_NAME}; name its text files")
    for utterance in read_manifest(source):
        if splits is None or utterance.split is None or utterance.split in splits:
            yield " ".join((transcript_of(utterance, units) or "").split())


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, without line ends."""
    number, rest = 0, b""
    for chunk in _chunks(path):
        whole, found, rest = (rest + chunk).rpartition(b"\n")
        if found:
            lines = _decoded(whole, path, number).split("\n")
            if number == 0:
                lines[0] = lines[0].removeprefix(_MARK)
            number += len(lines)
            yield from lines
    if rest:
        yield _decoded(rest, path, number).removeprefix(_MARK if number == 0 else "")


def _chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, unpacked where gzip packed them, with a progress bar over the bytes on disk."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unpack = zlib.decompressobj(wbits=31) if packed else None
            for chunk in track(iter(lambda: file.read(CHUNK), b""), -(-size // CHUNK), f"reading {path.name}"):
                if unpack is None:
                    yield chunk
                    continue
                while chunk:
                    if unpack.eof:  # several packed files one after another are one text
                        unpack = zlib.decompressobj(wbits=31)
                    yield unpack.decompress(chunk)
                    chunk = unpack.unused_data
            if unpack is not None and not unpack.eof:
                raise LanguageModelError(f"{path}: compressed file is cut short; make or copy it again")
    except zlib.error as error:
        raise LanguageModelError(f"{path}: compressed file is broken ({error}); make or copy it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: text cannot be read ({error.strerror})") from error


def _decoded(content: bytes, path: Path, before: int) -> str:
    """Bytes as text; `before`: how many lines came before them."""
    try:
        return content.decode("utf-8").replace("\r", "")
    except UnicodeDecodeError as error:
        line = before + content.count(b"\n", 0, error.start) + 1
        raise LanguageModelError(
            f"{path}, line {line}: not UTF-8 text (byte {content[error.start]:#04x}); "
            f"convert it first: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > text.txt"
        ) from error


@dataclass(frozen=True)
class Spelling:
    """How the sentences of a text become those that a recogniser could have written."""

    units: Units = "characters"
    """Phonemes are symbols separated by spaces, with `|` between words."""
    normalization: NormalizationConfig | None = field(default_factory=NormalizationConfig)
    """Case, punctuation, Unicode form; None leaves sentences as they are."""

    @classmethod
    def like(cls, alphabet: Alphabet) -> Spelling:
        """That of a recogniser."""
        return cls(alphabet.units, alphabet.normalization)

    def __call__(self, sentences: Iterable[str]) -> Iterator[str]:
        """Each sentence as it is spelt; those of which nothing is left are dropped."""
        if self.normalization is None:
            yield from sentences
            return
        alphabet = Alphabet((BLANK, BOUNDARY), self.units, self.normalization)
        yield from (spelt for sentence in sentences if (spelt := alphabet.normalize(sentence)))


def as_characters(sentence: str) -> str:
    """ "so it was" as "s o | i t | w a s"."""
    return " ".join(BOUNDARY.join(sentence.split()))


class Withheld:
    """Leaves out sentences that the test data of corpora hold, so that no model has read what it is tested on.

    A sentence is left out where it is a transcript, or shares `SHARED_RUN` words in a row with one: utterances are
    often pieces of a book's sentences. Case and punctuation make no difference.

    Args:
        corpora: folders or manifests; every split but "train" is withheld, and corpora without splits are wholly.

    Raises:
        CorpusError: a corpus that cannot be read.
    """

    def __init__(self, corpora: Sequence[Path]) -> None:
        self.left_out = 0
        """Sentences left out so far."""
        self._whole: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for corpus in corpora:
            for utterance in read_manifest(corpus):
                if utterance.split != "train" and utterance.text:
                    text = normalize_text(utterance.text)
                    self._whole.add(text)
                    self._runs.update(_runs(text))
        self._whole.discard("")

    def keep_from(self, sentences: Iterable[str]) -> Iterator[str]:
        """Those sentences that may be learnt from."""
        for sentence in sentences:
            text = normalize_text(sentence)
            if text in self._whole or not self._runs.isdisjoint(_runs(text)):
                self.left_out += 1
            else:
                yield sentence


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return (tuple(words[first : first + SHARED_RUN]) for first in range(len(words) - SHARED_RUN + 1))
