"""One spelling for what different writers mean by the same words."""

from __future__ import annotations

import random
import sys
import unicodedata

import pytest

from firstwords.text.normalization import NormalizationConfig, normalize_text

KEEP = NormalizationConfig(case="keep", punctuation="keep")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t STOP -- “now”!", "don't stop now"),
        ("'Tis the dogs' bone, rock ''n'' roll", "tis the dogs bone rock n roll"),
        ("well-known\tU.S.\u00a0law\r\n", "well known u s law"),
        ("5 % of £3 ^ a_b", "5 of 3 a b"),
        ("cafe\u0301", "café"),
        ("soft\u00adhyphen zero\u200bwidth\ufeff", "softhyphen zero width"),
        ("ΟΔΟΣ, ΣΑΣ", "οδος σας"),
        ("हिन्दी में!", "हिन्दी में"),
        ("Hawaiʻi dooʼ ma˥", "hawaiʻi dooʼ ma˥"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a|b", "a b"),
        ("", ""),
    ],
)
def test_plain_words(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


def test_punctuation_and_case_can_stay() -> None:
    assert normalize_text("  «It’s»,  he said…  a|b", KEEP) == '"It\'s", he said… a b'
    assert normalize_text("straße", NormalizationConfig(case="upper")) == "STRASSE"


def test_compatibility_form_unfolds_and_still_knows_apostrophes() -> None:
    config = NormalizationConfig(unicode_form="NFKC")
    assert normalize_text("ｆｕｌｌ ﬁsh don´t", config) == "full fish don't"
    assert normalize_text("ﬁsh") == "ﬁsh"


@pytest.mark.parametrize("case", ["lower", "upper", "keep"])
@pytest.mark.parametrize("punctuation", ["remove", "keep"])
@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_twice_is_once(case: str, punctuation: str, form: str) -> None:
    config = NormalizationConfig(case, punctuation, form)  # type: ignore[arg-type]
    generator = random.Random(7)
    characters = [
        chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    texts = characters[:4000] + ["".join(generator.choices(characters[:9000], k=12)) for _ in range(2000)]
    for text in texts:
        once = normalize_text(text, config)
        assert normalize_text(once, config) == once
        assert once == " ".join(once.split()) and "|" not in once
