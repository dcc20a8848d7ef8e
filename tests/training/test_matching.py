"""Clusters of made-up speech are deciphered with no labels, and the generator says the answer; counts have a twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from firstwords.errors import ConfigError
from firstwords.models.wav2vec_u import SPECIALS, Wav2VecU, Wav2VecUConfig
from firstwords.training.matching import MatchingConfig, joined_runs, matched_start, statistics, stretched
from firstwords.training.unpaired import Speech, Text

SYMBOLS = 8
QUICK = MatchingConfig(restarts=4, clusters=24, stretches=(1.0, 1.3), steps=500, rate=0.1, fit_updates=150)


def sentences(count: int, seed: int) -> list[np.ndarray]:
    """Of a Markov source whose symbols prefer a few others."""
    shares = np.random.default_rng(1).dirichlet(np.full(SYMBOLS, 0.3), size=SYMBOLS)
    np.fill_diagonal(shares, 0)
    shares /= shares.sum(1, keepdims=True)
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        one = [int(random.integers(3))]
        while len(one) < random.integers(10, 20):
            one.append(int(random.choice(SYMBOLS, p=shares[one[-1]])))
        made.append(np.array(one))
    return made


def speak(said: list[np.ndarray], seed: int) -> Speech:
    """One or two noisy segments a symbol."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(2).standard_normal((SYMBOLS, 12))
    ids = [np.repeat(one, 1 + (random.random(len(one)) < 0.25)) for one in said]
    values = centres[np.concatenate(ids)] + 0.3 * random.standard_normal((sum(map(len, ids)), 12))
    return Speech(values.astype(np.float32), np.array([len(one) for one in ids]))


def test_statistics_are_those_of_counting_one_by_one():
    config = MatchingConfig(distances=3, positions=2)
    given = [np.array([0, 1, 2, 1]), np.array([3]), np.array([2, 2])]
    found = statistics(np.concatenate(given), np.array([4, 1, 2]), 4, config)
    pairs, ends = np.zeros((3, 4, 4)), np.zeros((4, 4))
    for one in given:
        for apart in (1, 2, 3):
            for a, b in zip(one, one[apart:], strict=False):
                pairs[apart - 1, a, b] += 1
        for place in range(min(2, len(one))):
            ends[place, one[place]] += 1
            ends[2 + place, one[-1 - place]] += 1
    np.testing.assert_allclose(found.pairs, pairs / pairs.sum((1, 2), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(found.ends, ends / ends.sum(1, keepdims=True), rtol=1e-6)


def test_runs_are_joined_within_sequences_and_stretched_ones_join_back():
    ids, lengths = joined_runs(np.array([1, 1, 2, 2, 2, 3, 3]), np.array([4, 3]))
    assert ids.tolist() == [1, 2, 2, 3] and lengths.tolist() == [2, 2]
    sequence, sizes = np.tile([0, 1, 2, 3], 500), np.full(100, 20)
    longer, longer_sizes = stretched(sequence, sizes, 1.5, seed=0)
    assert len(longer) == longer_sizes.sum() == pytest.approx(1.5 * len(sequence), rel=0.05)
    back, back_sizes = joined_runs(longer, longer_sizes)
    assert back.tolist() == sequence.tolist() and back_sizes.tolist() == sizes.tolist()


def test_a_generator_finds_the_symbols_of_speech_without_labels():
    said = sentences(300, seed=3)
    speech = speak(said, seed=4)
    names = [str(number) for number in range(SYMBOLS)]
    text = Text([[names[symbol] for symbol in one] for one in sentences(1500, seed=5)], names)
    torch.manual_seed(0)
    model = Wav2VecU(Wav2VecUConfig(12, len(SPECIALS) + SYMBOLS))
    found = matched_start(model, speech, text, QUICK, seed=0, device=torch.device("cpu"))
    assert found.stretch == 1.3  # segments a symbol: 1.25
    with torch.no_grad():
        features, lengths, _ = speech.batch(np.arange(50), torch.device("cpu"))
        logits, _ = model.eval()(features, lengths)
    right = total = 0
    for row, (one, length) in enumerate(zip(said[:50], lengths.tolist(), strict=True)):
        heard = logits[0, row, :length].argmax(-1).numpy() - len(SPECIALS)
        heard = heard[np.flatnonzero(np.diff(heard, prepend=-1))]
        total += len(one)
        right += len(one) == len(heard) and int((one == heard).sum())
    assert right > 0.8 * total  # by chance an eighth


def test_more_clusters_than_segments_are_told():
    speech = speak(sentences(2, seed=3), seed=4)
    text = Text([["0", "1"]], ["0", "1"])
    with pytest.raises(ConfigError, match=r"lower matching\.clusters"):
        matched_start(
            Wav2VecU(Wav2VecUConfig(12, 6)),
            speech,
            text,
            MatchingConfig(restarts=1, clusters=500),
            0,
            torch.device("cpu"),
        )
