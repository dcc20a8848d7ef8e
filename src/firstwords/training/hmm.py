"""Training phone HMMs on labels without times, however wrong some of them are: Viterbi first, then EM.

Two stages. The first begins with every label sequence laid evenly over its utterance, sees the leading principal
components, and finds out when phones are. The second sees frames with their neighbours in the directions that tell the
first stage's states apart (LDA). In both, mixtures grow by splitting. Source: the self-training recipe of wav2vec-U
(mono, then LDA+MLLT), without decision trees and speaker transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firstwords.corpus.feature_store import Features
from firstwords.corpus.parallel import track
from firstwords.errors import CheckpointError, ConfigError, CorpusError
from firstwords.models.phone_hmm import SILENCE_STATES, PhoneHMM, chains_of, posteriors, viterbi
from firstwords.nn.fitted import read_fitted, write_fitted
from firstwords.nn.lda import Scatter, spliced

AT_ONCE = 24
"""Utterances, of similar length, that are aligned together."""
FRONT = "HMM front end"


@dataclass(frozen=True)
class HMMConfig:
    """How the HMM is trained."""

    dim: int = 64
    """Principal components that it sees, the leading ones; all where there are fewer. Ours."""
    gaussians: int = 16
    """Of a state at most; the published mono stage has about as many."""
    viterbi_rounds: int = 4
    """Rounds of Viterbi training for each size of the mixtures in the first stage."""
    em_rounds: int = 2
    """Rounds of EM at the end of each stage."""
    lda: int = 40
    """Dimensions of the second stage; 0 leaves it out. Source: Kaldi's LDA."""
    context: int = 2
    """Neighbouring frames on either side that LDA sees. The published recipe has 3."""
    variance_floor: float = 0.05
    """Share of the overall variance below which no Gaussian's falls."""

    def check(self) -> None:
        """Raises ConfigError."""
        for name in ("dim", "gaussians", "viterbi_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"hmm.{name} {getattr(self, name)}: must be at least 1")
        if self.lda < 0 or self.em_rounds < 0 or self.context < 0:
            raise ConfigError("hmm: lda, em_rounds and context must not be below 0")


@dataclass(frozen=True)
class Front:
    """What the HMM sees of features: each utterance with zero mean and unit variance, or as it is; then LDA."""

    dim: int
    context: int = 0
    directions: Tensor | None = None
    """(lda, (2 context + 1) dim)."""
    normalize: bool = True
    """Not where speakers were adapted: there a mean says what was said."""

    def __call__(self, features: np.ndarray) -> Tensor:
        """(T, D) to (T, dim) or (T, lda)."""
        x = torch.from_numpy(np.array(features[:, : self.dim], dtype=np.float32))
        if self.normalize:
            x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-5)
        return x if self.directions is None else spliced(x, self.context) @ self.directions.T


@dataclass(frozen=True)
class TrainedHMM:
    """An HMM and what it sees."""

    hmm: PhoneHMM
    front: Front

    def phone_scores(self, features: np.ndarray) -> Tensor:
        """Features (T, D) to log densities of phones (T, P)."""
        return self.hmm.phone_scores(self.front(features))

    def save(self, folder: Path) -> None:
        """Writes hmm.safetensors and front.safetensors. Raises CheckpointError."""
        self.hmm.save(folder / "hmm.safetensors")
        tensors = {} if self.front.directions is None else {"directions": self.front.directions}
        about = {"dim": self.front.dim, "context": self.front.context, "normalize": self.front.normalize}
        write_fitted(folder / "front.safetensors", FRONT, tensors or {"none": torch.zeros(1)}, about)

    @staticmethod
    def load(folder: Path) -> TrainedHMM:
        """What `save` wrote. Raises CheckpointError."""
        tensors, about = read_fitted(folder / "front.safetensors", FRONT)
        try:
            front = Front(about["dim"], about["context"], tensors.get("directions"), about.get("normalize", True))
        except KeyError as error:
            raise CheckpointError(f"{folder}: an HMM's front end without its {error}") from error
        return TrainedHMM(PhoneHMM.load(folder / "hmm.safetensors"), front)


def train_hmm(
    features: Features,
    labels: Sequence[Sequence[str]],
    phones: Sequence[str],
    config: HMMConfig | None = None,
    normalize: bool = True,
) -> TrainedHMM:
    """An HMM of features and phones.

    Args:
        features: of the utterances, frame by frame.
        labels: each utterance's phones, right or wrong; silences in them are left out, and found anew.
        phones: all of them, silence last.
        normalize: give each utterance zero mean and unit variance.

    Raises:
        CorpusError: no utterance has labels that fit its frames.
        ConfigError: values out of range.
    """
    config = config or HMMConfig()
    config.check()
    known = {phone: number for number, phone in enumerate(phones[:-1])}
    numbers = [[known[phone] for phone in one if phone in known] for one in labels]
    usable = [n for n in range(len(features)) if 0 < len(numbers[n]) <= features.lengths[n]]
    if not usable:
        raise CorpusError(f"none of {len(features)} utterances has labels, and as many frames as labels at least")
    usable.sort(key=lambda n: int(features.lengths[n]))
    data = _Data(features, numbers, usable, tuple(phones))
    front = Front(min(config.dim, features.dim), normalize=normalize)
    hmm = _gathered(data, front, data.even()).updated(None, config)
    sizes = [2**k for k in range(int(math.log2(config.gaussians)) + 1)]
    first = sizes if not config.lda else [size for size in sizes if size <= 4]
    hmm = _grown(data, front, hmm, config, first, config.viterbi_rounds)
    if config.lda:
        front, hmm = _discriminant(data, front, hmm, config)
        hmm = _grown(data, front, hmm, config, sizes, max(1, config.viterbi_rounds // 2))
    return TrainedHMM(hmm, front)


class _Data:
    """The utterances that can be learnt from, shortest first."""

    def __init__(self, features: Features, labels: list[list[int]], usable: list[int], phones: tuple[str, ...]) -> None:
        self.features, self.labels, self.usable, self.phones = features, labels, usable, phones

    @property
    def states(self) -> int:
        return len(self.phones) - 1 + SILENCE_STATES

    def even(self) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Like `aligned`, every label sequence laid evenly over its utterance, the first and last frames silence."""
        for number in self.usable:
            frames, labels = int(self.features.lengths[number]), torch.tensor(self.labels[number])
            places = torch.arange(frames) * len(labels) // frames
            states = labels[places]
            edge = min(SILENCE_STATES, (frames - len(labels)) // 2)
            silence = torch.arange(self.states - SILENCE_STATES, self.states)
            if edge > 0:
                states[:edge], states[-edge:] = silence[:edge], silence[-edge:]
            yield [number], states[None], torch.ones(1, frames), torch.tensor([frames])


def _grown(data: _Data, front: Front, hmm: PhoneHMM, config: HMMConfig, sizes: Sequence[int], rounds: int) -> PhoneHMM:
    """The HMM after Viterbi training with larger and larger mixtures, then EM."""
    total = len(sizes) * rounds + config.em_rounds
    steps = iter(track(range(total), total, "HMM"))
    for size in sizes:
        if size > hmm.log_weights.shape[1]:
            hmm = split(hmm)
        for _ in range(rounds):
            next(steps)
            hmm = _gathered(data, front, aligned(data, front, hmm, False), hmm).updated(hmm, config)
    for _ in steps:
        hmm = _gathered(data, front, aligned(data, front, hmm, True), hmm).updated(hmm, config)
    return hmm


def aligned(data: _Data, front: Front, hmm: PhoneHMM, soft: bool) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Batches of utterances: their numbers, states (B, T) or (B, L), weights (B, T) or (B, T, L), frames (B,)."""
    for first in range(0, len(data.usable), AT_ONCE):
        numbers = data.usable[first : first + AT_ONCE]
        seen = [front(data.features[n]) for n in numbers]
        lengths = torch.tensor([len(one) for one in seen])
        chains = chains_of([data.labels[n] for n in numbers], len(data.phones))
        scores = hmm.state_scores(torch.cat(seen)).split(lengths.tolist())
        padded = torch.nn.utils.rnn.pad_sequence(list(scores), batch_first=True)
        emissions = padded.gather(2, chains.states[:, None].expand(-1, padded.shape[1], -1))
        if soft:
            weights, _ = posteriors(emissions, lengths, chains, hmm)
            yield numbers, chains.states, weights, lengths
        else:
            path, _ = viterbi(emissions, lengths, chains, hmm)
            states = chains.states.gather(1, path.clamp_min(0))
            yield numbers, states, (path >= 0).float(), lengths


class _Statistics:
    """What the next HMM is made of."""

    def __init__(self, data: _Data, dim: int, gaussians: int) -> None:
        size = (data.states, gaussians)
        self.phones = data.phones
        self.occupancy = torch.zeros(size, dtype=torch.float64)
        self.sums = torch.zeros(*size, dim, dtype=torch.float64)
        self.squares = torch.zeros(*size, dim, dtype=torch.float64)
        self.visits = torch.zeros(data.states, dtype=torch.float64)

    def add(self, x: Tensor, by_state: Tensor, hmm: PhoneHMM | None) -> None:
        """Frames (N, D) with probabilities of states (N, S)."""
        shares = by_state[..., None]
        if hmm is not None and hmm.log_weights.shape[1] > 1:
            shares = shares * hmm.components(x).softmax(2)
        flat = shares.flatten(1)
        self.occupancy += flat.sum(0).view_as(self.occupancy)
        self.sums += (flat.T @ x).view_as(self.sums)
        self.squares += (flat.T @ x.square()).view_as(self.squares)

    def updated(self, before: PhoneHMM | None, config: HMMConfig) -> PhoneHMM:
        """The HMM that these statistics make likeliest; states and Gaussians that saw nothing stay as they were."""
        total = self.occupancy.sum()
        mean_all = self.sums.sum((0, 1)) / total
        variance_all = self.squares.sum((0, 1)) / total - mean_all.square()
        count = self.occupancy[..., None]
        means = self.sums / count.clamp_min(1e-8)
        variances = self.squares / count.clamp_min(1e-8) - means.square()
        seen = count > 2
        old_means = mean_all.expand_as(means) if before is None else before.means.double()
        old_variances = variance_all.expand_as(variances) if before is None else before.variances.double()
        means = torch.where(seen, means, old_means)
        variances = torch.where(seen, variances, old_variances)
        variances = torch.maximum(variances, config.variance_floor * variance_all)
        by_state = self.occupancy.sum(1, keepdim=True)
        even = torch.full_like(self.occupancy, 1 / self.occupancy.shape[1])
        weights = torch.where(by_state > 2, self.occupancy / by_state.clamp_min(1e-8), even)
        weights = weights.clamp_min(1e-5)
        weights = weights / weights.sum(1, keepdim=True)
        leave = ((self.visits + 1) / (by_state[:, 0] + 2)).clamp(0.05, 0.95)
        return PhoneHMM(
            self.phones, means.float(), variances.float(), weights.log().float(), (1 - leave).log().float(),
            leave.log().float(),
        )  # fmt: skip


def _gathered(
    data: _Data, front: Front, batches: Iterator[tuple[list[int], Tensor, Tensor, Tensor]], hmm: PhoneHMM | None = None
) -> _Statistics:
    """Statistics over all utterances."""
    found: _Statistics | None = None
    for numbers, states, weights, lengths in batches:
        for row, number in enumerate(numbers):
            x, frames = front(data.features[number]), int(lengths[row])
            if found is None:
                found = _Statistics(data, x.shape[1], 1 if hmm is None else hmm.log_weights.shape[1])
            by_state = torch.zeros(frames, data.states)
            if weights.ndim == 2:
                path = states[row, :frames]
                by_state[torch.arange(frames), path] = 1
                found.visits += torch.bincount(path[1:][path[1:] != path[:-1]], minlength=data.states)
            else:
                by_state.index_add_(1, states[row], weights[row, :frames])
                found.visits += torch.bincount(states[row], (weights[row, :frames].sum(0) > 0.5).double(), data.states)
            found.add(x, by_state, hmm)
    assert found is not None
    return found


def split(hmm: PhoneHMM, distance: float = 0.2) -> PhoneHMM:
    """Every Gaussian becomes two of half its weight, `distance` standard deviations to either side."""
    shift = distance * hmm.variances.sqrt()
    return replace(
        hmm,
        means=torch.cat([hmm.means - shift, hmm.means + shift], 1),
        variances=hmm.variances.repeat(1, 2, 1),
        log_weights=hmm.log_weights.repeat(1, 2) - math.log(2),
    )


def _discriminant(data: _Data, front: Front, hmm: PhoneHMM, config: HMMConfig) -> tuple[Front, PhoneHMM]:
    """LDA of the states that the HMM finds, and a first HMM in its directions."""
    paths: dict[int, Tensor] = {}
    wide = (2 * config.context + 1) * front.dim
    scatter = Scatter(data.states, wide)
    for numbers, states, _, lengths in aligned(data, front, hmm, False):
        for row, number in enumerate(numbers):
            paths[number] = states[row, : int(lengths[row])]
            scatter.add(spliced(front(data.features[number]), config.context), paths[number])
    new = replace(front, context=config.context, directions=scatter.directions(min(config.lda, wide)))
    batches = (
        ([number], path[None], torch.ones(1, len(path)), torch.tensor([len(path)])) for number, path in paths.items()
    )
    return new, _gathered(data, new, batches).updated(None, config)


def log_posteriors(trained: TrainedHMM, features: np.ndarray, scale: float) -> np.ndarray:
    """(T, P) log probabilities of phones: densities weighed down by `scale`, for neighbouring frames say much the same.

    Kaldi searches language-model weights from 7 to 17, which are scales from 1/7 to 1/17.
    """
    return (scale * trained.phone_scores(features)).log_softmax(1).numpy()


def align_phones(
    trained: TrainedHMM, features: Features, labels: Sequence[Sequence[str]], phones: Sequence[str]
) -> list[np.ndarray | None]:
    """The phone of each frame (T,) for each utterance, silence found too; None where the labels do not fit."""
    known = {phone: number for number, phone in enumerate(phones[:-1])}
    numbers = [[known[phone] for phone in one if phone in known] for one in labels]
    usable = [n for n in range(len(features)) if 0 < len(numbers[n]) <= features.lengths[n]]
    data = _Data(features, numbers, usable, tuple(phones))
    found: list[np.ndarray | None] = [None] * len(features)
    for batch, states, _, lengths in aligned(data, trained.front, trained.hmm, False):
        for row, number in enumerate(batch):
            found[number] = states[row, : int(lengths[row])].clamp(max=len(phones) - 1).numpy()
    return found
