"""What the features are worth, asked with labels: to find out why nothing converges, never to choose by.

The linear probe is the floor: no generator of one convolution, however trained, tells phones apart that a supervised
linear layer cannot (wav2vec-U section 4.1 chooses its layer so). Purity says how much a cluster is one phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from firstwords.corpus.feature_store import Features
from firstwords.corpus.parallel import track
from firstwords.corpus.prepared import Prepared
from firstwords.decoding.greedy import greedy
from firstwords.errors import CorpusError
from firstwords.losses.ctc import ctc_loss, frames_needed
from firstwords.training.hmm import HMMConfig, align_phones, train_hmm
from firstwords.unsupervised.readings import error_rate


@dataclass(frozen=True)
class ProbeConfig:
    """How the probe is trained."""

    epochs: int = 8
    """Passes over the training split."""
    batch: int = 32
    """Utterances of an update."""
    rate: float = 3e-3
    """Adam's learning rate at first; it falls to 0 linearly."""
    kernel: int = 1
    """Steps that it sees; the generators' convolution sees 4 (1.0) or 9 (2.0)."""
    seed: int = 0


@dataclass(frozen=True)
class Purity:
    """How clusters and phones go together, over frames."""

    phone: float
    """Share of frames that are right if every cluster is read as its commonest phone. Source: HuBERT."""
    cluster: float
    """Share of frames in the commonest cluster of their phone."""
    information: float
    """Share of the phones' entropy that clusters tell."""
    clusters_per_phone: float
    """Perplexity of clusters given the phone."""


def linear_probe(
    prepared: Prepared,
    rate: Literal["pooled", "unpooled", "frames"] = "frames",
    config: ProbeConfig | None = None,
) -> float:
    """Phone error rate on the valid split of one linear layer, trained with CTC on the true phones of the train split.

    Raises:
        CorpusError: the manifest that was prepared has no phones.
    """
    known = prepared.phones[:-1]
    truth, valid_truth = _truth(prepared, "train"), _truth(prepared, "valid")
    features, valid = prepared.features("train", rate), prepared.features("valid", rate)
    try:
        return probe_error_rate(features, truth, valid, valid_truth, known, config)
    except CorpusError as error:
        raise CorpusError(f"{prepared.folder}: {error}") from error


def probe_error_rate(
    features: Features,
    truth: Mapping[str, Sequence[str]],
    valid: Features,
    valid_truth: Mapping[str, Sequence[str]],
    phones: Sequence[str],
    config: ProbeConfig | None = None,
) -> float:
    """The same of any features, whose true phones are known by their ids.

    Raises:
        CorpusError: no utterance has as many steps as phones.
    """
    config = config or ProbeConfig()
    known = {phone: number for number, phone in enumerate(phones, 1)}
    labels = [[known[p] for p in truth.get(name, ()) if p in known] for name in features.ids]
    usable = [n for n, one in enumerate(labels) if one and features.lengths[n] >= frames_needed(one)]
    if not usable:
        raise CorpusError("no utterance has as many steps as phones at this rate")
    torch.manual_seed(config.seed)
    mean, deviation = _moments(features)
    layer = nn.Conv1d(features.dim, len(known) + 1, config.kernel, padding=config.kernel // 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.rate)
    random = np.random.default_rng(config.seed)
    updates = config.epochs * -(-len(usable) // config.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    steps = iter(track(range(updates), updates, "probe"))
    for _ in range(config.epochs):
        order = random.permutation(usable)
        for first in range(0, len(order), config.batch):
            next(steps, None)
            chosen = order[first : first + config.batch].tolist()
            x, lengths = _batch(features, chosen, mean, deviation)
            logits = layer(x.transpose(1, 2)).transpose(1, 2)[:, : x.shape[1]]
            targets = [torch.tensor(labels[n]) for n in chosen]
            sizes = torch.tensor([len(one) for one in targets])
            padded = nn.utils.rnn.pad_sequence(targets, batch_first=True)
            loss = ctc_loss(logits, lengths, padded, sizes).sum() / sizes.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    said: dict[str, list[str]] = {}
    with torch.inference_mode():
        for number, name in enumerate(valid.ids):
            x, lengths = _batch(valid, [number], mean, deviation)
            logits = layer(x.transpose(1, 2)).transpose(1, 2)[:, : x.shape[1]]
            said[name] = [phones[label - 1] for label in greedy(logits, lengths)[0]]
    found = error_rate(valid_truth, said)
    assert found is not None
    return found


def _moments(features: Features) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of some of the frames, (D,) each."""
    step = max(1, len(features.values) // 50_000)
    some = torch.from_numpy(np.array(features.values[::step], dtype=np.float32))
    return some.mean(0), some.std(0) + 1e-5


def _batch(features: Features, chosen: Sequence[int], mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, D) and (B,), each dimension scaled."""
    parts = [(torch.from_numpy(np.array(features[n], dtype=np.float32)) - mean) / deviation for n in chosen]
    return nn.utils.rnn.pad_sequence(parts, batch_first=True), torch.tensor([len(one) for one in parts])


def _truth(prepared: Prepared, split: str) -> dict[str, list[str]]:
    truth = prepared.true_phones(split)
    if not truth:
        raise CorpusError(f"{prepared.folder}: the {split} split has no true phones (manifest key `phones` or `text`)")
    return truth


def frame_phones(
    prepared: Prepared, split: str, config: HMMConfig | None = None, most: int | None = None
) -> list[np.ndarray | None]:
    """The true phone of each frame (T,), for each utterance: an HMM trained on the true phones places them.

    Args:
        most: training utterances that the HMM learns from; without it all.

    Raises:
        CorpusError: the manifest that was prepared has no phones.
    """
    config = config or HMMConfig(gaussians=4, em_rounds=0)
    train = _some(prepared.features("train", "frames"), most)
    truth = _truth(prepared, "train")
    trained = train_hmm(train, [truth.get(name, []) for name in train.ids], prepared.phones, config)
    features = prepared.features(split, "frames")
    wanted = _truth(prepared, split)
    return align_phones(trained, features, [wanted.get(name, []) for name in features.ids], prepared.phones)


def _some(features: Features, most: int | None) -> Features:
    """That many utterances, evenly spread."""
    if most is None or len(features) <= most:
        return features
    chosen = np.linspace(0, len(features) - 1, most).astype(int)
    values = np.concatenate([features[n] for n in chosen])
    return Features(values, features.lengths[chosen], tuple(features.ids[n] for n in chosen))


def purity(clusters: np.ndarray, phones: np.ndarray) -> Purity:
    """Of clusters (N,) and phones (N,), whole numbers, frame by frame."""
    table = np.zeros((int(clusters.max()) + 1, int(phones.max()) + 1))
    np.add.at(table, (clusters, phones), 1)
    joint = table / table.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    both, of_clusters, of_phones = entropy(joint.reshape(-1)), entropy(joint.sum(1)), entropy(joint.sum(0))
    shared = of_clusters + of_phones - both
    return Purity(
        float(joint.max(1).sum()),
        float(joint.max(0).sum()),
        shared / of_phones if of_phones else 1.0,
        float(np.exp(both - of_phones)),
    )


def cluster_purity(prepared: Prepared, split: str = "valid", config: HMMConfig | None = None) -> Purity:
    """Of the prepared k-means clusters (version 1.0). Raises CorpusError without true phones."""
    return purity_of(prepared, split, frame_phones(prepared, split, config))


def purity_of(prepared: Prepared, split: str, placed: Sequence[np.ndarray | None]) -> Purity:
    """The same with phones that `frame_phones` has placed. Raises CorpusError where it could place none."""
    features = prepared.features(split, "frames")
    clusters = prepared.clusters(split)
    pairs = [(clusters[features.offsets[n] : features.offsets[n + 1]], one)
             for n, one in enumerate(placed) if one is not None]  # fmt: skip
    if not pairs:
        raise CorpusError(f"{prepared.folder}: no utterance of {split} has phones that fit its frames")
    return purity(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
