"""Reading phones and words without boundaries: exact on small cases, and what wav2vec-U's decoding graphs allow."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.unspaced import UnspacedDecoder
from firstwords.errors import LanguageModelError, TextError

PHONES = ("a", "s", "k", "<SIL>")
WIDE = SearchSettings(lm_weight=1.3, word_score=0.4, beam=5000, beam_threshold=1e9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models over phones and over words, and a lexicon with homophones and a word that begins another."""
    place = tmp_path_factory.mktemp("models")
    texts = ["<SIL> k a s <SIL> s a <SIL>", "<SIL> a s k <SIL>", "<SIL> s a k a s s a <SIL>"] * 3
    estimate(texts, 3)[0].save(place / "phones.arpa")
    estimate(["kas sa", "ask sa kas", "sah kas", "sa"] * 3, 2)[0].save(place / "words.arpa")
    (place / "lexicon.txt").write_text("kas k a s\nsa s a\nsah s a\nask a s k\nka k a\n")
    return place


def emissions(frames: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(frames, len(PHONES))) * 1.5
    return values - np.log(np.exp(values).sum(1, keepdims=True))


def segmentations(frames: int, most: int) -> list[tuple[int, ...]]:
    """All ways to cut `frames` steps into up to `most` stretches, as their ends."""
    return [(*cuts, frames) for count in range(most) for cuts in itertools.combinations(range(1, frames), count)]


@pytest.mark.parametrize("seed", range(4))
def test_phones_are_read_as_by_going_through_all_sequences(folder: Path, seed: int) -> None:
    heard = emissions(5, seed)
    decoder = UnspacedDecoder(PHONES, folder / "phones.arpa", settings=WIDE)
    best = (-np.inf, ())
    for ends in segmentations(5, 5):
        for labels in itertools.product(range(len(PHONES)), repeat=len(ends)):
            acoustic = sum(
                heard[low:high, label].sum() for low, high, label in zip((0, *ends), ends, labels, strict=False)
            )
            said = [PHONES[label] for label in labels]
            score = acoustic + 1.3 * decoder.model.score_sentence(said) + 0.4 * len(said)
            best = max(best, (score, tuple(phone for phone in said if phone != "<SIL>")))
    assert decoder(heard).phones == best[1]


@pytest.mark.parametrize("seed", range(4))
def test_words_are_read_as_by_going_through_all_sequences(folder: Path, seed: int) -> None:
    heard = emissions(6, seed)
    decoder = UnspacedDecoder(PHONES, folder / "words.arpa", folder / "lexicon.txt", WIDE)
    spelling = dict(line.split(" ", 1) for line in (folder / "lexicon.txt").read_text().splitlines())
    best = (-np.inf, ())
    for count in (1, 2, 3):
        for words in itertools.product(spelling, repeat=count):
            labels = [PHONES.index(phone) for word in words for phone in spelling[word].split()]
            if len(labels) <= 6:
                score = _best_path(heard, labels) + 1.3 * decoder.model.score_sentence(words) + 0.4 * count
                best = max(best, (score, words))
    assert decoder(heard).words == best[1]


def _best_path(heard: np.ndarray, labels: list[int]) -> float:
    """Phones in their order, each a step or more, pauses of any length anywhere."""
    states = [3, *itertools.chain.from_iterable((label, 3) for label in labels)]
    scores = np.full(len(states), -np.inf)
    scores[:2] = heard[0, states[:2]]
    for row in heard[1:]:
        new = scores.copy()
        for place in range(len(states)):
            if place:
                new[place] = max(new[place], scores[place - 1])
            if place > 1 and place % 2:  # from phone to phone without a pause
                new[place] = max(new[place], scores[place - 2])
        scores = new + row[states]
    return float(scores[-2:].max())


def test_a_phone_may_follow_itself_without_a_pause_where_the_words_say_so(folder: Path) -> None:
    heard = np.full((5, 4), -8.0)
    heard[range(5), [2, 0, 1, 1, 0]] = -0.01  # k a s s a
    decoder = UnspacedDecoder(PHONES, folder / "words.arpa", folder / "lexicon.txt", WIDE)
    reading = decoder(heard)
    assert reading.words is not None and reading.words[0] == "kas" and reading.words[1] in ("sa", "sah")
    assert reading.phones == ("k", "a", "s", "s", "a")


def test_scores_of_all_words_are_the_scores_of_each(folder: Path) -> None:
    model = UnspacedDecoder(PHONES, folder / "phones.arpa").model
    state = model.start
    for phone in ("<SIL>", "k", "a", "s", "s", "a", "<SIL>", "k", "k"):
        each = [model.score(state, number)[0] for number in range(len(model.words))]
        np.testing.assert_allclose(model.scores(state), each, rtol=0, atol=1e-6)
        state = model.score(state, model.id(phone))[1]


def test_models_and_lexicons_of_other_phones_are_refused(folder: Path) -> None:
    with pytest.raises(LanguageModelError, match="other phones"):
        UnspacedDecoder(("x", "y", "<SIL>"), folder / "phones.arpa")
    with pytest.raises(TextError, match="cannot be spelt"):
        UnspacedDecoder(("x", "y", "<SIL>"), folder / "words.arpa", folder / "lexicon.txt")
