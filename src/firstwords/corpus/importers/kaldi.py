"""Kaldi data directories: wav.scp, and text, utt2spk, segments, utt2lang where they are there."""

from __future__ import annotations

import shlex
from pathlib import Path

from firstwords.audio import probe
from firstwords.corpus.importers.common import (
    Imported,
    Problem,
    clean_text,
    is_audio,
    note_missing_texts,
    read_lines,
    split_named,
    with_unique_ids,
)
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError


def import_kaldi(source: Path, audio_root: Path | None = None) -> Imported:
    """Utterances of a data directory, or of the data directories in a folder (data/train, data/test).

    A pipe is followed where it only unpacks a file (`flac -c -d -s FILE |`, `sph2pipe -f wav FILE |`, `cat FILE |`);
    every other pipe is a problem, for what it does to the sound is not known here.

    Raises:
        CorpusError: no wav.scp, or a line of a file that is not as Kaldi's are.
    """
    found = Imported()
    directories = (
        [source] if (source / "wav.scp").is_file() else sorted(path.parent for path in source.glob("*/wav.scp"))
    )
    if not directories:
        raise CorpusError(f"{source}: no wav.scp here, nor in the folders below")
    for directory in directories:
        found.add(_import_directory(directory, audio_root))
    found.utterances = with_unique_ids(found.utterances)
    return found


def _import_directory(directory: Path, audio_root: Path | None) -> Imported:
    found = Imported()
    recordings: dict[str, Path] = {}
    refused = set()
    for name, (value, where) in _table(directory / "wav.scp").items():
        try:
            recordings[name] = _resolve(value, directory, audio_root)
        except (CorpusError, AudioError) as error:
            refused.add(name)
            found.problems.append(Problem(where, str(error)))
    texts, speakers = _table(directory / "text"), _table(directory / "utt2spk")
    languages = _table(directory / "utt2lang")
    stretches: dict[str, tuple[str, float, float | None]] = {name: (name, 0.0, None) for name in recordings}
    if (directory / "segments").is_file():
        stretches = _segments(directory / "segments")
    for id, (name, start, duration) in stretches.items():
        text, text_at = texts.pop(id, ("", ""))
        if name not in recordings:
            if name not in refused:
                found.problems.append(
                    Problem(f"{directory / 'segments'}: {id}", f"recording {name!r} is not in wav.scp")
                )
            continue
        if text_at and not text:
            found.problems.append(Problem(text_at, "empty transcript", lost=False))
        found.utterances.append(
            Utterance(
                id=id,
                audio=recordings[name],
                start=start,
                duration=duration,
                text=clean_text(text),
                speaker=speakers.get(id, (None, ""))[0],
                language=languages.get(id, (None, ""))[0],
                split=split_named(directory.name),
            )
        )
    found.problems += [
        Problem(where, f"text without audio ({id})", lost=False)
        for id, (_, where) in texts.items()
        if id not in refused
    ]
    note_missing_texts(found)
    return found


def _table(path: Path) -> dict[str, tuple[str, str]]:
    """Key to (rest of the line, where it stands); nothing where the file is missing."""
    if not path.is_file():
        return {}
    table = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            key, *rest = line.strip().split(None, 1)
            table[key] = rest[0] if rest else "", f"{path}, line {number}"
    return table


def _segments(path: Path) -> dict[str, tuple[str, float, float | None]]:
    stretches = {}
    for id, (rest, where) in _table(path).items():
        try:
            name, start, end = rest.split()[:3]
            first, last = float(start), float(end)
            if first < 0 or (last != -1 and last <= first):
                raise ValueError
        except ValueError:
            raise CorpusError(
                f"{where}: expected UTTERANCE RECORDING START END in seconds, found {id} {rest}"
            ) from None
        stretches[id] = name, first, None if last == -1 else round(last - first, 6)
    return stretches


def _resolve(value: str, directory: Path, audio_root: Path | None) -> Path:
    """The file that a line of wav.scp comes down to."""
    if value.endswith("|"):
        return _follow_pipe(value, directory, audio_root)
    if not is_audio(value) and value.rpartition(":")[2].isdigit():
        raise CorpusError(f"{value}: a place inside an archive; write the recordings to files (wav-copy ark: scp:)")
    return _locate(value, directory, audio_root)


def _follow_pipe(value: str, directory: Path, audio_root: Path | None) -> Path:
    try:
        words = shlex.split(value.rstrip("| "))
    except ValueError:
        words = []
    program = Path(words[0]).name if words else ""
    plain = (
        "|" not in words and program in ("flac", "sph2pipe", "cat") and not any(w.startswith("--skip") for w in words)
    )
    files = [word for word in words[1:] if is_audio(word)]
    if not plain or len(files) != 1:
        raise CorpusError(f"a pipe: {value}; run it once for each recording and put the files' paths into wav.scp")
    path = _locate(files[0], directory, audio_root)
    if program == "sph2pipe" and "-c" in words and (channels := probe(path).channels) > 1:
        raise CorpusError(
            f"a pipe that picks one of {channels} channels: {value}; Firstwords would average them, "
            "so write that channel to a file of its own and put its path into wav.scp"
        )
    return path


def _locate(name: str, directory: Path, audio_root: Path | None) -> Path:
    """Kaldi's relative paths start at the recipe's folder, which is above data/; the first place that has it wins."""
    path = Path(name)
    if path.is_absolute():
        return path
    for root in [audio_root] if audio_root else [directory, Path(), *directory.absolute().parents[:3]]:
        if (root / path).is_file():
            return root / path
    return (audio_root or directory) / path
