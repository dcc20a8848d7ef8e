"""Voices made alike, without labels: what keeps one phone of many speakers out of one cluster.

Cepstra tell who speaks as loudly as what is said. All speakers say the same phones, so that one mixture of Gaussians
should fit them all: each speaker's cepstra are moved to it, first by the frequency warp of a vocal tract's length (Lee
and Rose 1996; as a linear map: Panchapagesan and Alwan 2006), then by any linear map (CMLLR, Gales 1998), and the
mixture is made anew from what comes of all (speaker-adaptive training, Anastasakos et al. 1996). Speakers whom training
did not hear are moved to the mixture that it left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firstwords.corpus.feature_store import Features
from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError
from firstwords.nn.cmllr import Affine, improved
from firstwords.nn.fitted import read_fitted, write_fitted
from firstwords.nn.gaussians import Mixture, fit_mixture
from firstwords.nn.mfcc import CEPSTRA, deltas, frequency_warp
from firstwords.unsupervised.cepstra import WEIGHTS

KIND = "voices"
VOICES = "voices.safetensors"
"""In a prepared folder."""
WARPS = tuple(round(0.76 + 0.04 * step, 2) for step in range(14))
"""Factors of frequency that are tried. Ours."""
WARP_GAUSSIANS, WARP_ROUNDS = 16, 8
"""Of the mixture that chooses among them, and how often it is made anew at most."""
START_ROUNDS = 5
"""Of EM in which a mixture is made from k-means."""
GAUSSIANS, ROUNDS = (32, 64), 10
"""Of the mixtures that linear maps follow, one after the other, and rounds of EM with each. Ours."""
MOST_FRAMES = 10_000
"""Of a speaker that the map is found on, spread over all that is said, ..."""
MOST_SPEAKERS, ALL_FRAMES = 400, 400_000
"""... and of speakers that what they share is found on, with so many frames of all together."""


@dataclass(frozen=True)
class Voices:
    """What speakers are moved to."""

    warped: Mixture
    """Of cepstra after the warp, with mean 0 and deviation 1 in each speaker."""
    mixture: Mixture
    """Of cepstra and derivatives (39,) after the linear map."""
    mean: Tensor
    """(39,) of what comes out for all speakers together."""
    deviation: Tensor
    """(39,)."""

    def map_of(self, utterances: Sequence[np.ndarray]) -> Affine:
        """The map of a speaker's cepstra (T, 13) to those that all share."""
        frames = _Speaker(utterances)
        start = frames.warp(frames.best_factor(self.warped))
        affine = Affine.identity(CEPSTRA)
        streams = start(frames.streams)
        for _ in range(ROUNDS):
            affine = improved(affine, streams, self.mixture, Affine.identity(CEPSTRA))
        return affine.after(start)

    def adapted(self, features: Features, speakers: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
        """Utterances' cepstra (T, 13), each speaker's mapped together, to their ids and what is read (T, 39).

        Args:
            speakers: by utterance id; who is unknown is somebody else in every utterance.
        """
        found = by_speaker(features, speakers)
        maps = {
            speaker: self.map_of([features[number] for number in numbers])
            for speaker, numbers in track(found.items(), len(found), "voices")
        }
        for number, name in enumerate(features.ids):
            yield name, self(features[number], maps[speakers.get(name, name)])

    def __call__(self, cepstra: np.ndarray, affine: Affine) -> np.ndarray:
        """Cepstra (T, 13) of an utterance to (T, 39) float32, of mean 0 and the deviations `WEIGHTS` over all."""
        values = affine(_streams(cepstra)).flatten(1)
        weights = torch.tensor(WEIGHTS).repeat_interleave(CEPSTRA)
        return ((values - self.mean) / self.deviation * weights).numpy()

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Raises CheckpointError."""
        tensors = {"mean": self.mean, "deviation": self.deviation}
        for name in ("warped", "mixture"):
            for part, value in vars(getattr(self, name)).items():
                tensors[f"{name}.{part}"] = value
        write_fitted(path, KIND, tensors, {})

    @staticmethod
    def load(path: Path) -> Voices:
        """What `save` wrote. Raises CheckpointError."""
        tensors, _ = read_fitted(path, KIND)
        try:
            mixtures = {name: Mixture(*(tensors[f"{name}.{part}"] for part in Mixture.__annotations__))
                        for name in ("warped", "mixture")}  # fmt: skip
            return Voices(mixtures["warped"], mixtures["mixture"], tensors["mean"], tensors["deviation"])
        except KeyError as error:
            raise CheckpointError(f"{path}: voices without their {error}") from error


def speakers_of(utterances: Iterable[Utterance]) -> dict[str, str]:
    """Who says each utterance, by its id, where the manifest knows."""
    return {utterance.id: f"speaker {utterance.speaker}" for utterance in utterances if utterance.speaker}


def by_speaker(features: Features, speakers: Mapping[str, str]) -> dict[str, list[int]]:
    """The numbers of each speaker's utterances; who is unknown is somebody else in every utterance."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(features.ids):
        found.setdefault(speakers.get(name, name), []).append(number)
    return found


def fit_voices(features: Features, speakers: Mapping[str, str], seed: int = 0) -> Voices:
    """What speakers have in common.

    Args:
        features: the cepstra (T, 13) of utterances.
        speakers: by utterance id; who is unknown is somebody else in every utterance.
        seed: of the k-means that mixtures start from.

    Raises:
        ConfigError: fewer frames than Gaussians.
    """
    groups = list(by_speaker(features, speakers).values())
    if len(groups) > MOST_SPEAKERS:
        groups = [groups[n] for n in np.linspace(0, len(groups) - 1, MOST_SPEAKERS).astype(int)]
    most = min(MOST_FRAMES, ALL_FRAMES // len(groups))
    heard = [_Speaker([features[number] for number in numbers], most) for numbers in groups]
    warped, factors = _fitted_warps(heard, seed)
    streams = [one.warp(factor)(one.streams) for one, factor in zip(heard, factors, strict=True)]
    affines = [Affine.identity(CEPSTRA) for _ in heard]
    passes = iter(track(range(len(GAUSSIANS) * ROUNDS), len(GAUSSIANS) * ROUNDS, "voices"))
    for size in GAUSSIANS:
        mixture: Mixture | None = None
        for _ in range(ROUNDS):
            next(passes)
            together = _mapped(affines, streams)
            mixture = fit_mixture(together, size, START_ROUNDS, seed) if mixture is None else mixture.refitted(together)
            affines = _centred([improved(affine, one, mixture, Affine.identity(CEPSTRA))
                                for affine, one in zip(affines, streams, strict=True)])  # fmt: skip
    next(passes, None)
    together = _mapped(affines, streams)
    assert mixture is not None
    deviation, mean = torch.std_mean(together, 0)
    return Voices(warped, mixture.refitted(together), mean, deviation + 1e-5)


def _mapped(affines: Sequence[Affine], streams: Sequence[Tensor]) -> Tensor:
    """(N, 39) of all speakers."""
    return torch.cat([affine(one).flatten(1) for affine, one in zip(affines, streams, strict=True)])


def _centred(affines: Sequence[Affine]) -> list[Affine]:
    """The maps after what makes their mean the identity: likelihood alone does not say where all meet."""
    back = torch.linalg.inv(torch.stack([one.matrix for one in affines]).mean(0))
    offset = back @ torch.stack([one.offset for one in affines]).mean(0)
    return [Affine(back, -offset).after(one) for one in affines]


def _fitted_warps(speakers: Sequence[_Speaker], seed: int) -> tuple[Mixture, list[float]]:
    """The mixture of warped cepstra, and each speaker's factor."""
    factors = [1.0 for _ in speakers]
    for _ in track(range(WARP_ROUNDS), WARP_ROUNDS, "warps"):
        together = torch.cat([one.warped(factor) for one, factor in zip(speakers, factors, strict=True)])
        mixture = fit_mixture(together, WARP_GAUSSIANS, START_ROUNDS, seed)
        before, factors = factors, [one.best_factor(mixture) for one in speakers]
        if factors == before:
            break
    return mixture, factors


class _Speaker:
    """A speaker's frames, as many as are looked at."""

    def __init__(self, utterances: Sequence[np.ndarray], most: int = MOST_FRAMES) -> None:
        step = max(1, sum(map(len, utterances)) // (2 * most))  # much speech is not read whole
        streams = torch.cat([_streams(cepstra) for cepstra in utterances[::step]])
        if len(streams) > most:
            streams = streams[torch.linspace(0, len(streams) - 1, most).long()]
        self.streams = streams
        """(N, 3, 13) cepstra and derivatives."""
        self.mean = streams[:, 0].double().mean(0)

    def warp(self, factor: float) -> Affine:
        """The map of cepstra to warped ones, with mean 0 and deviation 1."""
        matrix = frequency_warp(factor)
        deviation = (self.streams[:, 0] - self.mean.float()).double().matmul(matrix.T).std(0, correction=0)
        matrix = matrix / (deviation[:, None] + 1e-5)
        return Affine(matrix, -matrix @ self.mean)

    def warped(self, factor: float) -> Tensor:
        """(N, 13) warped cepstra."""
        return self.warp(factor)(self.streams[:, :1])[:, 0]

    def best_factor(self, mixture: Mixture) -> float:
        """Of the warp that the mixture likes best."""
        return max(WARPS, key=lambda factor: mixture.score(self.warped(factor)))


def _streams(cepstra: np.ndarray) -> Tensor:
    """(T, 13) to (T, 3, 13) with first and second derivatives."""
    values = torch.from_numpy(np.array(cepstra, dtype=np.float32))
    first = deltas(values)
    return torch.stack([values, first, deltas(first)], 1)
