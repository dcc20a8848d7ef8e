"""Equal error rates against counting, and trials that are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.errors import CorpusError
from firstwords.verification import Trial, make_trials, read_trials, verification_score


def trials(same: int, different: int) -> list[Trial]:
    return [Trial(True, f"a{i}", f"b{i}") for i in range(same)] + [
        Trial(False, f"c{i}", f"d{i}") for i in range(different)
    ]


def test_apart_is_zero_and_the_wrong_way_round_is_one() -> None:
    pairs = trials(3, 4)
    scores = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.4])
    found = verification_score(pairs, scores)
    assert found.equal_error_rate == 0 and found.detection_cost == 0 and 0.4 <= found.threshold < 0.7
    assert verification_score(pairs, -scores).equal_error_rate == 1


def test_one_error_on_either_side() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.15, 0.3, 0.75])
    found = verification_score(trials(4, 4), scores, resamples=0)
    assert found.equal_error_rate == pytest.approx(0.25) and found.interval is None


def test_equal_scores_say_nothing() -> None:
    """A constant is no classifier, however its pairs are ordered."""
    assert verification_score(trials(5, 5), np.zeros(10), resamples=0).equal_error_rate == pytest.approx(0.5)


def test_against_every_threshold() -> None:
    random = np.random.default_rng(0)
    pairs = trials(60, 300)
    scores = np.concatenate([random.normal(1, 1, 60), random.normal(0, 1, 300)])
    same = np.array([trial.same for trial in pairs])
    best, cost = 1.0, 1.0
    for threshold in [*scores, scores.min() - 1]:
        misses, alarms = (scores[same] <= threshold).mean(), (scores[~same] > threshold).mean()
        best = min(best, max(misses, alarms))
        cost = min(cost, (0.01 * misses + 0.99 * alarms) / 0.01)
    found = verification_score(pairs, scores, resamples=100)
    assert found.equal_error_rate <= best <= found.equal_error_rate + 1 / 60
    assert found.detection_cost == pytest.approx(cost)
    assert found.interval is not None and found.interval.low < found.equal_error_rate < found.interval.high


def test_speakers_are_resampled_where_there_are_enough() -> None:
    speakers = {f"u{i}": f"s{i // 4}" for i in range(48)}
    pairs = make_trials(speakers)
    random = np.random.default_rng(1)
    scores = np.array([float(trial.same) for trial in pairs]) + random.normal(0, 0.5, len(pairs))
    found = verification_score(pairs, scores, speakers, resamples=50)
    assert found.interval is not None and found.interval.unit == "speakers"
    assert found.interval.low < found.equal_error_rate < found.interval.high


def test_pairs_of_one_kind_have_no_equal_error_rate() -> None:
    with pytest.raises(CorpusError, match="all 3 trials are pairs by one speaker"):
        verification_score(trials(3, 0), np.zeros(3))


@pytest.mark.parametrize("most", [5, 20, 10_000])
def test_trials_are_what_they_say(most: int) -> None:
    speakers = {f"u{i}": f"s{i % 7}" for i in range(35)}
    found = make_trials(speakers, seed=3, most=most)
    assert found == make_trials(speakers, seed=3, most=most)
    assert all((speakers[t.first] == speakers[t.second]) == t.same and t.first != t.second for t in found)
    pairs = {frozenset((t.first, t.second)) for t in found}
    same = sum(t.same for t in found)
    assert len(pairs) == len(found) and same == min(most, 7 * 10) == len(found) - same


def test_of_one_speaker_there_are_no_different_pairs() -> None:
    assert {trial.same for trial in make_trials({"a": "s", "b": "s"})} == {True}
    assert make_trials({}) == []


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n\n0 a c\n")
    assert read_trials(path) == [Trial(True, "a", "b"), Trial(False, "a", "c")]
    path.write_text("1 a b\nsame a c\n")
    with pytest.raises(CorpusError, match="line 2: expected 1 or 0 and two ids"):
        read_trials(path)
    path.write_text("")
    with pytest.raises(CorpusError, match="no trials"):
        read_trials(path)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_trials(tmp_path / "none.txt")
