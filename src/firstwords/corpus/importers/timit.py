"""TIMIT (LDC93S1): {TRAIN,TEST}/DR*/SPEAKER/SENTENCE.WAV with .PHN, .TXT and .WRD beside it, in capitals or not.

Phones are folded from 60 to 48 to 39 classes (Lee and Hon 1989; the table is Kaldi's); the glottal stop q goes.
Splits: the 462 speakers of TRAIN; of TEST the 24 of the core test and the 50 development speakers that everybody uses.
The two SA sentences, which all speakers read, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from firstwords.corpus.importers.common import (
    Imported,
    Problem,
    clean_text,
    note_missing_texts,
    read_lines,
    walk,
    with_unique_ids,
)
from firstwords.corpus.utterance import Utterance

PhoneSet = Literal["39", "48", "60"]

_CORE_TEST = (
    "felc0 mdab0 mwbt0 fpas0 mtas1 mwew0 fpkt0 mjmp0 mlnt0 fjlm0 mlll0 mtls0 fnlp0 mbpm0 mklt0 fmgd0 mcmj0 "
    "mjdh0 fdhc0 mgrt0 mnjm0 fmld0 mjln0 mpam0 "
)
CORE_TEST = frozenset(_CORE_TEST.split())
"""The core test's speakers: two men and a woman of each dialect region."""

_DEVELOPMENT = (
    "fadg0 faks0 fcal1 fcmh0 fdac1 fdms0 fdrw0 fedw0 fgjd0 fjem0 fjmg0 fjsj0 fkms0 fmah0 fmml0 fnmr0 frew0 "
    "fsem0 majc0 mbdg0 mbns0 mbwm0 mcsh0 mdlf0 mdls0 mdvc0 mers0 mgjf0 mglb0 mgwt0 mjar0 mjfc0 mjsw0 mmdb1 "
    "mmdm2 mmjr0 mmwh0 mpdf0 mrcs0 mreb0 mrjm4 mrjr0 mroa0 mrtk0 mrws1 mtaa0 mtdt0 mteb0 mthc0 mwjg0 "
)
DEVELOPMENT = frozenset(_DEVELOPMENT.split())
"""Speakers of the development set (Halberstadt 1998), as in Kaldi's recipe."""

DROPPED = "q"
"""The glottal stop, in none of the smaller sets."""

TO_48 = {
    "ax-h": "ax", "axr": "er", "bcl": "vcl", "dcl": "vcl", "gcl": "vcl", "pcl": "cl", "tcl": "cl", "kcl": "cl",
    "em": "m", "eng": "ng", "hv": "hh", "nx": "n", "ux": "uw", "h#": "sil", "pau": "sil",
}  # fmt: skip
"""60 classes (with q, 61) to 48; those that are not named stay."""

TO_39 = {
    "ao": "aa", "ax": "ah", "ix": "ih", "el": "l", "en": "n", "zh": "sh", "cl": "sil", "vcl": "sil", "epi": "sil",
}  # fmt: skip
"""48 classes to 39."""

_PHONES = (
    "aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh "
    "k kcl l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh "
)
PHONES = frozenset(_PHONES.split())
"""What .PHN files hold: 60 and q."""


def fold(phones: Sequence[str], to: PhoneSet = "39") -> list[str]:
    """TIMIT's own labels as one of the smaller sets; neighbours that become alike stay two."""
    kept = [phone for phone in phones if phone != DROPPED]
    if to == "60":
        return kept
    folded = [TO_48.get(phone, phone) for phone in kept]
    return folded if to == "48" else [TO_39.get(phone, phone) for phone in folded]


def is_timit(files: Sequence[Path]) -> bool:
    """Whether some of a folder's files are sentences with their phones, below TRAIN or TEST."""
    return any(path.suffix.lower() == ".phn" and _half(path) is not None for path in files)


def import_timit(root: Path, phones: PhoneSet = "39") -> Imported:
    """Utterances with their sentence as text and their phones, one string, in the extra key `phones`.

    Speakers of TEST that are neither in the core test nor in the development set are in split "complete-test".
    """
    found = Imported()
    folders: dict[Path, dict[str, Path]] = {}
    for path in walk(root):
        folders.setdefault(path.parent, {})[path.name.lower()] = path
    read_by_all = 0
    for folder, files in folders.items():
        for name, labels in files.items():
            if not name.endswith(".phn") or (half := _half(labels.absolute())) is None:
                continue
            sentence = name.removesuffix(".phn")
            if sentence in ("sa1", "sa2"):
                read_by_all += 1
                continue
            endings = (".wav", ".wav.wav", ".sph", ".flac")
            audio = next((files[sentence + end] for end in endings if sentence + end in files), None)
            if audio is None:
                found.problems.append(Problem(str(labels), "phones without audio", lost=False))
                continue
            spoken = _phones(labels, found)
            if spoken is None:
                continue
            speaker = folder.absolute().name.lower()
            found.utterances.append(
                Utterance(
                    id=f"{speaker}-{sentence}",
                    audio=audio,
                    text=_sentence(files.get(f"{sentence}.txt")),
                    speaker=speaker,
                    split="train" if half == "train" else _test_split(speaker),
                    extras={"phones": " ".join(fold(spoken, phones)), "dialect": folder.absolute().parent.name.lower()},
                )
            )
    if read_by_all:
        what = f"{read_by_all} SA sentences left out, as is usual: all speakers read the same two"
        found.problems.append(Problem(str(root), what, lost=False))
    found.utterances = with_unique_ids(found.utterances)
    note_missing_texts(found)
    return found


def _half(path: Path) -> str | None:
    """ "train" or "test": which part of the corpus TRAIN/DR1/SPEAKER/SENTENCE.PHN is in."""
    parts = [part.lower() for part in path.parts]
    if len(parts) >= 4 and parts[-3][:2] == "dr" and parts[-4] in ("train", "test"):
        return parts[-4]
    return None


def _test_split(speaker: str) -> str:
    return "test" if speaker in CORE_TEST else "dev" if speaker in DEVELOPMENT else "complete-test"


def _phones(path: Path, found: Imported) -> list[str] | None:
    """The third column of a .PHN file; None, and a problem, where it is something else."""
    spoken = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3 or not (cells[0].isdigit() and cells[1].isdigit()) or cells[2].lower() not in PHONES:
            what = f"expected first sample, last sample and one of TIMIT's phones, found {line.strip()!r}"
            found.problems.append(Problem(f"{path}, line {number}", what))
            return None
        spoken.append(cells[2].lower())
    return spoken


def _sentence(path: Path | None) -> str | None:
    """Of "0 46797 She had your dark suit in greasy wash water all year." the words."""
    if path is None:
        return None
    words = " ".join(read_lines(path)).split()
    return clean_text(" ".join(words[2:] if words[:1] and words[0].isdigit() else words))
