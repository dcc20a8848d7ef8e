"""firstwords embed MODEL RECORDING... --layer 9 --out features/"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from firstwords.cli.options import parse, several
from firstwords.embedding import EmbedConfig, embed, gather
from firstwords.encoder import load_encoder
from firstwords.errors import ConfigError
from firstwords.evaluation import in_splits
from firstwords.feature_files import FileFormat, Precision
from firstwords.features import LayerFeatures, probe_weights
from firstwords.pooling import Level, PoolConfig, Pooled
from firstwords.windows import WindowConfig


@dataclass
class Arguments:
    """Features of any layer of a model: for each frame, each utterance, or fixed windows.

    Started again after a stop, the same command goes on where it was. OUT/index.jsonl names every recording's file.
    """

    model: tyro.conf.Positional[str]
    """A pre-training or fine-tuning run, a Hugging Face folder or hub name, a fairseq .pt."""
    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("RECORDING")]
    """Files, folders (searched for recordings), corpus folders or manifests."""
    out: Path
    """Folder for the features."""
    layer: int | None = None
    """Which layer: 0 is the first block's input, 1 the output of the first block. The model's output otherwise.
    Transformers' hidden_states count alike; fairseq's layer 14 is 15 here."""
    weights: tuple[float, ...] | None = None
    """A weighted sum of layers: a weight each for 0, 1, and so on to the model's output."""
    probe: str | None = None
    """A weighted sum of layers, with the weights that this run of firstwords classify has learnt."""
    level: Level = "frame"
    """A vector for every frame, for the whole utterance, or for windows of a fixed length."""
    pool: Pooled = "mean"
    """Of utterances and windows: the mean of the frames, or mean and standard deviation."""
    window: float = PoolConfig.window
    """Seconds of a window (--level window)."""
    hop: float = PoolConfig.hop
    """Seconds from the start of one window to that of the next."""
    format: FileFormat = "npy"
    """A .npy for each recording; memmap: one .npy of all, with their lengths and ids; safetensors; or Parquet."""
    dtype: Precision = "float32"
    """Of the values on disk."""
    shard_megabytes: float = EmbedConfig.shard_megabytes
    """How large a safetensors or Parquet file grows before the next one begins."""
    split: str | None = None
    """Only the utterances of this split."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = EmbedConfig.batch_seconds
    """Most audio that the network sees at once."""
    chunk_seconds: float = WindowConfig.seconds
    """Audio of a long recording that passes through the network at a time; inf hears it as a whole."""
    context_seconds: float = WindowConfig.context
    """What is heard beyond such a chunk on either side."""


def run(arguments: list[str]) -> int:
    """Writes features, says what there is now."""
    chosen = parse(Arguments, arguments, "embed", flags=True)
    config = EmbedConfig(
        PoolConfig(chosen.level, chosen.pool, chosen.window, chosen.hop),
        chosen.format,
        chosen.dtype,
        chosen.shard_megabytes,
        chosen.batch_seconds,
        WindowConfig(chosen.chunk_seconds, chosen.context_seconds),
    )
    utterances, problems = gather(chosen.recordings)
    if chosen.split is not None:
        utterances = in_splits(utterances, chosen.split, ", ".join(map(str, chosen.recordings)))
    if chosen.weights is not None and chosen.probe is not None:
        raise ConfigError("--weights or --probe, not both")
    weights = chosen.weights if chosen.probe is None else probe_weights(chosen.probe)
    features = LayerFeatures(load_encoder(chosen.model, chosen.device, chosen.adapter), chosen.layer, weights)
    done = embed(features, utterances, chosen.out, config)
    skipped = problems | done.skipped
    for name, reason in skipped.items():
        print(f"left out: {reason if name in reason else f'{name}: {reason}'}", file=sys.stderr)
    if done.complete_before:
        print(f"{done.folder} was complete already", file=sys.stderr)
    elif done.before:
        print(f"went on after {done.before} recordings", file=sys.stderr)
    rows = {"frame": "frames", "utterance": "vectors", "window": "windows"}[chosen.level]
    width = features.encoder.dim * (2 if chosen.pool == "statistics" and chosen.level != "frame" else 1)
    print(
        f"{done.recordings} recordings, {done.seconds / 3600:.2f} h: {done.rows:,} {rows} of {width} {chosen.dtype} "
        f"numbers in {done.folder}" + (f"; {len(skipped)} left out" if skipped else "")
    )
    return 0
