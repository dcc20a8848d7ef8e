"""Forced alignment against a plain search written state by state, and what long texts need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstwords.decoding import alignment
from firstwords.decoding.alignment import WILDCARD, AlignmentConfig, align_labels
from firstwords.errors import AlignmentError

LABELS = 5


def emissions(frames: int, seed: int, labels: int = LABELS) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, labels))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def plain(log_probabilities: np.ndarray, labels: list[int], config: AlignmentConfig) -> float:
    """The best path's score, state by state, over paths written out as CTC defines them."""
    best_labels = log_probabilities.max(1)
    states: list[int | str] = [0]
    for label in labels:
        states += ["wild" if label == WILDCARD else label, 0]
    if config.extra_speech:
        states = ["extra", *states, "extra"]
    costs = {"wild": config.wildcard_penalty, "extra": config.extra_penalty}
    scores = [0.0 if place < (3 if config.extra_speech else 2) else -math.inf for place in range(len(states))]
    for frame, row in enumerate(log_probabilities):
        following = []
        for place, label in enumerate(states):
            best = scores[place]
            if frame:
                if place >= 1:
                    best = max(best, scores[place - 1])
                edge = config.extra_speech and place in (2, len(states) - 1)
                if place >= 2 and (edge or (label != 0 and label != states[place - 2])):
                    best = max(best, scores[place - 2])
            following.append(best + (best_labels[frame] - costs[label] if isinstance(label, str) else row[label]))
        scores = following
    return max(scores[-(3 if config.extra_speech else 2) :])


def random_text(seed: int, length: int, wildcards: bool) -> list[int]:
    random = np.random.default_rng(seed)
    choices = [*range(1, LABELS), *([WILDCARD] if wildcards else [])]
    return [int(label) for label in random.choice(choices, length)]


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_best_score(seed: int, extra: bool) -> None:
    """The path found is as good as the best there is, wildcards and extra speech included."""
    config = AlignmentConfig(extra_speech=extra, wildcard_penalty=0.3 * (seed % 3), extra_penalty=0.2)
    text = random_text(seed, 1 + seed, wildcards=seed % 2 == 0)
    given = emissions(3 * len(text) + 5 * seed + 2, seed)
    found = align_labels(given, text, config)
    assert found.score == pytest.approx(plain(given, text, config), abs=1e-9)
    assert (found.ends > found.starts).all() and (found.starts[1:] >= found.ends[:-1]).all()


@pytest.mark.parametrize("seed", range(4))
def test_spans_spell_the_text(seed: int) -> None:
    """Collapsing the path gives the text back, and its frames give the score."""
    text = random_text(seed, 40, wildcards=False)
    given = emissions(150, seed)
    found = align_labels(given, text)
    path = found.frames(text, len(given))
    collapsed = [int(one) for n, one in enumerate(path) if one and (n == 0 or path[n - 1] != one)]
    assert collapsed == text
    assert found.score == pytest.approx(given[np.arange(len(path)), path].sum())
    assert found.scores[3] == pytest.approx(given[found.starts[3] : found.ends[3], text[3]].mean())


def peaked(text: list[int], frames: int, seed: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Emissions that say `text` at known frames, with some noise."""
    random = np.random.default_rng(seed)
    places = np.sort(random.choice(np.arange(1, frames // 2), len(text), replace=False)) * 2
    given = np.full((frames, labels), -6.0) + 0.5 * random.standard_normal((frames, labels))
    given[:, 0] = -0.05
    given[places, 0] = -4
    given[places, text] = -0.05
    return given.astype(np.float32), places


def test_a_band_finds_the_same_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = [int(label) for label in np.random.default_rng(0).integers(1, 8, 900)]
    given, places = peaked(text, 4000, 1, 8)
    whole = align_labels(given, text, AlignmentConfig(beam=None))
    assert np.array_equal(whole.starts, places)
    monkeypatch.setattr(alignment, "EXACT_CELLS", 0)
    narrow = align_labels(given, text, AlignmentConfig(beam=60.0))
    assert np.array_equal(narrow.starts, whole.starts) and narrow.score == pytest.approx(whole.score, rel=1e-6)
    # A band that loses the way to the end is widened until it finds one.
    lost = align_labels(given[:2600], text, AlignmentConfig(beam=0.01))
    assert len(lost.starts) == len(text)


def test_extra_speech_is_left_alone() -> None:
    """A text that is a part of what was said lies on that part."""
    text = [int(label) for label in np.random.default_rng(3).integers(1, 12, 300)]
    given, places = peaked(text, 1200, 4, 12)
    found = align_labels(given, text[100:180], AlignmentConfig())
    assert np.array_equal(found.starts, places[100:180])


def test_a_wildcard_takes_what_lies_between_its_neighbours() -> None:
    text = [int(label) for label in np.random.default_rng(5).integers(1, 12, 60)]
    given, places = peaked(text, 300, 6, 12)
    hidden = [*text[:20], WILDCARD, *text[30:]]
    found = align_labels(given, hidden, AlignmentConfig(extra_speech=False))
    assert np.array_equal(np.delete(found.starts, 20), np.delete(places, np.s_[20:30]))
    assert found.starts[20] <= places[20] and found.ends[20] > places[29]
    assert np.isnan(found.scores[20])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AlignmentError, match="3 labels need 5 frames, there are 4"):
        align_labels(emissions(4, 0), [2, 2, 2])
    with pytest.raises(AlignmentError, match="no text"):
        align_labels(emissions(4, 0), [])
    assert align_labels(emissions(5, 0), [2, 2, 2]).starts.tolist() == [0, 2, 4]


def test_impossible_labels_do_not_stop_it() -> None:
    given = emissions(20, 0)
    given[:, 3] = -np.inf
    found = align_labels(given, [1, 3, 2])
    assert len(found.starts) == 3 and found.scores[1] <= -1000
