"""CSV and TSV with a column of paths and perhaps one of transcripts; Common Voice and LJ Speech as they ship."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firstwords.corpus.importers.common import (
    AUDIO_FOLDERS,
    Imported,
    ImportOptions,
    Problem,
    clean_text,
    find_audio,
    note_missing_texts,
    split_named,
    with_unique_ids,
)
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

PATH_COLUMNS = ("path", "file", "filename", "file_name", "audio", "wav", "audio_path", "audio_file", "wav_filename")
TEXT_COLUMNS = ("sentence", "text", "transcript", "transcription", "normalized_text", "raw_text")
SPEAKER_COLUMNS = ("client_id", "speaker", "speaker_id")
LANGUAGE_COLUMNS = ("locale", "language", "lang")
KEPT_COLUMNS = ("gender", "age", "accents", "accent")
"""Columns that a manifest line keeps as extras where they hold something."""


@dataclass
class Table:
    """Rows of a table with their line numbers, and where its columns are."""

    rows: list[tuple[int, list[str]]]
    columns: dict[str, int]
    """Index by lower-case name; empty for a table without a header."""
    path_column: int
    text_column: int | None


def import_tables(source: Path, options: ImportOptions | None = None) -> Imported:
    """Utterances of one table, or of a folder's tables.

    Of a folder, train, dev and test (.tsv or .csv) are read where they are there, else every table that names its
    columns so that they are recognised. The split is the column `split`, else the table's name.

    Raises:
        CorpusError: no column of paths is recognised (naming the columns found), or the table cannot be read.
    """
    options = options or ImportOptions()
    found = Imported()
    for path in [source] if source.is_file() else tables_in(source, options):
        found.add(_import_table(path, options))
    found.utterances = with_unique_ids(found.utterances)
    note_missing_texts(found)
    return found


def tables_in(folder: Path, options: ImportOptions) -> list[Path]:
    """The tables of a folder whose columns are recognised; if some are named after splits, only those."""
    tables = [path for path in all_tables(folder) if why_no_table(path, options) is None]
    return [path for path in tables if split_named(path.stem)] or tables


def all_tables(folder: Path) -> list[Path]:
    """Every .tsv and .csv file directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tsv", ".csv") and path.is_file())


def why_no_table(path: Path, options: ImportOptions) -> str | None:
    """What keeps a file from being read as a table of recordings, or None."""
    try:
        read_table(path, options)
    except CorpusError as error:
        return str(error)
    return None


def read_table(path: Path, options: ImportOptions) -> Table:
    """Finds delimiter, header and columns.

    Raises:
        CorpusError: no column of paths is recognised (naming the columns found), or the file cannot be read.
    """
    rows = list(_rows(path))
    if not rows:
        raise CorpusError(f"{path}: an empty table")
    first = [cell.strip() for cell in rows[0][1]]
    numbers = [name for name in (options.path_column, options.text_column) if name and name.isdigit()]
    if numbers or _has_no_header(first, path, options):
        path_column = int(options.path_column) - 1 if options.path_column else 0
        text_column = int(options.text_column) - 1 if options.text_column else len(first) - 1
        if not 0 <= max(path_column, text_column) < len(first):
            raise CorpusError(f"{path}: has {len(first)} columns, not {max(path_column, text_column) + 1}")
        return Table(rows, {}, path_column, text_column if text_column != path_column else None)
    columns = {name.lower(): index for index, name in enumerate(first)}
    listed = ", ".join(first)

    def index(chosen: str | None, known: tuple[str, ...], option: str) -> int | None:
        if chosen is not None and chosen.lower() not in columns:
            raise CorpusError(f"{path}: no column {chosen!r} ({option}); the columns are: {listed}")
        names = (chosen.lower(),) if chosen is not None else known
        return next((columns[name] for name in names if name in columns), None)

    found = index(options.path_column, PATH_COLUMNS, "--path-column")
    if found is None:
        raise CorpusError(
            f"{path}: no column of paths is recognised; the columns are: {listed}; "
            "name it: --path-column NAME (a number from 1 where the table has no header)"
        )
    return Table(rows[1:], columns, found, index(options.text_column, TEXT_COLUMNS, "--text-column"))


def _has_no_header(first: list[str], path: Path, options: ImportOptions) -> bool:
    named = {options.path_column, options.text_column} - {None}
    known = set(PATH_COLUMNS) | {str(name).lower() for name in named}
    if known & {cell.lower() for cell in first} or named:
        return False
    return find_audio(first[0], _roots(path, options)) is not None


def _roots(path: Path, options: ImportOptions) -> list[Path]:
    return [options.audio_root] if options.audio_root else [path.parent / name for name in AUDIO_FOLDERS]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not blank. Tabs part cells without quoting, as Common Voice does."""
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = max("\t|;,", key=header.count)
            file.seek(0)
            quoted = delimiter in ",;"
            reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text; convert it (iconv -t UTF-8)") from error
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: not a table row ({error})") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error


def _import_table(path: Path, options: ImportOptions) -> Imported:
    found = Imported()
    table = read_table(path, options)
    roots = _roots(path, options)
    needed = max(table.path_column, table.text_column or 0) + 1
    for number, cells in table.rows:
        where = f"{path}, line {number}"
        if len(cells) < needed:
            found.problems.append(Problem(where, f"{len(cells)} cells in this row, {needed} needed"))
            continue
        name = cells[table.path_column].strip()
        audio = find_audio(name, roots)
        if audio is None:
            found.problems.append(Problem(where, f"no such recording: {name!r} (looked below {roots[0]})"))
            continue
        text = None if table.text_column is None else clean_text(cells[table.text_column])
        extras = {name: value for name in KEPT_COLUMNS if (value := _cell(cells, table, (name,)))}
        found.utterances.append(
            Utterance(
                id=Path(name).with_suffix("").as_posix() if Path(name).suffix == audio.suffix else name,
                audio=audio,
                text=text,
                speaker=_cell(cells, table, SPEAKER_COLUMNS),
                language=_cell(cells, table, LANGUAGE_COLUMNS),
                split=_cell(cells, table, ("split",)) or split_named(path.stem),
                extras=extras,
            )
        )
    return found


def _cell(cells: list[str], table: Table, names: tuple[str, ...]) -> str | None:
    for name in names:
        if (index := table.columns.get(name)) is not None and index < len(cells) and (value := cells[index].strip()):
            return value
    return None
