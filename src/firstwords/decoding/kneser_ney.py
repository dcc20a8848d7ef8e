"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998), as KenLM's lmplz computes it.

p(w | context) = (a - D(a)) / sum of a over the context + g(context) p(w | context without its oldest word)

a is an n-gram's adjusted count: its occurrences in the highest order and where it begins with <s>, else the number of
different words before it. D takes three values an order, for counts of 1, 2, and 3 or more. g is what the discounts,
and the counts of pruned n-grams, leave over. Unigrams are interpolated with the uniform distribution over all words
but <s>. Source: Heafield et al. 2013 (Scalable Modified Kneser-Ney Language Model Estimation), sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from firstwords.decoding.ngram import NgramModel, Ngrams
from firstwords.decoding.ngram_counts import SPECIAL_IDS, Counts, count_ngrams
from firstwords.errors import LanguageModelError

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where counts of counts give none. Source: lmplz --discount_fallback."""


@dataclass(frozen=True)
class OrderSummary:
    """What estimation found in one order."""

    found: int
    """Different n-grams in the text (unigrams: with <unk>, <s> and </s>)."""
    kept: int
    """Those left after pruning."""
    discounts: tuple[float, float, float]
    """For adjusted counts of 1, 2, and 3 or more."""
    fallback: bool
    """Whether the discounts are `FALLBACK`, since the text is too small or too regular to tell."""


def estimate(
    sentences: Iterable[str], order: int = 4, prune: Sequence[int] = ()
) -> tuple[NgramModel, list[OrderSummary]]:
    """A model of sentences, and a summary of each order.

    Args:
        sentences: words separated by spaces; blank ones do not count.
        order: words of the longest n-grams. Where no sentence is long enough, or nothing is left after pruning, the
            model's order is lower.
        prune: for each order, n-grams that occur so often or less are left out; the last value holds for all higher
            orders, none prunes nothing. As lmplz, unigrams are never pruned.

    Raises:
        LanguageModelError: no sentences, or settings that no model can have.
    """
    thresholds = _thresholds(prune, order)
    words, counts = count_ngrams(sentences, order)
    tables: list[Ngrams] = []
    summaries = []
    probability = np.full(1, 1 / (len(words) - 1))  # one order below: for unigrams the uniform distribution
    place = np.zeros(1, np.int64)  # one order below: where the kept n-grams stand
    for number, part in enumerate(counts, 1):
        adjusted = _adjusted(part, counts[number] if number < len(counts) else None, number)
        kept = part.occurrences > thresholds[number - 1] if number > 1 else np.ones(len(adjusted), bool)
        discounts, fallback = _discounts(adjusted)
        taken = np.array([0.0, *discounts])[np.minimum(adjusted, 3)]
        total = np.bincount(part.context, adjusted, minlength=len(probability))
        left = np.bincount(part.context, np.where(kept, taken, adjusted), minlength=len(probability))
        gamma = np.divide(left, total, out=np.ones(len(total)), where=total > 0)
        if number > 1:
            backoff = np.log10(np.maximum(gamma[place >= 0], 1e-30)).astype(np.float32)  # a discount may be 0
            tables[-1] = Ngrams(tables[-1].context, tables[-1].word, tables[-1].log10, backoff)
        probability = (adjusted - taken) / total[part.context] + gamma[part.context] * probability[part.suffix]
        log10 = np.log10(probability[kept]).astype(np.float32)
        if number == 1:
            log10[SPECIAL_IDS["<s>"]] = 0.0  # no word is ever <s>; toolkits write 0
        context = place[part.context[kept]].astype(np.int32)
        tables.append(Ngrams(context, part.word[kept], log10, np.zeros(len(log10), np.float32)))
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        summaries.append(OrderSummary(len(kept), int(kept.sum()), discounts, fallback))
    while len(tables) > 1 and not len(tables[-1]):
        tables.pop()
    return NgramModel(words, tables), summaries


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    """One for each order."""
    if order < 1:
        raise LanguageModelError(f"the order of an n-gram model must be at least 1, found {order}")
    values = list(prune) or [0]
    if len(values) > order:
        raise LanguageModelError(f"{len(values)} pruning thresholds for a model of order {order}")
    values += [values[-1]] * (order - len(values))
    if values[0] != 0:
        raise LanguageModelError(f"unigrams are never pruned: the first threshold must be 0, found {values[0]}")
    if any(value < 0 for value in values) or sorted(values) != values:
        raise LanguageModelError(
            f"pruning thresholds must not fall from one order to the next, found {' '.join(map(str, values))}"
        )
    return values


def _adjusted(part: Counts, longer: Counts | None, number: int) -> np.ndarray:
    """(m,) int64 adjusted counts: occurrences, or in lower orders how many different words stand before the n-gram."""
    if longer is None:
        adjusted = part.occurrences.copy()
    else:
        before = np.bincount(longer.suffix, minlength=len(part.word))
        adjusted = np.where(part.initial, part.occurrences, before)
    if number == 1:
        adjusted[SPECIAL_IDS["<s>"]] = 0  # never foreseen
    return adjusted


def _discounts(adjusted: np.ndarray) -> tuple[tuple[float, float, float], bool]:
    """Discounts for counts of 1, 2, and 3 or more (Chen and Goodman, equation 26), and whether they are FALLBACK."""
    counts = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(float)
    if (counts[1:4] == 0).any():
        return FALLBACK, True
    y = counts[1] / (counts[1] + 2 * counts[2])
    one, two, three = (float(k - (k + 1) * y * counts[k + 1] / counts[k]) for k in (1, 2, 3))
    if not all(0 <= discount <= k for k, discount in enumerate((one, two, three), 1)):
        return FALLBACK, True
    return (one, two, three), False
