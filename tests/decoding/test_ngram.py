"""Queries: equal to back-off by definition, whatever is left away of a state."""

from __future__ import annotations

import numpy as np
import pytest

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.errors import LanguageModelError


def sentences(count: int, seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    words = [f"w{number}" for number in range(25)]
    shares = 1 / np.arange(1, 26)
    return [random.choice(words, random.integers(1, 10), p=shares / shares.sum()).tolist() for _ in range(count)]


@pytest.fixture(scope="module", params=[(4, ()), (3, (0, 0, 1)), (2, ()), (1, ())], ids=str)
def model(request: pytest.FixtureRequest) -> NgramModel:
    order, prune = request.param
    return estimate(map(" ".join, sentences(300, 1)), order, prune)[0]


def by_definition(model: NgramModel, context: list[str], word: str) -> float:
    """log10 p(word | context) from a dictionary of n-grams."""
    table: dict[tuple[str, ...], tuple[float, float]] = {}
    names: list[tuple[str, ...]] = [()]
    for part in model.orders:
        names = [(*names[c], model.words[w]) for c, w in zip(part.context.tolist(), part.word.tolist(), strict=True)]
        table |= zip(names, zip(part.log10.tolist(), part.backoff.tolist(), strict=True), strict=True)
    known = [one if (one,) in table else "<unk>" for one in [*context, word]]
    history, last = known[:-1][-(model.order - 1) :] if model.order > 1 else [], known[-1]
    total = 0.0
    while (*history, last) not in table:
        total += table.get(tuple(history), (0.0, 0.0))[1]
        history = history[1:]
    return total + table[(*history, last)][0]


def test_scores_are_back_off_by_definition(model: NgramModel) -> None:
    unknown = [["never", "w0", "heard"], ["w1", "never", "w1", "w0"]]
    for sentence in [*sentences(12, 2), *unknown]:
        state, context = model.start, ["<s>"]
        for word in [*sentence, "</s>"]:
            score, state = model.score(state, model.id(word))
            assert score == pytest.approx(by_definition(model, context, word), abs=1e-6)
            context.append(word)


def test_states_hold_what_matters_and_no_more(model: NgramModel) -> None:
    """At most order - 1 words, none after which nothing is known: a beam merges whatever goes on alike."""
    for sentence in sentences(50, 3):
        state = model.start
        for word in sentence:
            _, state = model.score(state, model.id(word))
            assert len(state) <= model.order - 1
    _, state = model.score(model.start, model.unknown)
    assert state == ()


def test_forgotten_places_are_found_again(model: NgramModel, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = sentences(30, 4)
    expected = [model.score_sentence(sentence) for sentence in spoken]
    monkeypatch.setattr("firstwords.decoding.ngram._MOST_REMEMBERED", 2)
    assert [model.score_sentence(sentence) for sentence in spoken] == expected


def test_perplexity_with_and_without_unknown_words(model: NgramModel) -> None:
    spoken = [["w0", "never", "w1"], ["w2"]]
    found = model.perplexity(spoken)
    assert (found.sentences, found.words, found.unknown) == (2, 4, 1)
    assert found.unknown_rate == 0.25
    assert found.log10 == pytest.approx(sum(map(model.score_sentence, spoken)))
    unknown = model.score(model.score(model.start, model.id("w0"))[1], model.unknown)[0]
    assert found.log10_known == pytest.approx(found.log10 - unknown)
    assert found.including_unknown == pytest.approx(10 ** (-found.log10 / 6))
    assert found.excluding_unknown == pytest.approx(10 ** (-found.log10_known / 5))
    assert found.characters == len("w0 never w1.") + len("w2.")
    with pytest.raises(LanguageModelError, match="no sentence"):
        model.perplexity([])
