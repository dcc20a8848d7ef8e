"""Estimation: equal to the formula computed word by word, a distribution after every context, and bad texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from firstwords.decoding.kneser_ney import FALLBACK, estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.ngram_counts import count_ngrams
from firstwords.errors import LanguageModelError

Gram = tuple[str, ...]


def text(sentences: int = 400, words: int = 30, seed: int = 1) -> list[str]:
    """Words drawn by Zipf's law, some of them always in the same company."""
    random = np.random.default_rng(seed)
    names = [f"w{number}" for number in range(words)]
    shares = 1 / np.arange(1, words + 1)
    lines = []
    for _ in range(sentences):
        line = random.choice(names, random.integers(1, 9), p=shares / shares.sum()).tolist()
        lines.append(" ".join([*line, "of", "course"] if random.random() < 0.2 else line))
    return lines


def plain(sentences: list[str], order: int, prune: list[int]) -> dict[Gram, float]:
    """Modified Kneser-Ney as the papers write it, with dictionaries: probabilities of all kept n-grams."""
    raw: Counter[Gram] = Counter()
    for sentence in sentences:
        tokens = ["<s>", *sentence.split(), "</s>"]
        for n in range(1, order + 1):
            for first in range(len(tokens) - n + 1):
                raw[tuple(tokens[first : first + n])] += 1
    before: defaultdict[Gram, set[str]] = defaultdict(set)
    for gram in raw:
        before[gram[1:]].add(gram[0])
    adjusted = {g: c if len(g) == order or g[0] == "<s>" else len(before[g]) for g, c in raw.items() if g != ("<s>",)}
    words = {g[0] for g in raw if len(g) == 1} | {"<unk>"}
    probability: dict[Gram, float] = {}
    for n in range(1, order + 1):
        grams = [g for g in adjusted if len(g) == n]
        counts = Counter(min(adjusted[g], 5) for g in grams)
        discounts = FALLBACK
        if all(counts[k] for k in (1, 2, 3)):
            y = counts[1] / (counts[1] + 2 * counts[2])
            own = [k - (k + 1) * y * counts[k + 1] / counts[k] for k in (1, 2, 3)]
            discounts = tuple(own) if all(0 <= d <= k for k, d in enumerate(own, 1)) else FALLBACK  # type: ignore[assignment]
        after: defaultdict[Gram, list[Gram]] = defaultdict(list)
        for g in grams:
            after[g[:-1]].append(g)
        for followers in after.values():
            total = sum(adjusted[g] for g in followers)
            kept = [g for g in followers if n == 1 or raw[g] > prune[n - 1]]
            taken = {g: discounts[min(adjusted[g], 3) - 1] for g in kept}
            gamma = (sum(taken.values()) + sum(adjusted[g] for g in set(followers) - set(kept))) / total
            for g in kept:
                lower = probability[g[1:]] if n > 1 else 1 / (len(words) - 1)
                probability[g] = (adjusted[g] - taken[g]) / total + gamma * lower
            if n == 1:
                probability[("<unk>",)] = gamma / (len(words) - 1)
    return probability


def probabilities(model: NgramModel) -> dict[Gram, float]:
    found: dict[Gram, float] = {}
    names: list[Gram] = [()]
    for part in model.orders:
        names = [(*names[c], model.words[w]) for c, w in zip(part.context.tolist(), part.word.tolist(), strict=True)]
        found |= zip(names, (10.0 ** part.log10.astype(float)).tolist(), strict=True)
    del found[("<s>",)]
    return found


@pytest.mark.parametrize(
    ("order", "prune"), [(1, [0]), (2, [0, 0]), (3, [0, 0, 0]), (4, [0, 0, 1, 1]), (3, [0, 1, 2]), (5, [0, 0, 0, 0, 0])]
)
def test_equals_the_formula(order: int, prune: list[int]) -> None:
    model, _ = estimate(text(), order, prune)
    expected = plain(text(), order, prune)
    found = probabilities(model)
    assert found.keys() == expected.keys()
    assert all(found[gram] == pytest.approx(expected[gram], rel=1e-5) for gram in expected)


@pytest.mark.parametrize("prune", [[], [0, 0, 1], [0, 2]])
def test_a_distribution_after_every_context(prune: list[int]) -> None:
    """Of all words but <s>: after contexts seen, pruned and never seen."""
    model, _ = estimate(text(words=12), 3, prune)
    possible = [number for word, number in model.vocabulary.items() if word != "<s>"]
    for first, second in product(["<s>", "w0", "w3", "w11", "<unk>"], ["w0", "w5", "course", "<unk>"]):
        state = model.start if first == "<s>" else model.score((), model.id(first))[1]
        state = model.score(state, model.id(second))[1]
        assert sum(10 ** model.score(state, word)[0] for word in possible) == pytest.approx(1, abs=1e-5)


def test_many_blocks_are_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count_ngrams(text(), 3)
    monkeypatch.setattr("firstwords.decoding.ngram_counts._BLOCK", 7)
    parts = count_ngrams(text(), 3)
    assert whole[0] == parts[0]
    for one, other in zip(whole[1], parts[1], strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def test_blank_lines_are_no_sentences() -> None:
    one, other = estimate(["a b", "", "  \t ", "b a"], 2)[0], estimate(["a b", "b a"], 2)[0]
    assert probabilities(one) == probabilities(other)


def test_one_sentence_has_a_model() -> None:
    """With the fallback's discounts, and of the order that the sentence allows."""
    model, summaries = estimate(["hello"], 5)
    assert model.order == 3 and all(one.fallback and one.discounts == FALLBACK for one in summaries)
    assert model.score_sentence(["hello"]) > model.score_sentence(["goodbye"])


def test_pruned_away_orders_are_left_out() -> None:
    model, summaries = estimate(["a b c", "c b a"], 3, [0, 0, 5])
    assert model.order == 2 and summaries[2].kept == 0 and summaries[2].found > 0


def test_words_may_hold_any_letters() -> None:
    """Only ASCII white space separates words, as in ARPA files; a no-break space is part of one."""
    model, _ = estimate(["größe\u00a0zwei ἀλήθεια", "größe 漢字"], 2)
    assert {"größe\u00a0zwei", "ἀλήθεια", "漢字"} <= set(model.words)


@pytest.mark.parametrize(
    ("sentences", "order", "prune", "says"),
    [
        ([], 3, (), "empty"),
        (["", " "], 3, (), "empty"),
        (["a b"], 0, (), "at least 1, found 0"),
        (["a b"], 2, (1,), "unigrams are never pruned"),
        (["a b"], 3, (0, 2, 1), "must not fall"),
        (["a b"], 2, (0, -1), "must not fall"),
        (["a b"], 2, (0, 0, 1), "3 pruning thresholds for a model of order 2"),
        (["a b", "b </s> c"], 2, (), "sentence 2 holds </s>"),
        (["a b", "c", "<unk>"], 2, (), "sentence 3 holds <unk>"),
        (["a\nb"], 2, (), "sentence 1 holds a line break"),
    ],
)
def test_what_no_model_can_be_made_of(sentences: list[str], order: int, prune: tuple[int, ...], says: str) -> None:
    with pytest.raises(LanguageModelError, match=says):
        estimate(sentences, order, prune)
