"""A pre-training run that is ill is told so early, in a sentence with the mend."""

from __future__ import annotations

import pytest

from firstwords.training.health import Health

CHANCE = 6.66


def watch(health: Health, *intervals: tuple[int, float, float, float]) -> list[str]:
    """Sentences said over (update, bits, accuracy, perplexity)."""
    return [
        said
        for update, bits, accuracy, codes in intervals
        if (said := health.look(update, bits, CHANCE, accuracy, codes))
    ]


@pytest.mark.parametrize(("bits", "accuracy", "codes"), [(0.01, 0.999, 2.0), (0.4, 0.93, 2.3), (0.0, 0.0, 2.0)])
def test_collapse_within_tens_of_updates(bits: float, accuracy: float, codes: float) -> None:
    health = Health(patience=20_000, codebooks=2)
    assert watch(health, (25, 6.6, 0.01, 80.0)) == []
    said = watch(health, (50, bits, accuracy, codes))
    assert health.verdict == "collapsed"
    assert len(said) == 1 and "COLLAPSED after 50 updates" in said[0] and "Mend:" in said[0]


def test_collapse_of_continuous_targets() -> None:
    health = Health(patience=20_000, codebooks=0)
    watch(health, (50, 0.01, 1.0, float("inf")))
    assert health.verdict == "collapsed"


def test_stuck_at_chance() -> None:
    """Marked within tens of updates, called stuck once the recipe's patience is over; said once each."""
    health = Health(patience=100, codebooks=2)
    said = watch(health, *[(update, CHANCE * 0.999, 0.01, 90.0) for update in range(10, 200, 10)])
    assert ["STUCK" in text for text in said] == [False, True]
    assert "after 40 updates" in said[0] and "after 100 updates" in said[1] and "Mend:" in said[1]


def test_recovers() -> None:
    health = Health(patience=100, codebooks=2)
    said = watch(health, (50, 6.65, 0.01, 90.0), (100, 6.65, 0.01, 90.0), (150, 6.1, 0.05, 90.0), (200, 5.0, 0.1, 90.0))
    assert health.verdict == "healthy" and said[-1].startswith("healthy again")


def test_a_collapsed_run_that_wavers_is_not_well() -> None:
    health = Health(patience=1000, codebooks=2)
    watch(health, (100, 0.43, 0.91, 2.9), (110, 1.39, 0.78, 4.0))
    assert health.verdict == "collapsed"
    watch(health, (200, 5.0, 0.2, 60.0))
    assert health.verdict == "healthy"


def test_a_good_run_hears_nothing() -> None:
    health = Health(patience=1000, codebooks=2)
    curve = [
        (update, max(1.2, 6.66 - update / 100), min(0.85, update / 500), 40.0 + update / 10)
        for update in range(25, 1000, 25)
    ]
    assert watch(health, *curve) == []


def test_falling_back_is_told_from_never_having_left() -> None:
    health = Health(1000, 2, 128)
    assert health.look(60, 5.9, 6.66, 0.2, 60) is None
    sentences = [health.look(60 + 25 * number, 6.65, 6.66, 0.01, 60) for number in range(1, 5)]
    said = [sentence for sentence in sentences if sentence]
    assert len(said) == 1 and "FELL BACK" in said[0] and "5.90" in said[0]
    assert health.verdict == "at chance"


def test_a_few_codes_that_make_it_easy_are_a_collapse() -> None:
    health = Health(1000, 1, 32)
    assert "COLLAPSED" in str(health.look(100, 3.0, 6.66, 0.58, 1.4))
    many = Health(1000, 2, 640)
    assert "COLLAPSED" in str(many.look(500, 1.5, 6.66, 0.8, 20.0))
    healthy = Health(1000, 2, 640)
    assert healthy.look(500, 2.5, 6.66, 0.65, 350.0) is None and healthy.verdict == "healthy"


def test_recordings_without_distractors_do_not_make_a_run_look_well() -> None:
    """Half of the frames lie in silence and cost nothing: the other half decides, and the reason is told once."""
    health = Health(1000, 2, 64)
    said = [health.look(update, 3.33, CHANCE, 0.51, 60.0, unopposed=0.5) for update in range(50, 200, 50)]
    assert health.verdict == "at chance"
    assert "50% of the frames have no distractor left" in str(said[0]) and "6.66 of 6.66 bits" in str(said[0])
    assert not any("no distractor" in str(sentence) for sentence in said[1:])
    well = Health(1000, 2, 64)
    well.look(50, 2.5, CHANCE, 0.7, 60.0, unopposed=0.5)
    assert well.verdict == "healthy"


def test_no_distractor_anywhere_is_a_collapse() -> None:
    health = Health(1000, 2, 64)
    assert "COLLAPSED" in str(health.look(50, 0.0, CHANCE, 1.0, 2.0, unopposed=1.0))
