"""Languages are heard in the proportions that are asked for, every epoch anew, no crop twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.corpus.batches import Position, UpdatePlan
from firstwords.corpus.languages import LanguageSampler, language_notes, languages_of, sampling_shares
from firstwords.corpus.utterance import Utterance
from firstwords.errors import ConfigError, CorpusError
from firstwords.training.data import choose_splits

SECOND = 16_000
HOURS = {"de": 0.2, "en": 1.0, "sw": 0.01}


def corpus(hours: dict[str | None, float] | dict[str, float]) -> list[Utterance]:
    random = np.random.default_rng(0)
    made = []
    for name, amount in hours.items():
        left = 3600 * amount
        while left > 0:
            seconds = float(random.uniform(1, 12))
            made.append(Utterance(f"{name}-{len(made)}", Path("a.wav"), duration=seconds, language=name))
            left -= seconds
    return made


def sampler(alpha: float, crop: float = 30.0) -> tuple[LanguageSampler, np.ndarray]:
    utterances = corpus(HOURS)
    lengths = np.array([round(min(u.duration or 0, crop) * SECOND) for u in utterances])
    return LanguageSampler(utterances, lengths, alpha), lengths


def test_shares_are_the_papers() -> None:
    """p_l proportional to (n_l / N)^alpha."""
    hours = np.array([1.0, 4.0, 16.0])
    assert sampling_shares(hours, 1.0) == pytest.approx(hours / 21)
    assert sampling_shares(hours, 0.5) == pytest.approx(np.array([1, 2, 4]) / 7)
    assert sampling_shares(hours, 0.0) == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("crop", [30.0, 5.0])
def test_audio_of_each_language(alpha: float, crop: float) -> None:
    """An epoch has as much audio as the corpus, and of each language its share by hours, but for an utterance."""
    made, lengths = sampler(alpha, crop)
    hours = made.hours
    for epoch in range(3):
        drawn = made.draw(np.random.default_rng(epoch))
        assert len(np.unique(drawn)) == len(drawn)
        heard = np.bincount(made.language[drawn % len(lengths)], lengths[drawn % len(lengths)])
        asked = (hours / hours.sum()) ** alpha
        assert heard / heard.sum() == pytest.approx(asked / asked.sum(), abs=2 * lengths.max() / lengths.sum())
        assert heard.sum() == pytest.approx(lengths.sum(), rel=0.01)


def test_no_utterance_is_favoured() -> None:
    """Repeated or left out, each utterance of a language comes equally often over many epochs, but once at most."""
    made, lengths = sampler(0.5)
    times = np.zeros(len(lengths))
    for epoch in range(200):
        drawn = made.draw(np.random.default_rng([7, epoch]))
        own = np.bincount(drawn % len(lengths), minlength=len(lengths))
        for language in range(3):
            assert np.ptp(own[made.language == language]) <= 1
        times += own
    for language in range(3):
        each = times[made.language == language] / 200
        assert each.std() < 0.06 * max(each.mean(), 1)
    assert times[made.language == 1].mean() / 200 < 1 < times[made.language == 2].mean() / 200


def test_the_plan_holds_what_was_drawn() -> None:
    """Every copy is in one bucket; the order follows from seed and epoch, so that a run goes on anywhere."""
    made, lengths = sampler(0.5, 10.0)
    plan = UpdatePlan(np.minimum(lengths, 10 * SECOND), 60 * SECOND, 20 * SECOND, True, 3, sampler=made)
    members = [member for update in plan.epoch(1) for bucket in update for member in bucket.members.tolist()]
    assert sorted(members) == np.sort(made.draw(np.random.default_rng([3, 1]))).tolist()
    utterances, copies = plan.which(np.array(members))
    assert copies.max() > 3 and (utterances < len(lengths)).all()
    pairs = set(zip(utterances.tolist(), copies.tolist(), strict=True))
    assert len(pairs) == len(members)
    unbroken = plan.updates_from(Position())
    after = [next(unbroken) for _ in range(40)]
    again = plan.updates_from(after[24][1])
    for expected, _ in after[25:]:
        found, _ = next(again)
        assert [b.members.tolist() for b in found] == [b.members.tolist() for b in expected]


def test_each_language_is_held_out() -> None:
    utterances = corpus(HOURS)
    training, validation = choose_splits(utterances, ("train",), ("dev",), 0.05, by_language=True)
    assert languages_of(training) == languages_of(validation) == ("de", "en", "sw")
    assert {u.id for u in training} | {u.id for u in validation} == {u.id for u in utterances}
    assert not {u.id for u in training} & {u.id for u in validation}


def test_what_cannot_be_balanced() -> None:
    one = corpus({"en": 0.01})
    lengths = np.full(len(one), SECOND)
    with pytest.raises(CorpusError, match="are all of language 'en'"):
        LanguageSampler(one, lengths, 0.5)
    with pytest.raises(CorpusError, match="have no language"):
        LanguageSampler(corpus({None: 0.01}), lengths, 0.5)
    for alpha in (-0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="language_alpha"):
            LanguageSampler(corpus(HOURS), lengths, alpha)
    only = [Utterance("x", Path("x.wav"), duration=2.0, language="fi", split="test")]
    with pytest.raises(CorpusError, match="language 'fi': no utterance in split train"):
        choose_splits(one + only, ("train",), ("dev",), 0.05, by_language=True)


def test_utterances_without_a_language_are_told() -> None:
    mixed = corpus({"en": 0.01, None: 0.01})
    (note,) = language_notes(mixed)
    assert "have no language, the first None-" in note and "'none'" in note
    assert languages_of(mixed) == ("en", "none")
    assert language_notes(corpus({"en": 0.01})) == language_notes(corpus({None: 0.01})) == []
