"""Features of a corpus into a folder: any layer, at the level of frames, utterances or windows, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from firstwords.corpus.importers.folder import import_folder
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.corpus.parallel import AudioProgress
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError
from firstwords.feature_files import Entry, FeatureWriter, FileFormat, Precision
from firstwords.features import Heard, LayerFeatures, Listener, hear
from firstwords.pooling import PoolConfig, pooled, window_times
from firstwords.recording import total_seconds
from firstwords.training.data import fingerprint
from firstwords.windows import WindowConfig


@dataclass(frozen=True)
class EmbedConfig:
    """What is written."""

    pooling: PoolConfig = field(default_factory=PoolConfig)
    """What gets a vector."""
    format: FileFormat = "npy"
    """One .npy a recording; "memmap": one .npy of all frames with their lengths; safetensors; or Parquet."""
    dtype: Precision = "float32"
    """Of the values on disk."""
    shard_megabytes: float = 1000.0
    """A safetensors or Parquet file ends after the recording that makes it this large."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""
    windows: WindowConfig = field(default_factory=WindowConfig)
    """How long recordings pass through the network."""


@dataclass
class Embedded:
    """What was done."""

    folder: Path
    recordings: int = 0
    """In the folder now."""
    rows: int = 0
    """Frames, utterances or windows in the folder now."""
    seconds: float = 0.0
    """Of audio, in the folder now."""
    before: int = 0
    """Recordings that were there when this began."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Recordings that could not be read, with the reason."""
    complete_before: bool = False
    """Whether there was nothing to do."""


def embed(
    features: LayerFeatures,
    utterances: Sequence[Utterance],
    folder: Path,
    config: EmbedConfig | None = None,
    progress: bool = True,
) -> Embedded:
    """Writes features of all utterances into a folder; stopped and called again, it goes on, to the same result.

    Features are those of each utterance alone, to rounding. Recordings that cannot be read are left out and told.

    Args:
        features: a layer of an encoder, or a weighted sum of layers.
        utterances: with ids that differ.
        folder: new, or one that an earlier call with the same arguments did not finish.
        config: None: the defaults.
        progress: show it, with an estimate of the time left.

    Raises:
        FeatureFileError: the folder holds something else, or the disk is full (what is finished is kept).
        CorpusError: no utterances, or none that could be read.
        ConfigError: windows that are too short.
        MissingExtraError: Parquet without pyarrow.
    """
    config = config or EmbedConfig()
    config.pooling.check(features.stride)
    if not utterances:
        raise CorpusError("no utterances to embed")
    known = {utterance.id: utterance for utterance in utterances}
    level, bytes_ = config.pooling.level, round(config.shard_megabytes * 1e6)
    writer = FeatureWriter(
        folder, config.format, _settings(features, utterances, config), config.dtype, bytes_,
        lambda entry: _columns(known[entry.id], entry, config.pooling), level,
    )  # fmt: skip
    found = Embedded(folder, before=len(writer.entries), complete_before=writer.complete)

    def rows(heard: Heard) -> Any:
        return pooled(heard.parts, config.pooling, features.stride, features.receptive_field)

    with writer:
        if not writer.complete:
            write_all(
                features, utterances, writer, rows, config.batch_seconds, config.windows, found.skipped,
                "embedding" if progress else None,
            )  # fmt: skip
            if not writer.entries:
                first = next(iter(found.skipped.values()))
                raise CorpusError(f"none of {len(utterances)} recordings could be read; first: {first}")
    found.recordings = len(writer.entries)
    found.rows = sum(entry.rows for entry in writer.entries.values())
    found.seconds = sum(entry.seconds for entry in writer.entries.values())
    return found


def write_all(
    listener: Listener,
    utterances: Sequence[Utterance],
    writer: FeatureWriter,
    rows: Callable[[Heard], Any],
    batch_seconds: float,
    windows: WindowConfig,
    skipped: dict[str, str],
    what: str | None,
) -> None:
    """Writes what `rows` makes of each utterance that the writer has not; notes in `skipped` those that are broken.

    Args:
        what: shown beside the progress; None shows none.
    """
    left = [utterance for utterance in utterances if utterance.id not in writer.entries]
    total = total_seconds(left) if what else 0.0
    with AudioProgress(total, what) if what else nullcontext() as progress:
        done = [utterance.id in writer.entries for utterance in utterances]
        for heard in hear(listener, utterances, batch_seconds, windows, done.__getitem__):
            try:
                if heard.error is not None:
                    raise heard.error
                writer.write(heard.name, heard.seconds, rows(heard))
            except AudioError as error:
                skipped[heard.name] = str(error)
            if progress is not None:
                progress.advance(heard.seconds)


def gather(places: Sequence[Path]) -> tuple[list[Utterance], dict[str, str]]:
    """The utterances of corpora, folders of recordings and single recordings, and what else was found, with the reason.

    Ids are the manifest's; of other recordings the path within the folder, without its ending. Where two places share
    an id, the later one gets the name of its place before it.

    Raises:
        CorpusError: nothing there.
    """
    utterances: list[Utterance] = []
    problems: dict[str, str] = {}
    seen: set[str] = set()
    for place in places:
        if not place.exists():
            raise CorpusError(f"{place}: no such recording, folder or corpus")
        if place.suffix.lower() == ".jsonl" or (place / MANIFEST_NAME).is_file():
            own = read_manifest(place)
        else:
            imported = import_folder(place)
            own = imported.utterances or ([Utterance(place.stem, place)] if place.is_file() else [])
            problems |= {problem.where: problem.what for problem in imported.problems if problem.lost}
        if not own:
            raise CorpusError(f"{place}: no recordings in it")
        folder = place.resolve().parent if place.is_file() else place.resolve()
        for utterance in own:
            while utterance.id in seen:
                utterance = replace(utterance, id=f"{folder.name}/{utterance.id}")
            seen.add(utterance.id)
            utterances.append(utterance)
    if not utterances:
        raise CorpusError("no recordings given: name recordings, folders or corpora")
    return utterances, problems


def network_fingerprint(network: nn.Module) -> str:
    """Tells networks apart: a hash over names, shapes and some values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        flat = value.detach().flatten()
        some = flat[:: max(1, len(flat) // 256)].float().cpu().numpy().tobytes()
        digest.update(f"{name} {tuple(value.shape)} ".encode() + some)
    return digest.hexdigest()[:16]


def layers_settings(features: LayerFeatures) -> dict[str, Any]:
    """Which layers, fit for JSON: a number or None (the model's output), or weights by layer."""
    if features.weights == [1.0]:
        return {"layer": features.layers[0]}
    return {"weights": [[layer, weight] for layer, weight in zip(features.layers, features.weights, strict=True)]}


def _settings(features: LayerFeatures, utterances: Sequence[Utterance], config: EmbedConfig) -> dict[str, Any]:
    pooling = config.pooling
    found = {
        "model": network_fingerprint(features.encoder),
        **layers_settings(features),
        "pool": "mean" if pooling.level == "frame" else pooling.pool,
        "windows": [pooling.window, pooling.hop] if pooling.level == "window" else None,
        "stride": features.stride,
        "receptive_field": features.receptive_field,
        "chunk_seconds": str(config.windows.seconds),
        "context_seconds": str(config.windows.context),
        "batch_seconds": config.batch_seconds,
        "utterances": fingerprint(utterances),
    }
    return found | ({"shard_megabytes": config.shard_megabytes} if config.format in ("safetensors", "parquet") else {})


def _columns(utterance: Utterance, entry: Entry, pooling: PoolConfig) -> dict[str, Any]:
    """What a Parquet file tells beside the features."""
    known = {name: getattr(utterance, name) for name in ("text", "speaker", "language", "split")}
    if pooling.level != "window":
        return known
    times = window_times(pooling, entry.rows, entry.seconds)
    return known | {"start": [start for start, _ in times], "end": [end for _, end in times]}
