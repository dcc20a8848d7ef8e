"""Wall Street Journal (LDC93S6A and LDC94S13A): wsj0/ and wsj1/ with .wv1 recordings and .dot transcripts.

The discs may lie side by side as they came (11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1) or be copied together. Which
utterances are in a set is what the discs' own index files say; where those are missing, it is the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from firstwords.corpus.importers.common import Imported, Problem, clean_text, note_missing_texts, walk, with_unique_ids
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

AUDIO = (".wv1", ".wav", ".flac", ".sph")
"""Recordings of the first microphone, as they came or unpacked; .wv2 is the second one."""

SETS = {
    "si284": "train",
    "nov93dev": "dev",
    "nov92": "test",
}
"""Each set (kept in the extra key `subset`) and its split."""

INDICES = {
    "wsj0/doc/indices/train/tr_s_wv1.ndx": "si284",
    "wsj1/doc/indices/si_tr_s.ndx": "si284",
    "wsj1/doc/indices/h1_p0.ndx": "nov93dev",
    "wsj0/doc/indices/test/nvp/si_et_20.ndx": "nov92",
}
"""The index files that list the sets: 37,416, 503 and 333 utterances."""

FOLDERS = {"wsj0/si_tr_s": "si284", "wsj1/si_tr_s": "si284", "wsj1/si_dt_20": "nov93dev", "wsj0/si_et_20": "nov92"}
"""The same by folder."""

NOT_ON_DISC = "wsj0/si_tr_s/401"
"""A speaker that the index lists and the usual sets leave out."""

LEFT_OUT = re.compile(r"\[<\w+\]|\[\w+>\]|\[\w+/\]|\[/\w+\]|\[<?\w+>?\]|~|\.")
"""Words of a transcript that nobody said: noises, where they begin and end, a cut, a pause."""


def is_wsj(files: Sequence[Path]) -> bool:
    """Whether some of a folder's files are WSJ's recordings or transcripts."""
    return any(path.suffix.lower() in (".wv1", ".dot") and _place(path) is not None for path in files)


def import_wsj(root: Path) -> Imported:
    """Utterances of si284 (train), nov93dev (dev: Hub 1, 20,000 words) and nov92 (test: 20,000 words), as far as there.

    Raises:
        CorpusError: a file that cannot be read, or recordings of none of the sets.
    """
    found = Imported()
    recordings: dict[str, Path] = {}
    texts: dict[str, str] = {}
    members: dict[str, str] = {}
    indexed = set()
    for path in walk(root.absolute()):
        suffix, place = path.suffix.lower(), _place(path)
        if place is None:
            continue
        if suffix == ".dot":
            texts.update(_transcripts(path, found))
        elif suffix == ".ndx" and (name := INDICES.get(place)) is not None:
            indexed.add(place.split("/")[0] + name)
            members.update(dict.fromkeys(_listed(path), name))
        elif suffix in AUDIO:
            recordings.setdefault(str(Path(place).with_suffix("")), path)
    others: Counter[str] = Counter()
    for place, path in recordings.items():
        name = members.get(place) or _by_folder(place, indexed)
        if name is None or place.startswith(NOT_ON_DISC):
            others[place.rsplit("/", 2)[0]] += 1
            continue
        id = Path(place).name
        found.utterances.append(
            Utterance(id=id, audio=path, text=texts.get(id), speaker=id[:3], split=SETS[name], extras={"subset": name})
        )
    missing = Counter(name for place, name in members.items() if place not in recordings
                      and not place.startswith(NOT_ON_DISC))  # fmt: skip
    for name, count in missing.items():
        what = f"{count} utterances of {name} are listed, but their recordings are not here (another disc?)"
        found.problems.append(Problem(str(root), what, lost=False))
    for folder, count in sorted(others.items()):
        found.problems.append(Problem(folder, f"{count} recordings of other sets, not taken", lost=False))
    if recordings and not found.utterances:
        raise CorpusError(f"{root}: {len(recordings)} recordings, but none of {', '.join(SETS)}")
    found.utterances = with_unique_ids(found.utterances)
    note_missing_texts(found)
    return found


def normalize_transcript(text: str) -> str | None:
    """A line of a .dot file as words of small letters, apostrophes and periods (of abbreviations); None for none.

    Noises in brackets go, words that were read though they should not have been (`<and>`) stay, and so do the names of
    spoken punctuation (`,COMMA` is comma).
    """
    words = []
    for word in text.split():
        word = word.replace("\\", "").replace("*", "").lower()
        if LEFT_OUT.fullmatch(word):
            continue
        if re.fullmatch(r"'[a-z]+-quote", word):
            word = word[1:]
        word = re.sub(r"[^a-z'. ]", " ", word.replace(":", "").replace("!", ""))
        words += [part for one in word.split() if (part := one.lstrip("."))]
    return clean_text(" ".join(words))


def _place(path: Path) -> str | None:
    """A file's path from wsj0 or wsj1 on, in small letters; None where it is below neither."""
    parts = [part.lower() for part in path.parts]
    starts = [number for number, part in enumerate(parts[:-1]) if part in ("wsj0", "wsj1")]
    # the folder of indices for the evaluation is called wsj1, too: the first of several counts
    return "/".join(parts[starts[0] :]) if starts else None


def _by_folder(place: str, indexed: set[str]) -> str | None:
    name = FOLDERS.get("/".join(place.split("/")[:2]))
    return None if name is None or place.split("/")[0] + name in indexed else name


def _listed(path: Path) -> list[str]:
    """The places that an index names, one a line: "11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1"; ";" begins a remark."""
    lines = [line.strip() for line in _lines(path) if line.strip() and not line.startswith(";")]
    places = [re.sub(r"\.wv1$", "", line.rpartition(":")[2].strip().strip("/").lower()) for line in lines]
    return [place for place in places if place.startswith(("wsj0/", "wsj1/"))]


def _transcripts(path: Path, found: Imported) -> dict[str, str]:
    """Of "The sale is over . (40pc0201)" each line's id and words."""
    texts = {}
    for number, line in enumerate(_lines(path), 1):
        match = re.fullmatch(r"\s*(.*?)\s*\((\w+)\)\s*", line)
        if match is None:
            if line.strip():
                what = f"expected words and (UTTERANCE), found {line.strip()[:60]!r}"
                found.problems.append(Problem(f"{path}, line {number}", what, lost=False))
            continue
        if (text := normalize_transcript(match[1])) is not None:
            texts[match[2].lower()] = text
    return texts


def _lines(path: Path) -> list[str]:
    """Lines of a file of the early nineties. Raises CorpusError where it cannot be read."""
    try:
        return path.read_text(encoding="latin-1").replace("\r", "").split("\n")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
