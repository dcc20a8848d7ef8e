"""Texts to phones: by espeak-ng, in any of its languages, or by a lexicon."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from firstwords.corpus.espeak import transcribe
from firstwords.errors import TextError
from firstwords.text.ipa import ipa_units

Pronounced = list[tuple[str, tuple[str, ...]]]
"""The words of a sentence, each with its phones."""

_AT_ONCE = 500
"""Sentences that espeak-ng says before it lets others have its library."""
_FLAG = re.compile(r"\([a-z-]+\)")
"""espeak-ng's marks for a word that it says in another language."""


def pronounce(sentences: Iterable[str], language: str, keep_length: bool = False) -> Iterator[Pronounced | None]:
    """Each sentence's words with the phones they have in that sentence, as espeak-ng says it; None where a word has no
    phones at all.

    A sentence is said as a whole, so that "a", "the" and "to" are as weak as in speech. Where espeak-ng says more or
    fewer words than stand there (numbers, abbreviations), every word is said by itself.

    Args:
        sentences: words separated by spaces, without punctuation.
        language: espeak-ng's code.
        keep_length: see `ipa_units`.

    Raises:
        MissingExtraError: espeakng_loader is not installed.
        ConfigError: a language that espeak-ng does not know.
    """
    alone: dict[str, tuple[str, ...]] = {}
    remaining = iter(sentences)
    while block := [sentence.split() for sentence in islice(remaining, _AT_ONCE)]:
        said = transcribe(block, language)
        new = {word for words, heard in zip(block, said, strict=True) if len(words) != len(heard) for word in words}
        new -= alone.keys()
        for word, heard in zip(new, transcribe([[word] for word in new], language), strict=True):
            alone[word] = _units(" ".join(heard).replace(" ", "_"), keep_length)
        for words, heard in zip(block, said, strict=True):
            if len(words) == len(heard):
                found = [(word, _units(one, keep_length)) for word, one in zip(words, heard, strict=True)]
            else:
                found = [(word, alone[word]) for word in words]
            yield found if all(phones for _, phones in found) else None


def _units(word: str, keep_length: bool) -> tuple[str, ...]:
    phones = _FLAG.sub("", word).split("_")
    return tuple(unit for phone in phones for unit in ipa_units(phone, keep_length))


def look_up(sentences: Iterable[str], lexicon: Mapping[str, tuple[str, ...]]) -> Iterator[Pronounced | None]:
    """The same by a lexicon; None for a sentence with a word that it lacks."""
    for sentence in sentences:
        words = sentence.split()
        yield [(word, lexicon[word]) for word in words] if all(word in lexicon for word in words) else None


def read_pronunciations(path: Path) -> dict[str, tuple[str, ...]]:
    """A word and its phones a line, separated by white space; of a word's several pronunciations the first.

    Raises:
        TextError: it cannot be read, or a line has a word alone.
    """
    found: dict[str, tuple[str, ...]] = {}
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            word, *phones = line.split() or [""]
            if word and not phones:
                raise TextError(f"{path}, line {number}: {word!r} has no phones; expected: word ph o n e s")
            if word:
                found.setdefault(word, tuple(phones))
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path}: the lexicon cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not found:
        raise TextError(f"{path}: the lexicon is empty; expected a word and its phones a line")
    return found
