"""A start for wav2vec-U's generator: clusters of segments, deciphered by what follows what.

Which phone is a cluster? The best answer is the one under which clusters follow each other in speech as phones do in
text: pairs of symbols one to four apart ("skip-grams"), and what stands first and last (the statistics are those that
Wang, Hasegawa-Johnson and Yoo, "Unsupervised speech recognition with N-skipgram and positional unigram matching", 2023,
train a network with). Here they are counted once, for clusters and for text, so that trying an answer costs three
small products for each distance and a search of many starts takes a minute. Noise that fades away during the search
keeps it out of poor optima. The generator then learns to say what the best answer says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.models.wav2vec_u import Wav2VecU
from firstwords.nn.kmeans import assign, fit_kmeans
from firstwords.training.unpaired import Speech, Text

CLUSTERED = 400_000
"""Most segments that clusters are fitted on."""
UNLIKELY = 1e-3
"""Shared by the symbols that a cluster is not, so that the generator keeps some doubt."""


@dataclass(frozen=True)
class MatchingConfig:
    """How clusters are deciphered. All values are ours, chosen on made-up speech (docs/results/unsupervised.md)."""

    restarts: int = 0
    """Searches from different starts, the best of which is taken; 0: generators begin at random, as published."""
    clusters: int = 128
    """Of segments, by k-means."""
    distances: int = 4
    """Pairs of symbols are counted so many apart at the most."""
    positions: int = 5
    """First and last symbols of utterances that are counted."""
    stretches: tuple[float, ...] = (1.0, 1.15, 1.3, 1.5)
    """Segments that a phone has on average: not known, so that each is tried, and the best kept."""
    steps: int = 1500
    """Updates of a search."""
    rate: float = 0.05
    """Learning rate of a search."""
    noise: float = 0.3
    """Standard deviation of the noise at the beginning of a search; gone after 70 % of it."""
    fit_updates: int = 400
    """Updates in which the generator learns the answer."""
    fit_rate: float = 4e-3
    """Learning rate of these."""
    discriminator_first: int = 500
    """Updates in which only the discriminator learns, so that it does not lead a good generator astray."""


class Statistics(NamedTuple):
    """Of sequences of V symbols."""

    pairs: Tensor
    """(K, V, V): how often a is followed by b, 1 to K apart; each of the K sums to 1."""
    ends: Tensor
    """(2 P, V): shares of the symbols at the first P and the last P places."""


class Deciphered(NamedTuple):
    """What the clusters are."""

    answer: Tensor
    """(C, V) probabilities of symbols."""
    distance: float
    """Sum of absolute differences between the statistics of the answer and of text: 0 where they are the same."""
    stretch: float
    """Segments a phone, as the best search had it."""


def statistics(ids: np.ndarray, lengths: np.ndarray, symbols: int, config: MatchingConfig) -> Statistics:
    """Counts of sequences that stand one behind the other: ids (N,) below `symbols`, lengths (U,) that sum to N."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    to_end = np.repeat(lengths, lengths) - 1 - place
    pairs = np.zeros((config.distances, symbols * symbols))
    for number in range(config.distances):
        apart = number + 1
        inside = owner[:-apart] == owner[apart:]
        coded = ids[:-apart][inside].astype(np.int64) * symbols + ids[apart:][inside]
        pairs[number] = np.bincount(coded, minlength=symbols * symbols)
    ends = np.zeros((2 * config.positions, symbols))
    for number in range(config.positions):
        ends[number] = np.bincount(ids[place == number], minlength=symbols)
        ends[config.positions + number] = np.bincount(ids[to_end == number], minlength=symbols)
    shares = [counts / np.maximum(counts.sum(1, keepdims=True), 1) for counts in (pairs, ends)]
    first, second = (torch.from_numpy(one).float() for one in shares)
    return Statistics(first.view(config.distances, symbols, symbols), second)


def stretched(ids: np.ndarray, lengths: np.ndarray, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every symbol so many times on average (geometrically distributed), as one that takes several segments."""
    times = np.random.default_rng(seed).geometric(1 / factor, len(ids))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return np.repeat(ids, times), np.bincount(owner, weights=times, minlength=len(lengths)).astype(np.int64)


def joined_runs(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal symbols in a row become one, within each sequence."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    begins = np.ones(len(ids), dtype=bool)
    begins[1:] = (ids[1:] != ids[:-1]) | (owner[1:] != owner[:-1])
    return ids[begins], np.bincount(owner[begins], minlength=len(lengths))


def decipher(
    clusters: Statistics, text: Sequence[Statistics], config: MatchingConfig, seed: int, device: torch.device
) -> Deciphered:
    """The answer whose statistics are nearest to one of several texts'.

    Args:
        clusters: of C symbols.
        text: of V symbols, one for each of `config.stretches`.
        config: how to search; every text gets `restarts` searches.
        seed: of the starts and the noise.
        device: where to search.
    """
    source = torch.Generator(device).manual_seed(seed)
    count, symbols = clusters.pairs.shape[1], text[0].pairs.shape[1]
    pairs, ends = (part.to(device) for part in clusters)
    wanted = [torch.stack(parts).to(device).repeat_interleave(config.restarts, 0) for parts in zip(*text, strict=True)]
    searches = len(wanted[0])
    logits = torch.randn(searches, count, symbols, generator=source, device=device).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=config.rate, betas=(0.9, 0.98))

    def distances(answers: Tensor) -> Tensor:
        """(R,) of answers (R, C, V)."""
        total = torch.zeros(searches, device=device)
        for number, table in enumerate(pairs):
            total = total + (answers.mT @ (table @ answers) - wanted[0][:, number]).abs().sum((1, 2))
        return total + (ends @ answers - wanted[1]).abs().sum(2).mean(1)

    for step in range(config.steps):
        left = max(0.0, 1 - step / (0.7 * config.steps))
        noise = torch.randn(logits.shape, generator=source, device=device)
        loss = distances((logits + config.noise * left * noise).softmax(-1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        answers = logits.softmax(-1)
        found = distances(answers)
    best = int(found.argmin())
    return Deciphered(answers[best], float(found[best]), config.stretches[best // config.restarts])


def cluster_speech(speech: Speech, config: MatchingConfig, seed: int) -> np.ndarray:
    """The cluster of every segment of all utterances, one utterance behind the other."""
    values = np.concatenate([
        speech.values[begin : begin + length] for begin, length in zip(speech.begins, speech.lengths, strict=True)
    ])  # fmt: skip
    if config.clusters > len(values):
        raise ConfigError(f"matching: {config.clusters} clusters of {len(values)} segments; lower matching.clusters")
    features = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    chosen = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:CLUSTERED]]
    centroids = fit_kmeans(chosen, config.clusters, iterations=20, seed=seed)
    found: np.ndarray = assign(features, centroids).numpy()
    return found


def matched_start(
    model: Wav2VecU, speech: Speech, text: Text, config: MatchingConfig, seed: int, device: torch.device
) -> Deciphered:
    """Deciphers the segments of `speech` by `text`, and has the generator of a model of one member say the answer."""
    symbols = model.config.symbols
    ids = cluster_speech(speech, config, seed)
    of_clusters = statistics(*joined_runs(ids, speech.lengths), config.clusters, config)
    of_text = [
        statistics(*stretched(text.ids, text.lengths, factor, seed), symbols, config) for factor in config.stretches
    ]
    deciphered = decipher(of_clusters, of_text, config, seed, device)
    answer = (1 - UNLIKELY) * deciphered.answer.cpu() + UNLIKELY / symbols
    fit_generator(model, speech, answer[torch.from_numpy(ids)], config, seed)
    return deciphered


def fit_generator(model: Wav2VecU, speech: Speech, targets: Tensor, config: MatchingConfig, seed: int) -> None:
    """Teaches the generator of a model of one member to say `targets` (N, V), the segments' symbols, of all speech."""
    random = np.random.default_rng((seed, 3))
    begins = np.cumsum(speech.lengths) - speech.lengths
    optimizer = torch.optim.Adam(model.generator.parameters(), lr=config.fit_rate)
    model.train()
    device = next(model.parameters()).device
    stride = model.config.generator.stride
    for _ in range(config.fit_updates):
        chosen = random.choice(len(speech), min(64, len(speech)), replace=False)
        features, lengths, _ = speech.batch(chosen, device)
        logits, steps = model(features, lengths)
        wanted = torch.zeros(logits.shape[1:])
        inside = torch.zeros(logits.shape[1:3], dtype=torch.bool)
        for row, number in enumerate(chosen):
            own = targets[begins[number] : begins[number] + speech.lengths[number]][::stride]
            count = min(len(own), int(steps[row]))
            wanted[row, :count], inside[row, :count] = own[:count], True
        inside = inside.to(device)
        loss = -(wanted.to(device)[inside] * F.log_softmax(logits[0][inside], -1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.zero_grad()
