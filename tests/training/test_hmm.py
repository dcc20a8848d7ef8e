"""Phone HMMs: alignments equal to going through all paths, and wrong labels that become fewer."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.corpus.feature_store import Features
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.unspaced import UnspacedDecoder
from firstwords.errors import CorpusError
from firstwords.models.phone_hmm import BLOCK, PhoneHMM, chains_of, posteriors, viterbi
from firstwords.scoring import ErrorCounts, word_errors
from firstwords.training.hmm import HMMConfig, TrainedHMM, align_phones, log_posteriors, train_hmm

PHONES = (*"abcdefgh", "<SIL>")


def random_hmm(seed: int, dim: int = 2) -> PhoneHMM:
    draw = torch.Generator().manual_seed(seed)
    size = (len(PHONES) + 2, 2, dim)
    leave = torch.rand(size[0], generator=draw) * 0.6 + 0.2
    return PhoneHMM(
        PHONES, torch.randn(size, generator=draw), torch.rand(size, generator=draw) + 0.3,
        torch.randn(size[:2], generator=draw).log_softmax(1), (1 - leave).log(), leave.log(),
    )  # fmt: skip


def emissions_of(hmm: PhoneHMM, lengths: list[int], labels: list[list[int]]):
    draw = torch.Generator().manual_seed(5)
    chains = chains_of(labels, len(PHONES))
    scores = [hmm.state_scores(torch.randn(length, 2, generator=draw)) for length in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
    return padded.gather(2, chains.states[:, None].expand(-1, padded.shape[1], -1)), chains


def paths(frames: int, phones: int):
    """All ways through a chain, with how often a phone's end is followed by a choice."""
    last = BLOCK * phones + 2

    def moves(place: int):
        yield place
        if place < last:
            yield place + 1
        if place % BLOCK == 3 and place + BLOCK < last:
            yield place + BLOCK

    for first in (0, 3):
        found = [[first]]
        for _ in range(frames - 1):
            found = [[*path, after] for path in found for after in moves(path[-1])]
        yield from (path for path in found if path[-1] in (last, last - 3))


def log_probability(path: list[int], emissions: torch.Tensor, states: torch.Tensor, hmm: PhoneHMM) -> float:
    total = float(emissions[0, path[0]]) + np.log(0.5)
    for frame, (before, after) in enumerate(itertools.pairwise(path), 1):
        state = int(states[before])
        total += float(hmm.log_stay[state] if before == after else hmm.log_leave[state])
        if before % BLOCK == 3 and after != before:
            total += np.log(0.5)
        total += float(emissions[frame, after])
    return total


def test_viterbi_and_posteriors_equal_going_through_all_paths_alone_and_in_a_batch() -> None:
    hmm, labels, lengths = random_hmm(1), [[0, 3], [5]], [6, 4]
    emissions, chains = emissions_of(hmm, lengths, labels)
    path, total = viterbi(emissions, torch.tensor(lengths), chains, hmm)
    weights, summed = posteriors(emissions, torch.tensor(lengths), chains, hmm)
    for row, (length, phones) in enumerate(zip(lengths, labels, strict=True)):
        everything = list(paths(length, len(phones)))
        scores = np.array([log_probability(one, emissions[row], chains.states[row], hmm) for one in everything])
        assert path[row, :length].tolist() == everything[scores.argmax()]
        assert (path[row, length:] == -1).all() and (weights[row, length:] == 0).all()
        assert float(total[row]) == pytest.approx(scores.max(), abs=1e-4)
        assert float(summed[row]) == pytest.approx(np.logaddexp.reduce(scores), abs=1e-4)
        expected = np.zeros(weights.shape[1:])
        for one, share in zip(everything, np.exp(scores - np.logaddexp.reduce(scores)), strict=True):
            expected[np.arange(length), one] += share
        np.testing.assert_allclose(weights[row].numpy(), expected, atol=1e-4)


def made_up(utterances: int, seed: int, wrong: float):
    """Frames around the mean of their phone, phones that follow each other unevenly, and labels some of them wrong."""
    random = np.random.default_rng(seed)
    means = np.random.default_rng(9).normal(size=(len(PHONES), 6)) * 1.6
    follow = np.random.default_rng(8).dirichlet(np.full(8, 0.4), size=8)
    truth, noisy, values, frames = [], [], [], []
    for _ in range(utterances):
        said = [int(random.integers(8))]
        while len(said) < 14:
            said.append(int(random.choice(8, p=follow[said[-1]])))
        said = [phone for phone, before in zip(said, [-1, *said], strict=False) if phone != before]
        every = [8] * 3 + [phone for phone in said for _ in range(random.integers(3, 7))] + [8] * 3
        values.append(means[every] + random.normal(size=(len(every), 6)))
        truth.append([PHONES[phone] for phone in said])
        frames.append(np.array(every))
        labels = []
        for phone in said:
            chance = random.random()
            if chance < wrong / 3:
                labels.append(int(random.integers(8)))
            elif chance > wrong * 2 / 3:
                labels.append(phone)
            if random.random() < wrong / 3:
                labels.append(int(random.integers(8)))
        noisy.append([PHONES[phone] for phone in labels])
    lengths = np.array([len(one) for one in values])
    names = tuple(f"u{n}" for n in range(utterances))
    return Features(np.concatenate(values).astype(np.float32), lengths, names), truth, noisy, frames


def rate(truth: list[list[str]], said: list[list[str]]) -> float:
    total = sum((word_errors(" ".join(a), " ".join(b)) for a, b in zip(truth, said, strict=True)), ErrorCounts())
    return total.rate


SMALL = HMMConfig(dim=6, gaussians=2, viterbi_rounds=3, em_rounds=1, lda=5, context=1)


def test_an_hmm_makes_fewer_errors_than_the_labels_that_it_learnt_from(tmp_path: Path) -> None:
    features, truth, noisy, frames = made_up(90, 0, wrong=0.25)
    trained = train_hmm(features, noisy, PHONES, SMALL)
    _, unpaired, _, _ = made_up(300, 1, wrong=0.0)
    estimate((" ".join(["<SIL>", *one, "<SIL>"]) for one in unpaired), 3)[0].save(tmp_path / "phones.arpa")
    decoder = UnspacedDecoder(PHONES, tmp_path / "phones.arpa", settings=SearchSettings(lm_weight=1.0, word_score=0.0))
    said = [
        list(decoder(log_posteriors(trained, one, 0.3)).phones) for one, _ in zip(features, range(40), strict=False)
    ]
    labels, found = rate(truth[:40], noisy[:40]), rate(truth[:40], said)
    assert 0.15 < labels < 0.35
    assert found < 0.6 * labels
    trained.save(tmp_path)
    again = TrainedHMM.load(tmp_path)
    torch.testing.assert_close(again.phone_scores(features[0]), trained.phone_scores(features[0]))
    placed = align_phones(trained, features, truth, PHONES)
    right = np.mean([np.mean(one == real) for one, real in zip(placed, frames, strict=True) if one is not None])
    assert right > 0.85


def test_utterances_with_more_labels_than_frames_are_left_out() -> None:
    features, truth, _, _ = made_up(6, 1, wrong=0.0)
    truth[0] = truth[0] * 40
    train_hmm(features, truth, PHONES, HMMConfig(dim=6, gaussians=1, viterbi_rounds=1, em_rounds=0, lda=0))
    with pytest.raises(CorpusError, match="as many frames"):
        train_hmm(features, [[] for _ in truth], PHONES, SMALL)


def test_a_mean_that_says_what_was_said_can_be_kept(tmp_path: Path) -> None:
    """Utterances of one phone each: with their own mean taken away nothing is left to tell them apart."""
    random = np.random.default_rng(3)
    said = [int(random.integers(8)) for _ in range(60)]
    means = np.random.default_rng(9).normal(size=(8, 6)) * 1.6
    rows = [means[phone] + 0.3 * random.normal(size=(12, 6)) for phone in said]
    ids = tuple(f"u{n}" for n in range(len(rows)))
    features = Features(np.concatenate(rows).astype(np.float32), np.full(len(rows), 12), ids)
    config = HMMConfig(dim=6, gaussians=1, viterbi_rounds=2, em_rounds=0, lda=0)
    right = {}
    for normalize in (True, False):
        trained = train_hmm(features, [[PHONES[phone]] for phone in said], PHONES, config, normalize)
        trained.save(tmp_path / str(normalize))
        again = TrainedHMM.load(tmp_path / str(normalize))
        guesses = [int(again.phone_scores(one)[:, :8].sum(0).argmax()) for one in features]
        right[normalize] = np.mean(np.array(guesses) == said)
    assert right[False] > 0.95 and right[True] < 0.5
