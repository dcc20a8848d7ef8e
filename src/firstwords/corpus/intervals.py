"""Which phone (or character, or word) was said when: alignments from files of several formats, or from a manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.audio import AUDIO_SUFFIXES, SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AlignmentError

SILENCE = "(silence)"
"""The class of frames that lie in no interval."""
SILENT = frozenset({"", "sil", "sp", "<eps>", "<sil>", "sil_s", "h#", "pau", "epi", "#h", "_", SILENCE})
"""Labels that mean silence in other people's alignments (Kaldi, the Montreal aligner, TIMIT)."""
UNKNOWN = frozenset({"spn", "<unk>", "?"})
"""Labels of something said that nobody could spell; their frames are not counted."""
FIELD = "segments"
"""Key of a manifest line that holds its alignment: [["W", 0.10, 0.16], ["IY", 0.16, 0.31], ...], in seconds."""
SLACK_SECONDS = 0.5
"""How far an alignment may go beyond its utterance; further, and it belongs to another."""
ENDINGS = (".textgrid", ".ctm", ".jsonl", ".json", ".phn")


@dataclass(frozen=True)
class Interval:
    """A stretch of an utterance."""

    label: str | None
    """What is said; "" is silence, None what nobody could spell."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""


@dataclass
class Alignments:
    """Alignments of many utterances, each read when it is asked for."""

    place: str
    """Where they are, for messages."""
    tier: str | None = None
    """Which tier of a TextGrid or part of a JSON file; None takes phones, else characters."""
    entries: dict[str, Callable[[], list[Interval]]] = field(default_factory=dict)
    """By name: an utterance's id, or that of its recording."""
    taken: dict[str, Utterance] = field(default_factory=dict)
    """Which utterance took which."""

    def of(self, utterance: Utterance) -> list[Interval] | None:
        """The intervals of an utterance, in seconds within it; None where there are none for it.

        An alignment is found by the utterance's id, by the last part of an id that is a path, or by the name of its
        recording; of a longer recording the utterance gets its stretch.

        Raises:
            AlignmentError: a file that cannot be read, or that lies beyond the utterance.
        """
        identifier = utterance.id
        for name in (identifier, "_".join(identifier.split()), identifier.replace("/", "-"), Path(identifier).name):
            if name in self.entries:
                other = self.taken.setdefault(name, utterance)
                if other.id != identifier:
                    raise AlignmentError(f"{self.place}: {name} could be of {other.id} or of {identifier}; rename it")
                found = self.entries[name]()
                break
        else:
            if utterance.offset is not None or utterance.audio.stem not in self.entries:
                return None
            found = self.entries[utterance.audio.stem]()
            if utterance.start or (utterance.duration is not None and len(found)):
                found = _stretch(found, utterance.start, utterance.duration)
        last = max((one.end for one in found), default=0.0)
        if utterance.duration is not None and last > utterance.duration + SLACK_SECONDS:
            raise AlignmentError(
                f"{self.place}: the alignment of {identifier} ends at {last:.2f} s, the utterance at "
                f"{utterance.duration:.2f} s; it belongs to another recording"
            )
        return found


def _stretch(intervals: Sequence[Interval], start: float, duration: float | None) -> list[Interval]:
    """What lies between `start` and `start` + `duration` of a recording, in seconds from `start`."""
    end = float("inf") if duration is None else start + duration
    inside = [one for one in intervals if one.end > start and one.start < end]
    return [replace(one, start=max(one.start, start) - start, end=min(one.end, end) - start) for one in inside]


def open_alignments(place: Path, tier: str | None = None) -> Alignments:
    """The alignments in a folder of files named by utterance (.TextGrid, .ctm, .json, TIMIT's .phn), or in one file of
    many (.ctm, .jsonl, .json).

    Raises:
        AlignmentError: nothing there, or a file that cannot be read.
    """
    found = Alignments(str(place), tier)
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.suffix.lower() in ENDINGS)
        for path in files:
            if path.suffix.lower() in (".ctm", ".jsonl"):
                _open_file(path, found)
            else:
                inside = path.relative_to(place).with_suffix("").as_posix()
                for name in dict.fromkeys((inside, Path(inside).name)):
                    found.entries.setdefault(name, partial(_read_one, path, tier))
    elif place.is_file():
        _open_file(place, found)
    else:
        raise AlignmentError(f"{place}: no such file or folder of alignments")
    if not found.entries:
        raise AlignmentError(f"{place}: no alignments ({', '.join(ENDINGS)}) in there")
    return found


def _open_file(path: Path, found: Alignments) -> None:
    """Adds all alignments of one file."""
    ending = path.suffix.lower()
    parts: dict[str, Callable[[], list[Interval]]]
    if ending == ".ctm":
        parts = {name: partial(list, own) for name, own in _read_ctm(path)}
    elif ending in (".json", ".jsonl"):
        parts = {name: partial(list, own) for name, own in _read_json(path, found.tier)}
    elif ending in (".textgrid", ".phn"):
        parts = {path.stem: partial(_read_one, path, found.tier)}
    else:
        raise AlignmentError(f"{path}: alignments are {', '.join(ENDINGS)}")
    for name, read in parts.items():
        recording = Path(name)
        short = recording.stem if recording.suffix.lower() in AUDIO_SUFFIXES else name
        for key in dict.fromkeys((name, short)):
            found.entries.setdefault(key, read)


def _read_one(path: Path, tier: str | None) -> list[Interval]:
    if path.suffix.lower() == ".textgrid":
        return _pick(_read_textgrid(path), tier, path)
    if path.suffix.lower() == ".phn":
        return _read_timit(path)
    return [interval for _, own in _read_json(path, tier) for interval in own]


def manifest_alignment(utterance: Utterance, key: str = FIELD) -> list[Interval] | None:
    """The alignment in a manifest line's `key`; None where the line has none.

    Raises:
        AlignmentError: it is no list of [label, start, end].
    """
    found = utterance.extras.get(key)
    if found is None:
        return None
    try:
        return _ordered([_interval(str(label), float(start), float(end)) for label, start, end in found])
    except (TypeError, ValueError) as error:
        raise AlignmentError(
            f'utterance {utterance.id}: "{key}" is not [[label, start, end], ...] in seconds ({error})'
        ) from error


def frame_labels(intervals: Sequence[Interval], times: np.ndarray, index: Callable[[str], int]) -> np.ndarray:
    """(T,) int64: the label of the interval that holds each time, SILENCE outside all, -1 where nobody could spell it.

    Args:
        intervals: in order, not overlapping.
        times: (T,) seconds, of the middle of each frame.
        index: the number of a label.
    """
    numbers = [-1 if one.label is None else index(one.label or SILENCE) for one in intervals]
    found = np.full(len(times), index(SILENCE), dtype=np.int64)
    if numbers:
        places = np.searchsorted([one.start for one in intervals], times, side="right") - 1
        inside = (places >= 0) & (times < np.array([one.end for one in intervals])[places])
        found[inside] = np.array(numbers)[places[inside]]
    return found


def _interval(label: str, start: float, end: float) -> Interval:
    bare = label.strip()
    plain = bare.lower()
    return Interval(None if plain in UNKNOWN else "" if plain in SILENT else bare, start, end)


def _ordered(intervals: list[Interval]) -> list[Interval]:
    """By time. Raises ValueError for times that are none, or that overlap by more than a rounding."""
    intervals = sorted(intervals, key=lambda one: (one.start, one.end))
    for one in intervals:
        if not 0 <= one.start <= one.end:
            raise ValueError(f"{one.label!r} lasts from {one.start} to {one.end} s")
    for one, following in pairwise(intervals):
        if following.start < one.end - 0.011:
            raise ValueError(f"{one.label!r} and {following.label!r} overlap at {following.start:.3f} s")
    return intervals


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AlignmentError(f"{path}: cannot be read as text ({error})") from error


def _read_ctm(path: Path) -> Iterator[tuple[str, list[Interval]]]:
    """NIST's: name, channel, start, duration, label, and perhaps a confidence."""
    found: dict[str, list[Interval]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        parts = line.split()
        try:
            start, duration, label = float(parts[2]), float(parts[3]), parts[4]
        except (IndexError, ValueError) as error:
            raise AlignmentError(
                f"{path}, line {number}: not NAME CHANNEL START DURATION LABEL: {line[:60]}"
            ) from error
        found.setdefault(parts[0], []).append(_interval(label, start, start + duration))
    for name, intervals in found.items():
        yield name, _checked(intervals, f"{path}, {name}")


def _read_json(path: Path, tier: str | None) -> Iterator[tuple[str, list[Interval]]]:
    """Transcripts as `firstwords align` writes them, one or many, an object, a list or JSON Lines."""
    text = _text(path)
    try:
        if path.suffix.lower() == ".jsonl":
            transcripts = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            values = json.loads(text)
            transcripts = values if isinstance(values, list) else [values]
        for transcript in transcripts:
            words = transcript["words"]
            parts = words if tier == "words" else [part for word in words for part in word["characters"]]
            intervals = [
                Interval(None, part["start"], part["end"])
                if part.get("confidence", 0.0) is None
                else _interval(part["text"], part["start"], part["end"])
                for part in parts
            ]
            yield str(transcript.get("id") or path.stem), _checked(intervals, str(path))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise AlignmentError(
            f"{path}: not a transcript with times as firstwords align writes it (--format json): {error!r}"
        ) from error


def _read_timit(path: Path) -> list[Interval]:
    """TIMIT's .PHN: first and last sample at 16 kHz, phone."""
    intervals = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            first, last = (int(part) / SAMPLE_RATE for part in parts[:2])
            intervals.append(_interval(parts[2], first, last))
        except (IndexError, ValueError) as error:
            raise AlignmentError(f"{path}, line {number}: not FIRST LAST PHONE: {line[:60]}") from error
    return _checked(intervals, str(path))


def _read_textgrid(path: Path) -> dict[str, list[Interval]]:
    """The interval tiers of a Praat TextGrid, long or short text format, by name.

    Both formats hold the same numbers, quoted texts and flags in the same order; everything else is decoration.
    """
    pattern = r'"(?P<text>(?:[^"]|"")*)"|(?P<flag><[a-z]+>)|\[\d*\]|(?P<number>(?<!\w)-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)'
    tokens: list[Any] = []
    for match in re.finditer(pattern, _text(path)):
        if match["number"]:
            tokens.append(float(match["number"]))
        elif match["flag"] or match["text"] is not None:
            tokens.append(match["flag"] or match["text"].replace('""', '"'))
    tiers: dict[str, list[Interval]] = {}
    try:
        if tokens[:2] != ["ooTextFile", "TextGrid"] or tokens[4] != "<exists>":
            raise ValueError("no TextGrid in Praat's text formats")
        place = 6
        for _ in range(int(tokens[5])):
            kind, name, count = tokens[place], tokens[place + 1], int(tokens[place + 4])
            place += 5
            width = 3 if kind == "IntervalTier" else 2
            rows = [tokens[place + width * row : place + width * (row + 1)] for row in range(count)]
            place += width * count
            if kind == "IntervalTier":
                tiers[name] = _ordered([_interval(str(label), float(start), float(end)) for start, end, label in rows])
    except (IndexError, ValueError, TypeError) as error:
        raise AlignmentError(f"{path}: cannot be read as a TextGrid ({error})") from error
    return tiers


def _pick(tiers: dict[str, list[Interval]], tier: str | None, path: Path) -> list[Interval]:
    """The tier that is asked for; else phones, else characters, else the only one."""
    if tier is not None:
        if tier in tiers:
            return tiers[tier]
        raise AlignmentError(f"{path}: no tier {tier!r}; it has: {', '.join(tiers) or 'none with intervals'}")
    for wanted in ("phone", "segment", "character"):
        if named := [name for name in tiers if wanted in name.lower()]:
            return tiers[named[0]]
    if len(tiers) == 1:
        return next(iter(tiers.values()))
    raise AlignmentError(
        f"{path}: which tier holds the phones? --tier {' or --tier '.join(tiers) or '(there is none)'}"
    )


def _checked(intervals: list[Interval], where: str) -> list[Interval]:
    try:
        return _ordered(intervals)
    except ValueError as error:
        raise AlignmentError(f"{where}: {error}") from error
