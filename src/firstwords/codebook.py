"""Centroids of k-means over a layer of an encoder: learnt from a corpus, kept in a file."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from firstwords.corpus.parallel import PLAIN_SECONDS
from firstwords.corpus.utterance import Utterance
from firstwords.embedding import layers_settings, network_fingerprint, write_all
from firstwords.errors import CheckpointError, ConfigError, CorpusError
from firstwords.feature_files import Embeddings, FeatureWriter
from firstwords.features import LayerFeatures
from firstwords.nn.fitted import read_fitted, write_fitted
from firstwords.nn.kmeans import Backend, fit_kmeans
from firstwords.training.data import Skipped, fingerprint, with_durations
from firstwords.windows import WindowConfig

KIND = "k-means"


@dataclass(frozen=True)
class Codebook:
    """Centroids, and of what."""

    centroids: Tensor
    """(K, D) float32."""
    about: dict[str, Any] = field(default_factory=dict)
    """"layer" or "weights" that the features came from, "model" (a hash of its weights), and how they were learnt."""

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Raises CheckpointError where it cannot."""
        write_fitted(path, KIND, {"centroids": self.centroids}, self.about)

    @staticmethod
    def load(path: Path) -> Codebook:
        """What `save` wrote. Raises CheckpointError: missing, cut short, or something else."""
        tensors, about = read_fitted(path, KIND)
        if "centroids" not in tensors or tensors["centroids"].ndim != 2:
            raise CheckpointError(f"{path}: a k-means file without centroids (K, D)")
        return Codebook(tensors["centroids"], about)

    @property
    def fingerprint(self) -> str:
        """Tells codebooks apart."""
        return hashlib.sha256(self.centroids.numpy().tobytes()).hexdigest()[:16]

    def check(self, source: Any) -> None:
        """Raises ConfigError where the centroids are not of such features' width."""
        dim = source.encoder.dim if isinstance(source, LayerFeatures) else None
        if dim != self.centroids.shape[1]:
            raise ConfigError(f"centroids of width {self.centroids.shape[1]} do not fit features of width {dim}")

    def fits(self, features: LayerFeatures) -> bool:
        """Whether it was learnt from the same layer of the same network; True where the file does not say."""
        own = {"model": network_fingerprint(features.encoder)} | layers_settings(features)
        return all(self.about[key] == value for key, value in own.items() if key in self.about)


def learn_codebook(
    features: LayerFeatures,
    utterances: Sequence[Utterance],
    folder: Path,
    clusters: int,
    iterations: int = 50,
    restarts: int = 1,
    seed: int = 0,
    hours: float | None = None,
    backend: Backend = "torch",
    batch_seconds: float = 60.0,
    windows: WindowConfig | None = None,
    skipped: dict[str, str] | None = None,
    progress: bool = True,
) -> Codebook:
    """k-means over the frames of utterances.

    Args:
        features: what is clustered.
        utterances: to learn from.
        folder: where the features are kept meanwhile (memory-mapped); what an earlier call left there is used.
        clusters: K.
        iterations, restarts, seed, backend: see `fit_kmeans`.
        hours: learn from so much audio, whole utterances drawn by `seed`; None takes all.
        batch_seconds, windows: how the network hears.
        skipped: gets utterances that could not be read, with the reason.
        progress: show it.

    Raises:
        FeatureFileError: the features cannot be written.
        CorpusError: nothing could be read.
        ConfigError: fewer frames than clusters.
        MissingExtraError: faiss is asked for and not installed.
    """
    skipped = {} if skipped is None else skipped
    windows = windows or WindowConfig()
    sample = draw(utterances, hours, seed)
    model = {"model": network_fingerprint(features.encoder)} | layers_settings(features)
    settings = model | {"stride": features.stride, "utterances": fingerprint(sample)}
    with FeatureWriter(folder, "memmap", settings) as writer:
        if not writer.complete:
            what = "listening" if progress else None
            write_all(features, sample, writer, lambda heard: heard.parts, batch_seconds, windows, skipped, what)
            if not writer.entries:
                first = next(iter(skipped.values()))
                raise CorpusError(f"none of {len(sample)} recordings could be read; first: {first}")
    stored = Embeddings(folder)
    with KMeansProgress(iterations + 1, restarts) if progress else _Quiet() as shown:
        centroids = fit_kmeans(
            stored.together, clusters, iterations, restarts, seed, backend, features.device, shown.tell
        )
    seconds = sum(entry.seconds for entry in stored.entries.values())
    frames = len(stored.together)
    about = {"clusters": clusters, "seed": seed, "hours": round(seconds / 3600, 4), "frames": frames}
    return Codebook(centroids, model | about | {"backend": backend, "distance": shown.distance})


def draw(utterances: Sequence[Utterance], hours: float | None, seed: int) -> list[Utterance]:
    """Whole utterances at random, in their order, until they last so many hours; None takes all.

    Raises:
        ConfigError: no time at all.
    """
    if hours is None:
        return list(utterances)
    if not hours > 0:
        raise ConfigError(f"{hours} hours to learn units from: must be more than 0")
    measured = with_durations(utterances, Skipped())
    order = list(range(len(measured)))
    random.Random(seed).shuffle(order)
    chosen, seconds = set(), 0.0
    for number in order:
        if seconds >= 3600 * hours:
            break
        chosen.add(measured[number].id)
        seconds += measured[number].duration or 0.0
    return [utterance for utterance in utterances if utterance.id in chosen]


class _Quiet:
    """Remembers the last distance, and shows nothing."""

    distance = 0.0
    """Mean squared distance of a frame to its centroid."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def tell(self, restart: int, iteration: int, distance: float) -> None:
        """A pass is done."""
        self.distance = distance


class KMeansProgress(_Quiet):
    """Passes over the features, on stderr: a bar on a terminal, else a plain line now and then."""

    def __init__(self, passes: int, restarts: int) -> None:
        self.passes, self.restarts = passes, restarts
        self.begun = self.said = time.monotonic()
        console = Console(file=sys.stderr)
        columns = (TextColumn("k-means"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=console, transient=True)
        self.bar.disable = not console.is_terminal
        self.task = self.bar.add_task("k-means", total=passes * restarts, shown="")

    def __enter__(self) -> KMeansProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def tell(self, restart: int, iteration: int, distance: float) -> None:
        """A pass is done; iterations that a start did not need count as done."""
        self.distance = distance
        done = (restart - 1) * self.passes + iteration
        self.bar.update(self.task, completed=done, shown=f"mean squared distance {distance:.4g}")
        now = time.monotonic()
        if self.bar.disable and now - self.said >= PLAIN_SECONDS:
            self.said = now
            total = self.passes * self.restarts
            left = (now - self.begun) / done * (total - done)
            print(
                f"k-means: pass {done} of {total} at most, mean squared distance {distance:.4g}, {left:.0f} s left",
                file=sys.stderr, flush=True,
            )  # fmt: skip
