"""A folder of recordings, at any depth, with or without NAME.txt beside NAME.wav."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from firstwords.corpus.importers.common import (
    FOREIGN_SUFFIXES,
    Imported,
    Problem,
    clean_text,
    is_audio,
    note_missing_texts,
    split_named,
    walk,
    with_unique_ids,
)
from firstwords.corpus.utterance import Utterance


def import_folder(root: Path, speaker_from_folder: bool = False) -> Imported:
    """Utterances from a folder, or from one recording.

    The id is the path below the folder, without its ending unless two recordings differ only in that. A top folder
    called train, dev or test (or valid, eval) is the split. `speaker_from_folder` takes the name of the folder that a
    recording lies in for its speaker.
    """
    found = Imported()
    texts: dict[Path, Path] = {}
    recordings = []
    for path in [root] if root.is_file() else walk(root):
        if is_audio(path):
            recordings.append(path)
        elif path.suffix.lower() == ".txt":
            texts[path.with_suffix("")] = path
        elif path.suffix.lower() in FOREIGN_SUFFIXES:
            mend = f"{path.suffix} is not read; convert it: ffmpeg -i {path.name} {path.stem}.flac"
            found.problems.append(Problem(str(path), mend))
    if root.is_file() and (beside := root.with_suffix(".txt")).is_file():
        texts[root.with_suffix("")] = beside
    used = set()
    stems = Counter(path.with_suffix("") for path in recordings)
    for path in recordings:
        inside = Path(path.name) if root.is_file() else path.relative_to(root)
        text = None
        if (transcript := texts.get(path.with_suffix(""))) is not None:
            used.add(transcript)
            text = _read_text(transcript, found)
        found.utterances.append(
            Utterance(
                id=(inside if stems[path.with_suffix("")] > 1 else inside.with_suffix("")).as_posix(),
                audio=path,
                text=text,
                speaker=path.parent.name if speaker_from_folder else None,
                split=split_named(inside.parts[0]) if len(inside.parts) > 1 else None,
            )
        )
    found.problems += [
        Problem(str(path), "text without audio", lost=False) for path in texts.values() if path not in used
    ]
    found.utterances = with_unique_ids(found.utterances)
    note_missing_texts(found)
    return found


def _read_text(path: Path, found: Imported) -> str | None:
    try:
        text = clean_text(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, OSError):
        found.problems.append(Problem(str(path), "transcript is not readable UTF-8; convert it (iconv)", lost=False))
        return None
    if text is None:
        found.problems.append(Problem(str(path), "empty transcript", lost=False))
    return text
