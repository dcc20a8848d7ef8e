"""Any layout that recordings come in, to utterances; one file per layout."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.corpus.importers.common import (
    FOREIGN_SUFFIXES,
    Imported,
    ImportOptions,
    Layout,
    Problem,
    is_audio,
    walk,
)
from firstwords.corpus.importers.fairseq import import_fairseq, is_fairseq_list
from firstwords.corpus.importers.folder import import_folder
from firstwords.corpus.importers.kaldi import import_kaldi
from firstwords.corpus.importers.librispeech import import_librispeech
from firstwords.corpus.importers.table import all_tables, import_tables, tables_in, why_no_table
from firstwords.corpus.importers.timit import import_timit, is_timit
from firstwords.corpus.importers.wsj import import_wsj, is_wsj
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.errors import CorpusError

__all__ = ["LAYOUTS", "ImportOptions", "Imported", "Problem", "detect", "import_corpus"]

LAYOUTS: dict[Layout, str] = {
    "manifest": "a manifest.jsonl, or a folder with one",
    "kaldi": "a Kaldi data directory: wav.scp, text, utt2spk, segments",
    "fairseq": "fairseq's .tsv with .ltr, .wrd or .phn beside it, or a folder of them",
    "librispeech": "LibriSpeech or Libri-Light: SPEAKER/CHAPTER/*.flac with *.trans.txt",
    "timit": "TIMIT: TRAIN and TEST/DR*/SPEAKER/*.WAV with *.PHN",
    "wsj": "Wall Street Journal: wsj0 and wsj1 with *.wv1 and *.dot",
    "table": "a CSV or TSV with paths and transcripts, or a folder with one (Common Voice, LJ Speech)",
    "folder": "a folder of recordings, with or without NAME.txt beside NAME.wav",
}
"""Each layout and what it looks like, in the order in which they are tried."""

LOOK_AT = 20_000
"""Files of a folder that are looked at to tell its layout."""


def detect(source: Path, options: ImportOptions | None = None) -> Layout:
    """The name of the layout (a key of LAYOUTS) that a file or folder is in.

    Raises:
        CorpusError: nothing there, or nothing that any layout would know.
    """
    if source.is_file():
        return _detect_file(source)
    if not source.is_dir():
        raise CorpusError(f"{source}: no such file or folder")
    if (source / MANIFEST_NAME).is_file():
        return "manifest"
    if (source / "wav.scp").is_file() or next(source.glob("*/wav.scp"), None):
        return "kaldi"
    if any(is_fairseq_list(path) for path in source.glob("*.tsv")):
        return "fairseq"
    files = list(itertools.islice(walk(source), LOOK_AT))
    if any(path.name.endswith(".trans.txt") for path in files) or _is_libri_light(files):
        return "librispeech"
    if is_timit(files):
        return "timit"
    if is_wsj([path.absolute() for path in files]):
        return "wsj"
    if tables_in(source, options or ImportOptions()):
        return "table"
    if any(is_audio(path) for path in files) or len(files) == LOOK_AT:
        return "folder"
    foreign = sum(path.suffix.lower() in FOREIGN_SUFFIXES for path in files)
    convert = f"; {foreign} files are in formats to convert first (ffmpeg -i talk.m4a talk.flac)" if foreign else ""
    raise CorpusError(
        f"{source}: no audio found among {len(files)} files; looked for {MANIFEST_NAME}, wav.scp, .trans.txt, "
        f".PHN, .wv1, a .tsv or .csv with paths, and recordings ({', '.join(sorted(AUDIO_SUFFIXES))}){convert}"
    )


def _detect_file(source: Path) -> Layout:
    suffix = source.suffix.lower()
    if suffix in (".jsonl", ".json"):
        return "manifest"
    if suffix in (".tsv", ".csv", ".psv"):
        return "fairseq" if is_fairseq_list(source) else "table"
    if is_audio(source):
        return "folder"
    if source.name == "wav.scp":
        raise CorpusError(f"{source}: give the data directory that holds it: {source.parent}")
    raise CorpusError(
        f"{source}: neither a manifest (.jsonl), a table (.tsv, .csv) nor a recording; say which it is: --layout NAME"
    )


def _is_libri_light(files: list[Path]) -> bool:
    """SPEAKER/BOOK/NAME.flac with NAME.json beside it, speakers being numbers."""
    names = set(map(os.fspath, files))
    return any(
        path.suffix == ".flac" and path.parent.parent.name.isdigit() and os.fspath(path.with_suffix(".json")) in names
        for path in files
    )


def import_corpus(source: Path, options: ImportOptions | None = None) -> Imported:
    """Utterances in the source's layout; nothing is decoded yet, so recordings may still turn out broken.

    Raises:
        CorpusError: an unknown layout, a file that says what it should not, or no audio at all.
    """
    options = options or ImportOptions()
    if not source.exists():
        raise CorpusError(f"{source}: no such file or folder")
    layout = options.layout or detect(source, options)
    if layout == "manifest":
        found = Imported(read_manifest(source))
    elif layout == "kaldi":
        found = import_kaldi(source, options.audio_root)
    elif layout == "fairseq":
        found = import_fairseq(source, options.audio_root)
    elif layout == "librispeech":
        found = import_librispeech(source)
    elif layout == "timit":
        found = import_timit(source, options.timit_phones)
    elif layout == "wsj":
        found = import_wsj(source)
    elif layout == "table":
        found = import_tables(source, options)
    elif layout == "folder":
        found = import_folder(source, options.speaker_from_folder)
        for path in all_tables(source) if options.layout is None and source.is_dir() else []:
            found.problems.append(Problem(str(path), f"not used: {why_no_table(path, options)}", lost=False))
    else:
        raise CorpusError(f"no layout {layout!r}; known: {', '.join(LAYOUTS)}")
    found.layout = layout
    if not found.utterances:
        first = "".join(f"\n  {problem.where}: {problem.what}" for problem in found.problems[:5])
        raise CorpusError(f"{source}: no audio found (read as layout {layout}: {LAYOUTS[layout]}){first}")
    return found
