"""Phones in the International Phonetic Alphabet to the units that wav2vec-U tells apart.

Speech and text must be spelt with the same few units, each frequent. So marks that do not change which sound it is go:
stress, tone, syllabicity, and (unless asked for) length, which in most languages comes with another quality of the
vowel. An affricate is one unit (tʃ, dʒ, ts, pf), and so is a diphthong that closes (aɪ, eɪ, oʊ, ɔø); whatever else
stands together in one of espeak-ng's phones is taken apart: ɔːɹ is ɔ ɹ, əl is ə l, aɪɚ is aɪ ɚ, iə is i ə.
"""

from __future__ import annotations

import unicodedata

VOWELS = frozenset("iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒᵻᵿɚɝ")
CLOSING = frozenset("iɪuʊyʏø")
"""Vowels that a diphthong ends in."""
AFFRICATES = frozenset({"tʃ", "dʒ", "ts", "dz", "tɕ", "dʑ", "tʂ", "dʐ", "ʈʂ", "ɖʐ", "pf", "bv", "cç", "ɟʝ", "kx"})
_LENGTH = "ːˑ"
_TIES = "\u0361\u035c"
_DROPPED = frozenset("ˈˌ\u0329\u030d\u032f\u031a'ʼ\u0306")
"""Stress, syllabic, not syllabic, unreleased, ejective, extra-short."""
_SAME = str.maketrans({"g": "ɡ", "ᵊ": "ə"})


def ipa_units(phone: str, keep_length: bool = False) -> tuple[str, ...]:
    """The units of one of espeak-ng's phones, or of any stretch of IPA; none for a pause or a tone alone.

    Args:
        phone: IPA, without spaces.
        keep_length: keep the length mark ː of vowels and consonants, where it alone tells words apart.
    """
    bases: list[str] = []
    marks: list[str] = []
    tied: list[bool] = []
    tie = False
    for character in unicodedata.normalize("NFC", phone.translate(_SAME)):
        category = unicodedata.category(character)
        if character in _TIES:
            tie = True
        elif character in _DROPPED or (character in _LENGTH and not keep_length):
            continue
        elif character in _LENGTH or category in ("Mn", "Lm"):
            if bases:
                marks[-1] += character
        elif category in ("Ll", "Lo", "Lu"):
            bases.append(character)
            marks.append("")
            tied.append(tie)
            tie = False
    units: list[str] = []
    last = ""  # the bare letters of the last unit, nothing once nothing may join it
    for base, mark, joined in zip(bases, marks, tied, strict=True):
        diphthong = last in VOWELS and last not in CLOSING and base in CLOSING
        if units and last and (joined or diphthong or last + base in AFFRICATES):
            units[-1] += base + mark
            last = ""
        else:
            units.append(base + mark)
            last = base
    return tuple(unicodedata.normalize("NFC", unit) for unit in units)
