"""Tuning finds weights that repair what the emissions confuse, and keeps to its ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
from beams import letters, spoken, words_arpa

from firstwords.decoding.options import DecoderConfig
from firstwords.errors import ConfigError
from firstwords.listening import Heard
from firstwords.tuning import TuneConfig, tune


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
