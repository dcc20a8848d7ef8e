"""Judging without labels: costs are the language model's, and the paper's two stages choose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstwords.errors import LanguageModelError
from firstwords.training.convergence import agreement, conclude
from firstwords.training.phone_choice import Judgement, PhoneJudge, choose

PHONES = ["a", "b", "c", "d", "e", "<SIL>"]


def sentences(count: int, seed: int = 0) -> list[list[str]]:
    """Phones that go round: a b c d e a b ..., now and then one back, with silences."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        place, one = int(random.integers(5)), ["<SIL>"]
        for draw in random.random(int(random.integers(5, 15))):
            one.append(PHONES[place])
            place = (place + (1 if draw < 0.9 else -1)) % 5
            if draw > 0.8:
                one.append("<SIL>")
        found.append([*one, "<SIL>"])
    return found


@pytest.fixture(scope="module")
def judge() -> PhoneJudge:
    return PhoneJudge(sentences(400), PHONES, "<SIL>")


def test_perplexity_is_the_language_models(judge: PhoneJudge) -> None:
    said = [*sentences(30, seed=1), []]
    spoken = [[phone for phone in one if phone != "<SIL>"] for one in said]
    found = judge.judge(said, 7)
    expected = judge.model.perplexity(spoken)
    assert found.perplexity == pytest.approx(expected.including_unknown)
    assert (found.phones, found.utterances) == (expected.words, expected.sentences)
    assert found.used == pytest.approx(5 / 6)  # silence counts among the phones and is never seen
    assert found.weighted == pytest.approx(found.perplexity / (5 / 6) ** 2)


def test_fluency_is_1_for_text_and_0_for_shuffled_phones(judge: PhoneJudge) -> None:
    text = sentences(200, seed=2)
    random = np.random.default_rng(0)
    shuffled = [[one[n] for n in random.permutation(len(one))] for one in text]
    assert judge.judge(text, 0).fluency == pytest.approx(1, abs=0.1)
    assert judge.judge(text, 0).balance > 0.95
    assert judge.judge(shuffled, 0).fluency == pytest.approx(0, abs=0.1)


def test_a_few_fluent_phones_are_out_of_balance(judge: PhoneJudge) -> None:
    """They may follow each other as in the text: what gives them away is that the others are missing."""
    found = judge.judge([["a", "b", "a", "b", "a", "b"]] * 20, 0)
    assert found.fluency > 0.2 and found.balance == pytest.approx(0.4, abs=0.05)
    assert conclude(found, []).converged is False


def test_nothing_said(judge: PhoneJudge) -> None:
    found = judge.judge([[], ["<SIL>"]], 0)
    assert found.weighted == found.perplexity == math.inf and found.fluency == 0
    assert choose([found]) == -1
    assert choose([]) == -1


def judgement(perplexity: float, used: float, phones: int = 1000) -> Judgement:
    return Judgement(0, -math.log10(perplexity) * (phones + 10), phones, 10, used, 0.5)


def test_few_phones_do_not_win() -> None:
    assert choose([judgement(3.0, 0.2), judgement(9.0, 0.9)]) == 1


def test_among_alike_ones_the_most_probable_whole_wins() -> None:
    """The second costs a tenth more for each phone and says less, so that all it says is more probable."""
    assert choose([judgement(10.0, 0.9, phones=1000), judgement(11.0, 0.9, phones=800)]) == 1
    assert choose([judgement(10.0, 0.9, phones=1000), judgement(13.0, 0.9, phones=800)]) == 0  # beyond log 1.2


def test_too_little_text() -> None:
    with pytest.raises(LanguageModelError, match="3 sentences are too few"):
        PhoneJudge(sentences(3), PHONES, "<SIL>")


def test_agreement_leaves_silence_out() -> None:
    assert agreement([["a", "<SIL>", "b"], ["c"]], [["a", "b"], ["d"]], "<SIL>") == pytest.approx(2 / 3)


def test_the_verdict_says_it_in_words() -> None:
    good = Judgement(0, -100.0, 100, 10, 0.95, 0.85)
    assert conclude(good, [0.8, 0.2]).converged is True
    assert "1 of the next 2 members" in conclude(good, [0.8, 0.2]).text
    bad = Judgement(0, -100.0, 100, 10, 0.95, 0.05)
    assert conclude(bad, []).converged is False
    assert "same language" in conclude(bad, []).text
    partly = Judgement(0, -100.0, 100, 10, 0.95, 0.2)
    assert conclude(partly, [0.7, 0.1]).converged is None and conclude(partly, [0.1]).converged is None
    alone = conclude(partly, [0.3, 0.2])  # the others say something else: each is wrong in its own way
    assert alone.converged is False and "0 of the next 2 members" in alone.text
    fair = Judgement(0, -100.0, 100, 10, 0.95, 0.38)
    assert conclude(fair, [0.6, 0.2]).converged is True and conclude(fair, [0.3, 0.2]).converged is False
    assert conclude(good, [0.3, 0.2]).converged is None
