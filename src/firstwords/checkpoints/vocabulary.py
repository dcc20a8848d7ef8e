"""Other people's label sets as our alphabets: the blank first, the word boundary under its one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from firstwords.text.alphabet import BLANK, BOUNDARY, SPECIALS, UNUSED, Alphabet, Units
from firstwords.text.normalization import NormalizationConfig

NEVER = -1e4
"""Bias of a label that shall never win: its probability is 0 in float32."""

LETTERS = ("<s>", "<pad>", "</s>", "<unk>", *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""Labels of the English models that fairseq's authors released (their dict.ltr.txt), by id."""


def imported_alphabet(
    symbols: Sequence[str | None], blank: int, boundary: str | None, units: Units, final_boundary: bool
) -> tuple[Alphabet, list[int | None]]:
    """An alphabet for the outputs of a foreign recogniser.

    Args:
        symbols: name of each output; None where nobody named it.
        blank: which output is CTC's blank.
        boundary: the symbol between words; None or unknown adds an output that never wins, since alphabets have one.
        units: what a symbol is.
        final_boundary: did the boundary also end the transcripts that the model learnt from?

    Returns:
        The alphabet, and for each of its symbols the output that it was (None: it is new).
    """
    order: list[int | None] = [blank, *(number for number in range(len(symbols)) if number != blank)]
    names: list[str] = [BLANK]
    for number in order[1:]:
        assert number is not None
        name = symbols[number]
        if name == boundary and boundary is not None:
            name = BOUNDARY
        elif name == BOUNDARY:
            name = None
        if not name or name in names or name.startswith("madeupword"):
            name = f"{UNUSED} {number}>"
        names.append(name)
    if BOUNDARY not in names:
        names.append(BOUNDARY)
        order.append(None)
    return Alphabet(tuple(names), units, _spelling(names), final_boundary), order


def reordered(rows: Tensor, order: Sequence[int | None], new: float) -> Tensor:
    """Rows of an output layer in another order; `new` fills those of new labels."""
    fresh = torch.full_like(rows[0], new)
    return torch.stack([fresh if number is None else rows[number] for number in order])


def _spelling(names: Sequence[str]) -> NormalizationConfig:
    """The spelling that these labels allow."""
    spelt = "".join(name for name in names if name not in SPECIALS and not name.startswith(UNUSED) and name != BOUNDARY)
    upper, lower = (any(test(c) for c in spelt) for test in (str.isupper, str.islower))
    marks = any(unicodedata.category(character)[0] in "PS" for character in spelt if character != "'")
    return NormalizationConfig(
        case="keep" if upper and lower else "upper" if upper else "lower",
        punctuation="keep" if marks else "remove",
    )
