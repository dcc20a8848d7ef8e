"""ARPA files: n-gram models as text, which every toolkit reads and writes."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from firstwords.corpus.parallel import track
from firstwords.decoding.ngram import END, START, UNKNOWN, Ngrams
from firstwords.errors import LanguageModelError

BLOCK = 100_000
"""n-grams that are read or written at once."""
UNKNOWN_LOG10 = -100.0
"""Of <unk> in a model that has none. Source: KenLM."""
_KENLM_BINARY = b"mmap lm http://kheafield.com/code"
_Table = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one order, as the file has it: word ids (m, n), log10 of probabilities (m,) and of back-off weights (m,)."""
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)$")


def write_arpa(path: Path, words: Sequence[str], orders: Sequence[Ngrams]) -> None:
    """Writes a model whole or not at all, compressed where the name ends in .gz.

    Numbers have seven significant digits, as many as float32 holds.

    Raises:
        LanguageModelError: it cannot be written; what was there before is unharmed.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            if path.suffix == ".gz":
                # No name and time inside: the same model is the same file.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    _write(packed, words, orders)
            else:
                _write(file, words, orders)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass


def check_place(path: Path) -> None:
    """Raises LanguageModelError where `write_arpa` could not write: better before hours of counting than after."""
    temporary = path.with_name(path.name + ".part")
    try:
        if path.is_dir():
            raise LanguageModelError(f"{path}: a folder; --out is a file, such as {path / 'lm.arpa'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error


def _write(file: IO[bytes] | gzip.GzipFile, words: Sequence[str], orders: Sequence[Ngrams]) -> None:
    names = np.array(words, dtype=object)
    counts = [int(np.sum(~np.isnan(part.log10))) for part in orders]
    file.write(b"\\data\\\n")
    for number, count in enumerate(counts, 1):
        file.write(f"ngram {number}={count}\n".encode())
    blocks = [(n, begin) for n, part in enumerate(orders, 1) for begin in range(0, len(part), BLOCK)]
    section = 0
    for number, begin in track(blocks, len(blocks), "writing n-grams"):
        while section < number:
            section += 1
            file.write(f"\n\\{section}-grams:\n".encode())
        file.write(_lines(names, orders, number, begin).encode())
    file.write(b"\n\\end\\\n")


def _lines(names: np.ndarray, orders: Sequence[Ngrams], number: int, begin: int) -> str:
    """The lines of a block of n-grams."""
    part = orders[number - 1]
    rows = np.arange(begin, min(begin + BLOCK, len(part)))
    rows = rows[~np.isnan(part.log10[rows])]
    columns: list[list[str]] = []
    places = rows
    for shorter in reversed(orders[:number]):
        columns.insert(0, names[shorter.word[places]].tolist())
        places = shorter.context[places]
    texts = list(map(" ".join, zip(*columns, strict=True)))
    values: list[object] = [None] * (3 * len(rows))
    values[0::3], values[1::3] = part.log10[rows].tolist(), texts
    if number == len(orders):
        del values[2::3]
        return ("%.7g\t%s\n" * len(rows)) % tuple(values)
    values[2::3] = part.backoff[rows].tolist()
    return ("%.7g\t%s\t%.7g\n" * len(rows)) % tuple(values)


def read_arpa(path: Path) -> tuple[list[str], list[Ngrams]]:
    """The words and n-grams of an ARPA file, plain or compressed by gzip.

    A model without <unk> gets one, as improbable as KenLM makes it. Contexts that only longer n-grams name
    (some toolkits prune them away) are filled in without a probability of their own.

    Raises:
        LanguageModelError: naming the line.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(_KENLM_BINARY))
        if head == _KENLM_BINARY:
            raise LanguageModelError(
                f"{path}: a KenLM binary, which only the decoder's own reader takes; give the .arpa file it was made of"
            )
        with gzip.open(path, "rb") if head[:2] == b"\x1f\x8b" else open(path, "rb") as lines:
            return _Reader(path, lines).read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: compressed file is cut short or broken ({error}); make it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror or error})") from error


class _Reader:
    """Goes through the lines of an ARPA file."""

    def __init__(self, path: Path, lines: Iterator[bytes]) -> None:
        self.path, self.lines = path, lines
        self.line = 0
        """Number of the last line that was read."""
        self.ids: dict[bytes, int] = {}
        self.names: list[str] = []

    def read(self) -> tuple[list[str], list[Ngrams]]:
        counts = self._counts()
        total = sum(-(-count // BLOCK) for count in counts)
        tables: list[_Table] = []
        for _ in track(self._sections(counts, tables), total, "reading n-grams"):
            pass
        line = self._next_line()
        if line != b"\\end\\":
            raise self._error(f"expected \\end\\ after the last n-gram, found {_shown(line)}")
        return self.names, _build(self.path, self.names, tables)

    def _error(self, what: str, line: int | None = None) -> LanguageModelError:
        return LanguageModelError(f"{self.path}, line {self.line if line is None else line}: {what}")

    def _next_line(self) -> bytes:
        """The next line that is not blank."""
        for line in self.lines:
            self.line += 1
            if stripped := line.strip():
                return stripped
        raise self._error("the file ends here, cut short; make or copy it again")

    def _counts(self) -> list[int]:
        """How many n-grams of each order the head promises; the first section's title is read, too."""
        if self.line == 0:
            try:
                first = self._next_line()
            except LanguageModelError as error:
                raise LanguageModelError(f"{self.path}: empty, no ARPA file") from error
            if first != b"\\data\\":
                raise self._error(f"not an ARPA file: it starts with {_shown(first)}, not with \\data\\")
        counts: list[int] = []
        while not (line := self._next_line()).startswith(b"\\"):
            found = _COUNT.match(line)
            if not found or int(found[1]) != len(counts) + 1:
                raise self._error(f"expected 'ngram {len(counts) + 1}=NUMBER', found {_shown(line)}")
            counts.append(int(found[2]))
        if not counts:
            raise self._error("no line 'ngram 1=NUMBER'")
        self._title(line, 1)
        return counts

    def _title(self, line: bytes, number: int) -> None:
        if line != b"\\%d-grams:" % number:
            raise self._error(
                f"expected \\{number}-grams:, found {_shown(line)}; does the number of n-grams at the top hold?"
            )

    def _sections(self, counts: Sequence[int], tables: list[_Table]) -> Iterator[None]:
        """Fills `tables` with (ids (m, n), log10 (m,), backoff (m,)) of each order; yields after each block."""
        for number, count in enumerate(counts, 1):
            if number > 1:
                self._title(self._next_line(), number)
            blocks = []
            for begin in range(0, count, BLOCK):
                blocks.append(self._block(number, min(BLOCK, count - begin), number == len(counts)))
                yield
            empty = (np.zeros((0, number), np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))
            tables.append(tuple(map(np.concatenate, zip(*blocks, strict=True))) if blocks else empty)  # type: ignore[arg-type]

    def _block(self, number: int, count: int, last: bool) -> _Table:
        lines = list(islice(self.lines, count))
        if len(lines) < count:
            self.line += len(lines)
            raise self._error(f"the file ends here, {count - len(lines)} or more {number}-grams too early")
        width = number + 1 + (not last)
        tokens = b"".join(lines).split()
        if len(tokens) != width * count:  # back-off weights may be left out
            tokens = [token for row in map(self._padded, lines, [number] * count) for token in row]
            width = number + 2
        try:
            log10 = np.array(list(map(float, tokens[0::width])), dtype=np.float32)
            backoff = np.zeros(count, np.float32)
            if width == number + 2:
                backoff = np.array(list(map(float, tokens[width - 1 :: width])), dtype=np.float32)
            if number == 1:
                self._learn(tokens[1::width])
            columns = [list(map(self.ids.__getitem__, tokens[n::width])) for n in range(1, number + 1)]
        except (ValueError, KeyError):
            raise self._culprit(lines, number) from None
        if not (log10 <= 0).all() or not np.isfinite(backoff).all():
            raise self._culprit(lines, number)
        self.line += count
        return np.array(columns, dtype=np.int32).T, log10, backoff

    def _learn(self, words: list[bytes]) -> None:
        """Gives unigrams their ids."""
        for number, word in enumerate(words, 1):
            name = b"<unk>" if word == b"<UNK>" else word
            if name in self.ids:
                raise self._error(f"the word {_shown(word)} stands there twice", self.line + number)
            self.ids[name] = self.ids[word] = len(self.names)
            try:
                self.names.append(name.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise self._error(f"{word!r} is not UTF-8 text", self.line + number) from error

    def _padded(self, line: bytes, number: int) -> list[bytes]:
        """The fields of a line, with the back-off weight that it may have left out."""
        fields = line.split()
        if len(fields) == number + 1:
            return [*fields, b"0"]
        if len(fields) == number + 2:
            return fields
        return [b"malformed"] * (number + 2)

    def _culprit(self, lines: list[bytes], number: int) -> LanguageModelError:
        """What is wrong, and in which of the lines."""
        for line in lines:
            self.line += 1
            fields = self._padded(line, number)
            words = fields[1:-1]
            if fields[0] == b"malformed":
                return self._error(f"expected a log10 probability and {number} words, found {_shown(line.strip())}")
            for field in (fields[0], fields[-1]):
                try:
                    value = float(field)
                except ValueError:
                    return self._error(f"expected a number, found {_shown(field)} in {_shown(line.strip())}")
                if value != value or value == float("inf"):
                    return self._error(f"expected a number, found {_shown(field)}")
            if float(fields[0]) > 0:
                return self._error(f"a log10 probability above 0: {_shown(line.strip())}")
            for word in words:
                if number > 1 and word not in self.ids:
                    return self._error(f"the word {_shown(word)} is no unigram of this file")
        return self._error("malformed n-grams up to here")


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _build(path: Path, words: list[str], tables: list[_Table]) -> list[Ngrams]:
    """Sorts each order by context and last word, and finds each context in the order below."""
    for name in (START, END):
        if name not in words:
            raise LanguageModelError(f"{path}: no {name} among the unigrams; without it no sentence can be scored")
    if UNKNOWN not in words:
        words.append(UNKNOWN)
        unknown = np.array([[len(words) - 1]], np.int32)
        tables[0] = _joined(tables[0], (unknown, np.array([UNKNOWN_LOG10], np.float32), np.zeros(1, np.float32)))
    while True:
        orders, missing = _sorted(path, words, tables)
        if not missing:
            return orders
        for number, rows in missing.items():
            nothing = np.full(len(rows), np.nan, np.float32), np.zeros(len(rows), np.float32)
            tables[number - 1] = _joined(tables[number - 1], (rows, *nothing))


def _joined(one: _Table, other: _Table) -> _Table:
    first, second, third = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    return first, second, third


def _sorted(path: Path, words: list[str], tables: list[_Table]) -> tuple[list[Ngrams], dict[int, np.ndarray]]:
    """The orders; or, where contexts are missing, for each order the rows of ids that it lacks."""
    orders: list[Ngrams] = []
    keys: list[np.ndarray] = []
    missing: dict[int, np.ndarray] = {}
    for number, (ids, log10, backoff) in enumerate(tables, 1):
        context = np.zeros(len(ids), np.int64) if number == 1 else ids[:, 0].astype(np.int64)
        for length in range(2, number):
            wanted = context * len(words) + ids[:, length - 1]
            found = np.minimum(np.searchsorted(keys[length - 1], wanted), max(0, len(keys[length - 1]) - 1))
            absent = keys[length - 1][found] != wanted if len(keys[length - 1]) else np.ones(len(wanted), bool)
            if absent.any():
                missing[length] = np.unique(ids[absent, :length], axis=0)
                return orders, missing
            context = found
        key = context * len(words) + ids[:, -1]
        place = np.argsort(key, kind="stable")
        key = key[place]
        if len(twice := np.flatnonzero(key[1:] == key[:-1])):
            names = " ".join(words[one] for one in ids[place[twice[0]]])
            raise LanguageModelError(f"{path}: the n-gram {names!r} stands there twice")
        word = np.ascontiguousarray(ids[place, -1])
        orders.append(Ngrams(context[place].astype(np.int32), word, log10[place], backoff[place]))
        keys.append(key)
    return orders, missing
