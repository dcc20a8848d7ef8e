"""fairseq's lists: NAME.tsv (root folder, then path<TAB>samples), labels line by line in NAME.ltr, .wrd, .phn."""

from __future__ import annotations

from pathlib import Path

from firstwords.corpus.importers.common import Imported, Problem, clean_text, read_lines, split_named, with_unique_ids
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError


def is_fairseq_list(path: Path) -> bool:
    """Whether a .tsv begins as fairseq's do: a line without tabs, then path and number of samples."""
    try:
        with open(path, encoding="utf-8-sig") as lines:
            first, second = next(lines, ""), next(lines, "")
    except (OSError, UnicodeDecodeError):
        return False
    cells = second.rstrip("\n").split("\t")
    return "\t" not in first.strip() and len(cells) == 2 and cells[1].strip().isdigit()


def import_fairseq(source: Path, audio_root: Path | None = None) -> Imported:
    """Utterances of one list, or of every list in a folder; train.tsv, dev*.tsv, valid.tsv, test*.tsv name the split.

    Words come from .wrd, else from the letters of .ltr; phonemes from .phn go to the extra key `phones`.

    Raises:
        CorpusError: labels and list differ in their number of lines, or the root folder is not there.
    """
    found = Imported()
    lists = [source] if source.is_file() else sorted(path for path in source.glob("*.tsv") if is_fairseq_list(path))
    for path in lists:
        found.add(_import_list(path, audio_root))
    found.utterances = with_unique_ids(found.utterances)
    return found


def _import_list(path: Path, audio_root: Path | None) -> Imported:
    found = Imported()
    first, *lines = read_lines(path)
    root = audio_root or path.parent / first.strip()
    if not root.is_dir():
        raise CorpusError(f"{path}, line 1: its root folder {root} is not there; name it: --audio-root FOLDER")
    words = _labels(path, ".wrd", len(lines))
    letters = _labels(path, ".ltr", len(lines))
    phones = _labels(path, ".phn", len(lines))
    for index, line in enumerate(lines):
        name, _, samples = line.partition("\t")
        if not name or not samples.strip().isdigit():
            found.problems.append(Problem(f"{path}, line {index + 2}", "not a path, a tab, and a number of samples"))
            continue
        text = None
        if words is not None:
            text = clean_text(words[index])
        elif letters is not None:
            text = clean_text("".join(letters[index].split()).replace("|", " "))
        extras = {"phones": [" ".join(phones[index].split())]} if phones is not None else {}
        audio = root / name
        id = Path(name).with_suffix("").as_posix()
        found.utterances.append(Utterance(id, audio, text=text, split=split_named(path.stem), extras=extras))
    return found


def _labels(path: Path, suffix: str, count: int) -> list[str] | None:
    labels = path.with_suffix(suffix)
    if not labels.is_file():
        return None
    lines = read_lines(labels)
    if len(lines) != count:
        raise CorpusError(
            f"{labels}: {len(lines)} lines for the {count} recordings of {path.name}; "
            "they must go line by line, so one of the two files is not the other's"
        )
    return lines
