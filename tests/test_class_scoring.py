"""Accuracy, macro-F1 and confusions by hand."""

from __future__ import annotations

import json

import pytest

from firstwords.class_scoring import Classified, classification_score
from firstwords.errors import CorpusError

PAIRS = ["aa", "aa", "ab", "bb", "ba", "cc", "cb"]


def found(pairs: list[str], speakers: bool = False) -> list[Classified]:
    return [Classified(str(i), p[0], p[1], f"s{i // 2}" if speakers else None) for i, p in enumerate(pairs)]


def test_by_hand() -> None:
    score = classification_score(found(PAIRS), ["a", "b", "c"])
    assert score.accuracy == pytest.approx(4 / 7) and score.majority == pytest.approx(3 / 7)
    assert score.confusions.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 1]]
    f1 = [2 * 2 / (3 + 3), 2 * 1 / (2 + 3), 2 * 1 / (2 + 1)]
    assert [one.f1 for one in score.classes] == pytest.approx(f1)
    assert score.macro_f1 == pytest.approx(sum(f1) / 3)
    assert score.classes[1].precision == pytest.approx(1 / 3) and score.classes[1].recall == pytest.approx(1 / 2)
    assert score.commonest(2) == [("a", "b", 1), ("b", "a", 1)]
    json.dumps(score.to_dict())


def test_classes_that_do_not_occur_do_not_count() -> None:
    assert classification_score(found(["aa", "bb"]), ["a", "b", "z"]).macro_f1 == 1


def test_a_class_that_the_classifier_lacks_is_named_and_wrong() -> None:
    score = classification_score(found(["aa", "xa"]), ["a", "b"])
    assert score.unknown == ["x"] and score.accuracy == 0.5 and score.labels == ["a", "b", "x"]


def test_intervals_hold_the_figure_and_resample_speakers() -> None:
    score = classification_score(found(PAIRS * 6, speakers=True), ["a", "b", "c"], resamples=300)
    for value, interval in ((score.accuracy, score.accuracy_interval), (score.macro_f1, score.macro_f1_interval)):
        assert interval is not None and interval.unit == "speakers" and interval.low <= value <= interval.high
    alone = classification_score(found(PAIRS * 6, speakers=True), ["a", "b", "c"], resamples=300, by_speaker=False)
    assert alone.accuracy_interval is not None and alone.accuracy_interval.unit == "utterances"


def test_one_utterance_has_no_interval_and_none_no_score() -> None:
    assert classification_score(found(["ab"]), ["a", "b"]).accuracy_interval is None
    with pytest.raises(CorpusError, match="nothing to score"):
        classification_score([], ["a"])


def test_many_classes_of_few_utterances_do_not_push_the_interval_aside() -> None:
    """Percentiles of resampled macro-F1 alone would lie below the figure itself."""
    names = [f"c{i}" for i in range(60)]
    found = [
        Classified(f"{name} {k}", name, name if k else names[(i + 1) % 60])
        for i, name in enumerate(names)
        for k in (0, 1, 2)
    ]
    score = classification_score(found, names, resamples=300)
    assert score.macro_f1_interval is not None
    assert score.macro_f1_interval.low < score.macro_f1 < score.macro_f1_interval.high
    middle = (score.macro_f1_interval.low + score.macro_f1_interval.high) / 2
    assert abs(middle - score.macro_f1) < 0.02
