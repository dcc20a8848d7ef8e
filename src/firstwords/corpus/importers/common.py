"""What every importer gives back, and the small questions that they all ask."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

FOREIGN_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".wma", ".webm", ".mkv", ".mov", ".amr", ".3gp", ".avi"})
"""Recordings that libsndfile does not read; a user who has them should hear about it."""

AUDIO_FOLDERS = ("", "clips", "wavs", "wav", "audio")
"""Where beside a table its recordings may lie (Common Voice: clips, LJ Speech: wavs)."""


Layout = Literal["manifest", "kaldi", "fairseq", "librispeech", "timit", "wsj", "table", "folder"]


@dataclass(frozen=True)
class Problem:
    """Something in a corpus that is not as it should be, and did not stop the import."""

    where: str
    """A path, a path with a line number, or an utterance id."""
    what: str
    """What was found there, and the mend where there is one."""
    lost: bool = True
    """Whether a recording was left out because of it."""


def lost_utterance(id: str, error: Exception) -> Problem:
    """The problem of an utterance that could not be read."""
    return Problem(id, str(error).removeprefix(f"utterance {id}: "))


@dataclass
class Imported:
    """What an importer found."""

    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    layout: Layout | None = None
    """How the source was read."""

    def add(self, other: Imported) -> None:
        """Appends what another importer found."""
        self.utterances += other.utterances
        self.problems += other.problems


@dataclass(frozen=True)
class ImportOptions:
    """What a source may leave open."""

    layout: Layout | None = None
    """How the source is laid out; without this it is looked at and recognised."""
    path_column: str | None = None
    """Tables: the column with the paths, by name, or by number from 1 where the table has no header."""
    text_column: str | None = None
    """Tables: the column with the transcripts, by name or number."""
    audio_root: Path | None = None
    """Where relative paths of tables, Kaldi directories and fairseq lists start."""
    speaker_from_folder: bool = False
    """Folders: the folder that a recording lies in names its speaker."""
    timit_phones: Literal["39", "48", "60"] = "39"
    """TIMIT: how many classes of phones."""


def is_audio(path: str | Path) -> bool:
    """Whether the ending is one that libsndfile reads."""
    return os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES


def walk(root: Path) -> Iterator[Path]:
    """Every file below a folder in sorted order; links are followed once, hidden files and folders left out."""
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        keep = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                keep.append(name)
        folders[:] = keep
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def split_named(name: str) -> str | None:
    """The split that a file or folder name stands for ("train-clean-100", "validated" is none), or None."""
    match = re.match(r"(train|dev|valid|val|test|eval)(?:ing|elopment|ation|uation|idation)?(?![a-z])", name.lower())
    if not match:
        return None
    return {"train": "train", "test": "test", "eval": "test"}.get(match[1], "dev")


def clean_text(text: str) -> str | None:
    """White space folded to single spaces; None where nothing is left."""
    return " ".join(text.split()) or None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file. Raises CorpusError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text; convert it (iconv -t UTF-8)") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error


def find_audio(name: str, roots: Iterable[Path]) -> Path | None:
    """The recording that a table calls `name`: below one of the roots, with or without its ending."""
    if not name:
        return None
    for root in roots:
        path = root / name
        if path.is_file():
            return path
        if not is_audio(name):
            for suffix in (".wav", ".flac", ".mp3", ".ogg", ".opus"):
                if (candidate := path.with_name(path.name + suffix)).is_file():
                    return candidate
    return None


def with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    """The same utterances; an id that came before gets "-2", "-3" and so on."""
    seen: set[str] = set()
    result = []
    for utterance in utterances:
        name, number = utterance.id, 1
        while name in seen:
            number += 1
            name = f"{utterance.id}-{number}"
        seen.add(name)
        result.append(utterance if name == utterance.id else replace(utterance, id=name))
    return result


def note_missing_texts(imported: Imported) -> None:
    """Where some utterances have transcripts and others not, names those without (they stay in the corpus)."""
    without = [utterance for utterance in imported.utterances if utterance.text is None]
    if len(without) < len(imported.utterances):
        imported.problems += [Problem(utterance.id, "audio without text", lost=False) for utterance in without]
