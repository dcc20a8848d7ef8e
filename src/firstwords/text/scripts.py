"""Which script a text is written in, and which one a language uses."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter

_LANGUAGES = {
    "CYRILLIC": "ru uk bg be mk sr kk ky tt ba cv mn uz-cyrl kaa nog",
    "GREEK": "el grc",
    "ARABIC": "ar fa fa-latn ur ug sd ps",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne sa kok bpy",
    "BENGALI": "bn as bpy",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "MYANMAR": "my shn",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy hyw",
    "ETHIOPIC": "am ti",
    "HANGUL": "ko",
    "CJK": "cmn yue zh hak ja",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CHEROKEE": "chr",
}
"""Scripts and espeak-ng's languages that use them; all others use Latin. Those that use two may have either."""
_OWN_TOO = frozenset({"sr", "uz", "ug", "tt", "kk", "az", "ku", "fa-latn", "cmn-latn-pinyin"})
"""Languages of the table that are also written in Latin."""


@functools.lru_cache(maxsize=65536)
def script_of(character: str) -> str | None:
    """LATIN, CYRILLIC, CJK, ... of a letter; None for whatever belongs to no script."""
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "").split()
    if not name or name[0] in ("MODIFIER", "MASCULINE", "FEMININE", "MICRO"):
        return None
    return {"FULLWIDTH": "LATIN", "HALFWIDTH": "KATAKANA"}.get(name[0], name[0])


def scripts_of_language(language: str) -> frozenset[str]:
    """The scripts that texts in one of espeak-ng's languages may be in."""
    code = language.lower()
    names = {code, code.split("-")[0]}
    found = {script for script, languages in _LANGUAGES.items() if names & set(languages.split())}
    if not found or names & _OWN_TOO:
        found.add("LATIN")
    return frozenset(found)


def scripts_of_text(text: str) -> Counter[str]:
    """How many letters of each script a text has."""
    return Counter(script for character in text if (script := script_of(character)))
