"""LibriSpeech and Libri-Light: SPEAKER/CHAPTER/*.flac with SPEAKER-CHAPTER.trans.txt where there are transcripts."""

from __future__ import annotations

from pathlib import Path

from firstwords.corpus.importers.common import (
    Imported,
    Problem,
    clean_text,
    is_audio,
    note_missing_texts,
    read_lines,
    split_named,
    walk,
    with_unique_ids,
)
from firstwords.corpus.utterance import Utterance


def import_librispeech(root: Path) -> Imported:
    """Utterances of one subset (train-clean-100, small) or of a folder that holds several.

    The split comes from the nearest folder called train-*, dev-* or test-*; that folder's name is kept in the
    extra key `subset`. The speaker is the folder above the chapter.
    """
    found = Imported()
    texts: dict[str, tuple[str | None, str]] = {}
    recordings = []
    for path in walk(root):
        if path.name.endswith(".trans.txt"):
            for number, line in enumerate(read_lines(path), 1):
                name, _, words = line.partition(" ")
                texts[name] = clean_text(words), f"{path}, line {number}"
        elif is_audio(path):
            recordings.append(path)
    for path in recordings:
        folders = (root.absolute().name, *path.relative_to(root).parts[:-1])
        subset = next((name for name in reversed(folders) if split_named(name)), None)
        text = texts.pop(path.stem)[0] if path.stem in texts else None
        found.utterances.append(
            Utterance(
                id=path.stem,
                audio=path,
                text=text,
                speaker=path.absolute().parent.parent.name or None,
                split=split_named(subset) if subset else None,
                extras={"subset": subset} if subset else {},
            )
        )
    found.problems += [Problem(where, "text without audio", lost=False) for name, (_, where) in texts.items() if name]
    found.utterances = with_unique_ids(found.utterances)
    note_missing_texts(found)
    return found
