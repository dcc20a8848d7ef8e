"""Voices made alike: phones of different speakers meet, known ones and others, and one utterance is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.corpus.feature_store import Features
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError
from firstwords.nn.mfcc import CEPSTRA
from firstwords.unsupervised.voices import Voices, fit_voices, speakers_of

PHONES, SPEAKERS, UTTERANCES, FRAMES = 12, 8, 5, 200


def corpus(seed: int, speakers: int = SPEAKERS, utterances: int = UTTERANCES) -> tuple[Features, np.ndarray, list[str]]:
    """Cepstra of made-up speakers, the phone of each frame, and who speaks: phones' centres, moved by each speaker."""
    centres = np.random.default_rng(0).normal(size=(PHONES, CEPSTRA))
    random = np.random.default_rng(seed)
    rows, phones, who = [], [], []
    for speaker in range(speakers):
        matrix = np.eye(CEPSTRA) + 0.25 * random.normal(size=(CEPSTRA, CEPSTRA))
        offset = 2 * random.normal(size=CEPSTRA)
        for _ in range(utterances):
            said = np.repeat(random.integers(PHONES, size=FRAMES // 10), 10)
            frames = centres[said] + 0.4 * random.normal(size=(len(said), CEPSTRA))
            rows.append((frames @ matrix.T + offset).astype(np.float32))
            phones.append(said)
            who.append(str(speaker))
    names = tuple(f"u{n}" for n in range(len(rows)))
    return Features(np.concatenate(rows), np.array([len(row) for row in rows]), names), np.concatenate(phones), who


def told_apart(values: np.ndarray, phones: np.ndarray, who: np.ndarray) -> float:
    """Share of frames whose nearest centre, of phones of all speakers, is that of their phone, in 13 dimensions."""
    values = values[:, :CEPSTRA]
    centres = np.stack([values[phones == phone].mean(0) for phone in range(PHONES)])
    return float((((values[:, None] - centres) ** 2).sum(2).argmin(1) == phones).mean())


def adapted(voices: Voices, features: Features, who: list[str] | None) -> np.ndarray:
    speakers = {} if who is None else dict(zip(features.ids, who, strict=True))
    found = list(voices.adapted(features, speakers))
    assert [name for name, _ in found] == list(features.ids)
    return np.concatenate([values for _, values in found])


@pytest.fixture(scope="module")
def voices() -> Voices:
    features, _, who = corpus(1)
    return fit_voices(features, dict(zip(features.ids, who, strict=True)))


@pytest.mark.parametrize("seed", [1, 2])
def test_phones_of_all_speakers_meet(voices: Voices, seed: int) -> None:
    """Of those it was fitted on, and of others; better than a mean and deviation for each can do."""
    features, phones, who = corpus(seed)
    each = np.repeat(np.array(who), features.lengths)
    normal = features.values.copy()
    for speaker in set(who):
        rows = each == speaker
        normal[rows] = (normal[rows] - normal[rows].mean(0)) / normal[rows].std(0)
    before = told_apart(normal, phones, each)
    after = told_apart(adapted(voices, features, who), phones, each)
    assert after > 0.93 and 1 - after < 0.6 * (1 - before), (before, after)


def test_without_speakers_each_utterance_is_somebody(voices: Voices) -> None:
    features, phones, who = corpus(3)
    each = np.repeat(np.array(who), features.lengths)
    assert told_apart(adapted(voices, features, None), phones, each) > 0.85
    assert told_apart(features.values, phones, each) < 0.65


def test_what_comes_out_has_the_weights_of_cepstra(voices: Voices) -> None:
    features, _, who = corpus(1)
    values = adapted(voices, features, who)
    np.testing.assert_allclose(values.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(values.std(0), np.repeat([1.0, 0.3, 0.1], CEPSTRA), rtol=0.1)


def test_of_many_speakers_some_are_enough(voices: Voices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of eight, evenly spread, and fewer frames of each."""
    monkeypatch.setattr("firstwords.unsupervised.voices.MOST_SPEAKERS", 5)
    monkeypatch.setattr("firstwords.unsupervised.voices.ALL_FRAMES", 3000)
    features, phones, who = corpus(1)
    each = np.repeat(np.array(who), features.lengths)
    some = fit_voices(features, dict(zip(features.ids, who, strict=True)))
    assert told_apart(adapted(some, features, who), phones, each) > 0.9


def test_kept_on_disk(voices: Voices, tmp_path: Path) -> None:
    voices.save(tmp_path / "voices.safetensors")
    again = Voices.load(tmp_path / "voices.safetensors")
    features, _, who = corpus(2, 2)
    np.testing.assert_array_equal(adapted(again, features, who), adapted(voices, features, who))
    with pytest.raises(CheckpointError, match="no such file"):
        Voices.load(tmp_path / "none.safetensors")


def test_speakers_come_from_the_manifest() -> None:
    named = Utterance("a", Path("a.wav"), speaker="Ann")
    assert speakers_of([named, Utterance("b", Path("b.wav"))]) == {"a": "speaker Ann"}


def test_too_few_frames_are_told() -> None:
    features, _, who = corpus(1, 1, 1)
    few = Features(features.values[:12], np.array([12]), ("u0",))
    with pytest.raises(ConfigError):
        fit_voices(few, {"u0": who[0]})
