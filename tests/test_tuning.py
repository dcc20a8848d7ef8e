"""Tuning finds weights that repair what the emissions confuse, and keeps to its ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
from beams import letters, spoken, words_arpa

from firstwords.decoding.options import DecoderConfig
from firstwords.decoding.settings import SearchSettings
from firstwords.errors import ConfigError
from firstwords.listening import Heard
from firstwords.tuning import TuneConfig, at_edges, tune


def heard() -> list[Heard]:
    alphabet = letters()
    texts = ["a bad cab", "dad a cab", "add a bad dad", "dab a cab", "abba"]
    return [Heard(str(n), text, spoken(text, alphabet, n, loudness=2.2)) for n, text in enumerate(texts)]


@pytest.mark.parametrize("processes", [0, 1])
def test_the_best_is_no_worse_than_the_first_and_in_range(tmp_path: Path, processes: int) -> None:
    config = DecoderConfig(lm=words_arpa(tmp_path), lm_weight=5.0, word_score=-5.0, processes=processes)
    search = TuneConfig(trials=12, lm_weights=(0.0, 3.0), word_scores=(-2.0, 2.0), beams=(5, 20))
    found = tune(heard(), letters(), config, search)
    assert len(found.trials) == 14
    assert found.trials[0].settings.lm_weight == 5.0
    assert found.best.errors.errors < found.trials[0].errors.errors
    for trial in found.trials[1:12]:
        assert 0 <= trial.settings.lm_weight <= 3 and -2 <= trial.settings.word_score <= 2
    assert {trial.settings.beam for trial in found.trials} == {50, 5, 20}
    again = tune(heard(), letters(), config, search)
    assert [trial.settings for trial in again.trials] == [trial.settings for trial in found.trials]


def test_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--lm"):
        tune(heard(), letters(), DecoderConfig(), TuneConfig())
    with pytest.raises(ConfigError, match="lower end"):
        tune(heard(), letters(), DecoderConfig(lm=words_arpa(tmp_path)), TuneConfig(lm_weights=(2.0, 1.0)))


@pytest.mark.parametrize(
    ("weight", "score", "found", "advice"),
    [
        (2.0, 4.98, "best word score, 4.98,", "edge of --word-scores -5 5; try again with --word-scores -5 10"),
        (2.0, -4.9, "best word score, -4.9,", "edge of --word-scores -5 5; try again with --word-scores -10 5"),
        (4.9, 1.0, "weight of the language model, 4.9,", "edge of --lm-weights 0 5; try again with --lm-weights 0 7.5"),
    ],
)
def test_the_edge_of_a_range_is_told(weight: float, score: float, found: str, advice: str) -> None:
    (told,) = at_edges(SearchSettings(lm_weight=weight, word_score=score), TuneConfig())
    assert found in told and advice in told


def test_what_lies_inside_is_not_told() -> None:
    """Nor a model that is worth nothing: there is no edge to go beyond."""
    assert not at_edges(SearchSettings(lm_weight=2.0, word_score=0.0), TuneConfig())
    assert not at_edges(SearchSettings(lm_weight=0.01, word_score=4.4), TuneConfig())


def test_ranges_that_are_points_have_no_edge() -> None:
    fixed = TuneConfig(lm_weights=(1.0, 3.0), word_scores=(2.0, 2.0))
    (advice,) = at_edges(SearchSettings(lm_weight=1.0, word_score=2.0), fixed)
    assert advice.endswith("--lm-weights 0 3")
