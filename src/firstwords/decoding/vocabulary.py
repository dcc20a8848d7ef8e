"""The words of an n-gram model, without the model: what a lexicon is made of, and what kind of model it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from firstwords.decoding.word_model import MARKS
from firstwords.errors import LanguageModelError
from firstwords.text.alphabet import BOUNDARY, Alphabet

KENLM_BINARY = b"mmap lm http://kheafield.com/code"
"""How the files of KenLM's build_binary begin."""

MOST_LACKING = 0.2
"""Share of an alphabet's symbols that a model over symbols need not know: rare letters that its text does not have."""

Kind = Literal["words", "symbols"]


def is_kenlm_binary(path: Path) -> bool:
    """Whether a file is a KenLM binary.

    Raises:
        LanguageModelError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(KENLM_BINARY)) == KENLM_BINARY
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror})") from error


def read_vocabulary(path: Path) -> list[str]:
    """The unigrams of an ARPA file (.gz too), without <s>, </s> and <unk>; the rest of the file is not read.

    Raises:
        LanguageModelError: missing, cut short, or no ARPA file.
    """
    words: list[str] = []
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as lines:
            section = ""
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8").strip()
                if number == 1 and not text:
                    continue
                if not section and text and text != "\\data\\" and not text.startswith(("ngram", "\\1-grams:")):
                    raise LanguageModelError(f"{path}: not an ARPA file; line {number} is {text[:60]!r}")
                if text.startswith("\\") and text != "\\data\\":
                    if section:
                        return words
                    section = text
                elif section and text:
                    fields = text.split()
                    if len(fields) not in (2, 3):
                        raise LanguageModelError(f"{path}, line {number}: no unigram: {text[:60]!r}")
                    if fields[1] not in MARKS:
                        words.append(fields[1])
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: compressed file is cut short or broken ({error}); make it again") from error
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}: not UTF-8 text, so no ARPA file") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    raise LanguageModelError(f"{path}: no ARPA file, or cut short before the end of its unigrams")


def kind_of(words: Iterable[str], alphabet: Alphabet, where: str) -> Kind:
    """Whether a model is over words, or over the alphabet's symbols (characters or phones, with `|` between words).

    Raises:
        LanguageModelError: it is over symbols, but not over this alphabet's (which differ is named).
    """
    own = set(alphabet.letters)
    theirs = set(words)
    if BOUNDARY not in theirs and any(len(word) > 1 for word in theirs):
        return "words" if alphabet.units == "characters" or not theirs <= own else "symbols"
    strange, lacking = sorted(theirs - own), sorted(own - theirs)
    if len(lacking) > MOST_LACKING * len(own):
        raise LanguageModelError(
            f"{where}: a model over symbols, but not over the recogniser's: it lacks {' '.join(lacking[:40])}, "
            f"and has {' '.join(strange[:40]) or 'none'}, which the alphabet lacks; "
            "estimate it on text spelt as the transcripts are"
        )
    return "symbols"
