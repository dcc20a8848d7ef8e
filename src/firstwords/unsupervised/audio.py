"""The audio side of wav2vec-U: recordings to speech without silences, to features, to segments.

Version 1.0 (wav2vec-U section 4): features of a middle layer, k-means over frames, principal components, the mean over
every run of one cluster, the mean of every two neighbours. Version 2.0 takes the features as they are, and clusters of
MFCCs as auxiliary targets. Unlike the published scripts k-means sees the same normalised waveforms as everything else.
Ours is a second way to segments, from one change of the features to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.feature_store import Features, FeatureWriter, read_features, written_with
from firstwords.corpus.parallel import AudioProgress, map_in_order, track
from firstwords.corpus.prepared import write_numbers
from firstwords.corpus.utterance import Utterance
from firstwords.corpus.voice_activity import runs, without_silence
from firstwords.encoder import Encoder, choose_device, load_encoder
from firstwords.errors import AudioError, ConfigError
from firstwords.nn.fitted import read_fitted, write_fitted
from firstwords.nn.kmeans import assign, fit_kmeans, nearest
from firstwords.nn.log_mel import HOP
from firstwords.nn.mfcc import mfcc
from firstwords.nn.pca import PCA, fit_pca
from firstwords.nn.segments import change_points, held, merge_runs, middle_means, pool_pairs
from firstwords.pauses import CHUNK, VOICE, VoiceDetector
from firstwords.unsupervised.cepstra import MFCC, Cepstra

LONGEST = 0.25
"""Seconds of a step between two changes at most."""
CHANGES_PER_SECOND = 15.0
"""Steps a second between changes, where nobody says how many: what wav2vec-U's segments come to."""
MEASURED_ON, HALVINGS = 100, 9
"""Utterances that steps are counted on, and how often an interval of prices is halved."""
_AT_ONCE = 64
"""Utterances that are sorted by length before they go into batches."""

SilenceRemoval = Literal["energy", "silero", "no"]
Segmentation = Literal["clusters", "changes"]
Adaptation = Literal["none", "cmllr"]


@dataclass(frozen=True)
class AudioConfig:
    """How recordings become what the generator reads."""

    remove_silence: SilenceRemoval = "energy"
    """Silences are removed by our detector, by Silero's (the extra "vad"), or kept ("no": where the text marks pauses
    as they are, as in TIMIT)."""
    speaker_adaptation: Adaptation = "none"
    """1.0, mfcc: "cmllr" moves the cepstra of every speaker (whom the manifest names; else of every utterance) to a
    mixture that all share, without labels, so that the phones of different voices meet in the same clusters."""
    segmentation: Segmentation = "clusters"
    """1.0: segments are runs of one cluster, and the mean of every two, as published; or they last from one change of
    the features to the next, for features that flicker between clusters, as those of small encoders and MFCCs do."""
    clusters: int = 128
    """1.0: of frames, by k-means. Source: wav2vec-U."""
    iterations: int = 50
    """Of k-means at most. Source: wav2vec-U."""
    restarts: int = 3
    """Of k-means. Source: wav2vec-U."""
    steps_per_second: float = 0.0
    """1.0: how many steps the generator shall read, 14 for instance: leaving a cluster, or a change, then has the price
    that makes them so many. 0 takes each frame's nearest cluster, as published; with changes it means 15."""
    dim: int = 512
    """1.0: principal components; all of them where features are narrower. Source: wav2vec-U."""
    mfcc_clusters: int = 64
    """2.0: of MFCCs, by k-means, for the auxiliary loss. Source: wav2vec-U 2.0."""
    batch_seconds: float = 60.0
    """Most audio that the encoder sees at once; it changes speed and memory, not the features."""
    cluster_seed: int = 0
    """Of k-means."""

    def check(self) -> None:
        """Raises ConfigError."""
        if self.steps_per_second < 0:
            raise ConfigError(f"--steps-per-second {self.steps_per_second}: must not be below 0")
        for name in ("clusters", "iterations", "restarts", "dim", "mfcc_clusters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")


def spoken(samples: np.ndarray, silence: SilenceRemoval, detector: VoiceDetector | None = None) -> np.ndarray:
    """Samples (n,) without silences, none where nobody speaks.

    Args:
        detector: Silero's, for `silence` "silero".
    """
    if silence == "no":
        return samples
    if silence == "energy":
        return without_silence(samples)
    detector = detector or VoiceDetector()
    voice = torch.cat(list(detector.voice([torch.from_numpy(samples)]))) >= VOICE
    stretches = [samples[low * CHUNK : high * CHUNK] for low, high in runs(voice.numpy())]
    return np.concatenate(stretches) if stretches else samples[:0]


class Listener:
    """An encoder that hears utterances without their silences.

    Args:
        place: a run, checkpoint or foreign model, or "mfcc" for cepstra.
        layer: which block's output, from 1; 0 is the input of the first. fairseq's layer 14 is 15 here.
        config: how silences are removed, how much audio there is at once, whether cepstra are adapted afterwards.

    Raises:
        CheckpointError: no encoder there.
        ConfigError: it has no such layer.
        MissingExtraError: Silero's detector is asked for and not installed.
    """

    def __init__(self, place: str | Path, layer: int, config: AudioConfig, device: str = "auto") -> None:
        self.device = choose_device(device)
        adapted = config.speaker_adaptation != "none"
        if adapted and str(place) != MFCC:
            raise ConfigError(f"--speaker-adaptation {config.speaker_adaptation}: of cepstra only: --encoder mfcc")
        self.encoder: Encoder | Cepstra = Cepstra(adapted) if str(place) == MFCC else load_encoder(place, self.device)
        self.frame_seconds = self.encoder.stride / SAMPLE_RATE
        if str(place) == MFCC and layer:
            raise ConfigError(f"--layer {layer}: cepstra have no blocks: --layer 0")
        if not 0 <= layer <= self.encoder.layers:
            raise ConfigError(
                f"--layer {layer}: {place} has {self.encoder.layers} blocks: 1 to {self.encoder.layers}, or 0 for the "
                "input of the first (fairseq counts from 0: its layer 14 is 15 here)"
            )
        self.layer, self.silence = layer, config.remove_silence
        self.batch_samples = round(config.batch_seconds * SAMPLE_RATE)
        self._detector = VoiceDetector() if self.silence == "silero" else None

    def speech(self, utterance: Utterance) -> np.ndarray:
        """Samples (n,) without silences, none where nobody speaks. Raises AudioError."""
        return spoken(utterance.read(), self.silence, self._detector)

    def __call__(
        self, utterances: Iterable[Utterance], skip: Callable[[Utterance, str], None]
    ) -> Iterator[tuple[Utterance, np.ndarray]]:
        """Each utterance, in order, with its features (T, D) float32; tells `skip` of those that give none."""
        workers = 1 if self._detector is not None else None  # its state is one for all
        block: list[tuple[Utterance, np.ndarray]] = []
        for utterance, samples in map_in_order(self._read, utterances, workers):
            if isinstance(samples, str):
                skip(utterance, samples)
                continue
            if self.encoder.frames(len(samples)) < 1:
                skip(utterance, f"utterance {utterance.id}: no speech found in it")
                continue
            block.append((utterance, samples))
            if len(block) == _AT_ONCE:
                yield from self._features(block)
                block = []
        yield from self._features(block)

    def _read(self, utterance: Utterance) -> tuple[Utterance, np.ndarray | str]:
        try:
            return utterance, self.speech(utterance)
        except AudioError as error:
            return utterance, str(error)

    @torch.inference_mode()
    def _features(self, block: Sequence[tuple[Utterance, np.ndarray]]) -> Iterator[tuple[Utterance, np.ndarray]]:
        """Utterances of similar length go together, and come out in their order."""
        order = sorted(range(len(block)), key=lambda n: len(block[n][1]))
        found: dict[int, np.ndarray] = {}
        batch: list[int] = []
        for number in [*order, -1]:
            full = batch and (number < 0 or len(block[number][1]) * (len(batch) + 1) > self.batch_samples)
            if full:
                waveforms = [torch.from_numpy(block[n][1]) for n in batch]
                lengths = torch.tensor([len(one) for one in waveforms], device=self.device)
                padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True).to(self.device)
                heard = self.encoder(padded, lengths, self.layer).float().cpu().numpy()
                for row, n in zip(heard, batch, strict=True):
                    found[n] = row[: self.encoder.frames(len(block[n][1]))]
                batch = []
            batch.append(number)
        for number, (utterance, _) in enumerate(block):
            yield utterance, found[number]


def write_speech_features(
    listener: Listener,
    utterances: Sequence[Utterance],
    folder: Path,
    split: str,
    key: str,
    skip: Callable[[Utterance, str], None],
) -> None:
    """Features of a split, folder/split.npy; goes on where the same call was stopped.

    Args:
        key: what they depend on besides the utterances.
        skip: told of utterances that give no features.
    """
    if written_with(folder, split) == key:
        return
    with (
        FeatureWriter(folder, split, key=key) as writer,
        AudioProgress(sum(u.duration or 0 for u in utterances), f"features of {split}") as progress,
    ):
        done = {name: number for number, name in enumerate(writer.ids)}
        rest = [utterance for utterance in utterances if utterance.id not in done]
        progress.advance(sum(u.duration or 0 for u in utterances if u.id in done))
        for utterance, values in listener(rest, skip):
            writer.add(utterance.id, values)
            progress.advance(utterance.duration or 0)


@dataclass(frozen=True)
class Segmenter:
    """Features of frames to the three rates of version 1.0."""

    centroids: Tensor
    """(clusters, D), of frames, or with changes of segments."""
    components: PCA
    cost: float = 0.0
    """Squared distance that leaving a cluster, or a change, is worth; 0 takes every frame's nearest cluster."""
    longest: int = 0
    """Frames of a segment at most, if it lasts from one change to the next; 0: it is a run of one cluster."""

    def save(self, folder: Path) -> None:
        """Writes clusters.safetensors and components.safetensors. Raises CheckpointError."""
        about = {"cost": self.cost, "longest": self.longest}
        write_fitted(folder / "clusters.safetensors", "k-means", {"centroids": self.centroids}, about)
        self.components.save(folder / "components.safetensors")

    @staticmethod
    def load(folder: Path) -> Segmenter:
        """What `save` wrote. Raises CheckpointError."""
        tensors, about = read_fitted(folder / "clusters.safetensors", "k-means")
        components = PCA.load(folder / "components.safetensors")
        return Segmenter(tensors["centroids"], components, about.get("cost", 0.0), about.get("longest", 0))

    def __call__(self, features: np.ndarray) -> Segmented:
        """Of features (T, D)."""
        values = torch.from_numpy(np.array(features))
        frames = self.components.apply(values)
        if self.longest:
            starts = change_points(values, self.cost, self.longest)
            durations = torch.diff(starts, append=starts.new_tensor([len(values)]))
            clusters = assign(middle_means(values, starts), self.centroids).repeat_interleave(durations)
            segments = middle_means(frames, starts)
            return Segmented(clusters, frames, segments, segments, durations)
        clusters = held(values, self.centroids, self.cost) if self.cost else assign(values, self.centroids)
        segments = merge_runs(frames, clusters)
        runs = torch.unique_consecutive(clusters, return_counts=True)[1]
        durations = torch.nn.functional.pad(runs, (0, len(runs) % 2)).view(-1, 2).sum(1)
        return Segmented(clusters, frames, segments, pool_pairs(segments), durations)


class Segmented(NamedTuple):
    """An utterance at the three rates of version 1.0."""

    clusters: Tensor
    """(T,) of each frame."""
    frames: Tensor
    """(T, dim) principal components."""
    unpooled: Tensor
    """(S, dim): means over runs of one cluster, or from one change to the next."""
    pooled: Tensor
    """(S', dim): what the generator reads, means of pairs of runs, or again from one change to the next."""
    durations: Tensor
    """(S',) frames of each step of `pooled`."""


def fit_segmenter(raw: Features, config: AudioConfig, frame_seconds: float, device: str) -> Segmenter:
    """k-means and principal components over all frames of the training split (N, D), memory-mapped.

    With changes k-means is over segments.

    Raises:
        ConfigError: fewer frames, or segments, than clusters.
    """
    config.check()
    values, cost, longest = raw.values, 0.0, 0
    if config.segmentation == "changes":
        longest = max(1, round(LONGEST / frame_seconds))
        cost = _cost(
            raw, config.steps_per_second or CHANGES_PER_SECOND, frame_seconds, float(np.var(raw.values, 0).sum()),
            lambda one, price: len(change_points(one, price, longest)),
        )  # fmt: skip
        values = np.concatenate([
            middle_means(one, change_points(one, cost, longest)).numpy()
            for one in (torch.from_numpy(np.array(part)) for part in track(raw, len(raw), "changes"))
        ])  # fmt: skip
        if len(values) < config.clusters:
            raise ConfigError(f"--clusters {config.clusters}: there are {len(values)} segments only")
    passes = iter(
        track(range(config.restarts * (config.iterations + 1)), config.restarts * config.iterations, "k-means")
    )

    def tell(*_: object) -> None:
        next(passes, None)

    tell()
    centroids = fit_kmeans(
        values, config.clusters, config.iterations, config.restarts, config.cluster_seed, device=device, tell=tell
    )
    if config.segmentation == "clusters" and config.steps_per_second:
        some = torch.from_numpy(np.array(raw.values[:: max(1, len(raw.values) // 10_000)]))
        scale = float(nearest(some, centroids)[0].mean())
        cost = _cost(
            raw, config.steps_per_second, frame_seconds, scale,
            lambda one, price: -(-len(held(one, centroids, price).unique_consecutive()) // 2),
        )  # fmt: skip
    return Segmenter(centroids, fit_pca(raw.values, min(config.dim, raw.dim)), cost, longest)


def _cost(
    raw: Features, wanted: float, frame_seconds: float, scale: float, steps: Callable[[Tensor, float], int]
) -> float:
    """The price at which there are `wanted` steps a second, by halving an interval.

    Args:
        scale: a squared distance of the size that counts.
        steps: how many steps an utterance has at a price.
    """
    step = max(1, len(raw) // MEASURED_ON)
    some = [torch.from_numpy(np.array(raw[number])) for number in range(0, len(raw), step)]
    seconds = sum(map(len, some)) * frame_seconds

    def rate(cost: float) -> float:
        return sum(steps(one, cost) for one in some) / seconds

    low, high = 0.0, 32 * scale
    if rate(low) <= wanted:
        return low
    for _ in track(range(HALVINGS), HALVINGS, "price of a step"):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > wanted else (low, middle)
    return high


def write_segments(raw: Features, segmenter: Segmenter, folder: Path, split: str) -> None:
    """The split's frames, clusters, segments and pooled segments."""
    clusters, durations = [], []
    with (
        FeatureWriter(folder / "frames", split) as frames,
        FeatureWriter(folder / "unpooled", split) as unpooled,
        FeatureWriter(folder, split) as pooled,
    ):
        for name, values in track(zip(raw.ids, raw, strict=True), len(raw), f"segments of {split}"):
            found = segmenter(values)
            clusters.append(found.clusters.numpy())
            durations.append(found.durations.numpy())
            for writer, part in zip((frames, unpooled, pooled), found[1:4], strict=True):
                writer.add(name, part.numpy())
    write_numbers(folder / "frames" / f"{split}.clusters.npy", np.concatenate(clusters or [np.zeros(0)]))
    write_numbers(folder / f"{split}.durations.npy", np.concatenate(durations or [np.zeros(0)]))


def write_mfcc_units(
    listener: Listener, utterances: Sequence[Utterance], folder: Path, config: AudioConfig, key: str
) -> None:
    """A cluster of MFCCs for each frame of the training features, folder/train.mfcc-units.npy; -1 where there is none.

    MFCCs are of the same speech without silences; where features come every 20 ms, every second one of them.
    """
    features = read_features(folder, "train")
    by_id = {utterance.id: utterance for utterance in utterances}
    wanted = [by_id[name] for name in features.ids]

    def cepstra(utterance: Utterance) -> tuple[str, np.ndarray]:
        return utterance.id, mfcc(torch.from_numpy(listener.speech(utterance))).numpy()

    place = folder / "mfcc"
    with FeatureWriter(place, "train", key=key) as writer:
        done = set(writer.ids)
        rest = [utterance for utterance in wanted if utterance.id not in done]
        workers = 1 if listener.silence == "silero" else None
        for name, values in track(map_in_order(cepstra, rest, workers), len(rest), "MFCCs"):
            writer.add(name, values)
    stored = read_features(place, "train")
    centroids = fit_kmeans(stored.values, config.mfcc_clusters, config.iterations, config.restarts, config.cluster_seed)
    units = np.full(len(features.values), -1, dtype=np.int16)
    for number, values in enumerate(stored):
        chosen = assign(torch.from_numpy(np.array(values[:: listener.encoder.stride // HOP])), centroids).numpy()
        first, last = features.offsets[number : number + 2]
        count = min(last - first, len(chosen))
        units[first : first + count] = chosen[:count]
    write_numbers(folder / "train.mfcc-units.npy", units)
