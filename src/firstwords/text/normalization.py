"""Transcripts to the one spelling that a recogniser learns: Unicode form, case, punctuation, white space."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_APOSTROPHES = "’‘‛′´`＇"
_DOUBLE_QUOTES = "“”„‟″«»＂"
_UNIFIED = str.maketrans(dict.fromkeys(_APOSTROPHES, "'") | dict.fromkeys(_DOUBLE_QUOTES, '"') | {"|": " "})
"""`|` becomes a space because alphabets keep it for the word boundary."""
_JOINERS = "\u200c\u200d"
"""Zero-width joiners carry meaning in Persian and the scripts of India; every other format character goes."""


@dataclass(frozen=True)
class NormalizationConfig:
    """How transcripts are spelt before an alphabet sees them."""

    case: Literal["lower", "upper", "keep"] = "lower"
    """Case of every letter; the published English models were trained on upper case."""
    punctuation: Literal["remove", "keep"] = "remove"
    """Whether punctuation and symbols become spaces. Apostrophes inside words stay; those at a word's edge go."""
    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    """NFC composes accents; NFKC also unfolds ligatures, full-width letters and the like."""


def normalize_text(text: str, config: NormalizationConfig | None = None) -> str:
    """`text` in the spelling that `config` asks for (its defaults if None), words separated by single spaces.

    Normalising twice is the same as normalising once. Typographic apostrophes and quotation marks become ' and ".
    Letters that only look like apostrophes (U+02BC, U+02BB), combining marks and tone letters are letters and stay.
    """
    config = config or NormalizationConfig()
    # Quotes first: NFKC would turn a spacing accent that stands for an apostrophe into a space and a combining mark.
    text = unicodedata.normalize(config.unicode_form, text.translate(_UNIFIED)).translate(_UNIFIED)
    text = text.translate(_WITHOUT_CONTROLS)
    if config.punctuation == "remove":
        text = text.translate(_WITHOUT_PUNCTUATION)
        text = " ".join(word.strip("'") for word in re.sub("''+", " ", text).split())
    # After removal, since lower-casing looks at neighbours (final sigma); composed again, since it can decompose.
    if config.case != "keep":
        text = text.lower() if config.case == "lower" else text.upper()
        text = unicodedata.normalize(config.unicode_form, text)
    return " ".join(text.split())


def _without_controls(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" and character not in _JOINERS:
        return " " if character == "\u200b" else ""  # the zero-width space separates words, the rest is invisible
    return " " if category in ("Cc", "Zl", "Zp") else character


def _is_punctuation(character: str) -> bool:
    if character == "'":
        return False
    category = unicodedata.category(character)
    if category == "Sk":  # spacing modifiers: tone letters are spelling, ASCII ^ and the like are not
        return not ("\u02b0" <= character <= "\u02ff" or "\ua700" <= character <= "\ua71f")
    return category[0] in "PS"


class _EachCharacter(dict[int, str]):
    """A table for `str.translate` that works out each character once: texts of many millions pass through it."""

    def __init__(self, replacement: Callable[[str], str]) -> None:
        self.replacement = replacement

    def __missing__(self, code: int) -> str:
        self[code] = found = self.replacement(chr(code))
        return found


_WITHOUT_CONTROLS = _EachCharacter(_without_controls)
_WITHOUT_PUNCTUATION = _EachCharacter(lambda character: " " if _is_punctuation(character) else character)
