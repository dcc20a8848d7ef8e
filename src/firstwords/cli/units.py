"""firstwords units MODEL CORPUS --layer 9 --clusters 100"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.cli.options import parse, several
from firstwords.codebook import Codebook
from firstwords.coder import load_coder
from firstwords.corpus.intervals import FIELD, open_alignments
from firstwords.embedding import gather
from firstwords.encoder import load_encoder
from firstwords.errors import ConfigError
from firstwords.evaluation import in_splits
from firstwords.features import LayerFeatures, OwnCodes, probe_weights
from firstwords.nn.kmeans import Backend
from firstwords.phone_times import FileTimes, ManifestTimes, RecognizerTimes, Times
from firstwords.recognizer import Recognizer
from firstwords.report.units import count_phones, print_quality, print_units
from firstwords.units import CODEBOOK, UnitConfig, UnitFormat, write_units
from firstwords.windows import WindowConfig


@dataclass
class Arguments:
    """Discrete units of a corpus: k-means over any layer, trained here or in a file, or a model's own codes.

    Writes OUT/units.jsonl (or .txt) and OUT/codebook.safetensors. Where it is known when phones were said, it tells
    how units and phones agree: phone purity, cluster purity and PNMI, as HuBERT's paper defines them. Started again
    after a stop, the same command goes on where it was.
    """

    model: tyro.conf.Positional[str]
    """A pre-training or fine-tuning run, a Hugging Face folder or hub name, a fairseq .pt."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests; folders of recordings and single ones will do, too."""
    out: Path = Path("units")
    """Folder for the units."""
    layer: int | None = None
    """Which layer: 0 is the first block's input, 1 the output of the first block. That of --codebook otherwise, or the
    model's output. Transformers' hidden_states count alike; fairseq's layer 14 is 15 here."""
    weights: tuple[float, ...] | None = None
    """A weighted sum of layers: a weight each for 0, 1, and so on to the model's output."""
    probe: str | None = None
    """A weighted sum of layers, with the weights that this run of firstwords classify has learnt."""
    codebook: Path | None = None
    """Use these centroids (codebook.safetensors of an earlier run); train none."""
    codes: bool = False
    """The codes of the model's own quantiser: no layer, no k-means."""
    clusters: int = UnitConfig.clusters
    """K of k-means: 100 in HuBERT's first iteration, 128 in wav2vec-U."""
    iterations: int = UnitConfig.iterations
    """Most passes of k-means over the features."""
    restarts: int = UnitConfig.restarts
    """Starts of k-means; the best is kept. wav2vec-U takes 3."""
    seed: int = UnitConfig.seed
    """Of k-means, and of the sample that it learns from."""
    hours: float | None = None
    """Audio to train k-means on, whole utterances at random; otherwise all. Their features lie in OUT meanwhile."""
    backend: Backend = "torch"
    """What computes k-means; faiss (the extra "faiss") holds all features in memory."""
    format: UnitFormat = "jsonl"
    """JSON Lines with id and units; or text: the id, a tab, units with spaces between."""
    repetitions: bool = False
    """Write a unit for every frame, not one for each run of equal units."""
    durations: bool = False
    """Without repetitions: write how many frames each unit lasts, too."""
    split: str | None = None
    """Only the utterances of this split."""
    alignments: Path | None = None
    """Take phone times from a folder of files named by utterance (.TextGrid, .json, .ctm, .phn), or from one .ctm or
    .jsonl of many."""
    tier: str | None = None
    """Which tier of those TextGrids, or "words" of .json; otherwise phones, else characters."""
    field: str | None = None
    """Take phone times from this key of the manifest: [[label, start, end], ...]. "segments" is looked for anyway."""
    recognizer: str | None = None
    """Lay transcripts over the recordings with this recogniser: phones, if it was fine-tuned with --text.units
    phonemes, else characters."""
    stress: bool = False
    """Keep the stress of ARPAbet's vowels (AH0, AH1)."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = UnitConfig.batch_seconds
    """Most audio that the network sees at once."""
    chunk_seconds: float = WindowConfig.seconds
    """Audio of a long recording that passes through the network at a time; inf hears it as a whole."""
    context_seconds: float = WindowConfig.context
    """What is heard beyond such a chunk on either side."""


def run(arguments: list[str]) -> None:
    """Trains, writes, compares with phones."""
    chosen = parse(Arguments, arguments, "units", flags=True)
    utterances, problems = gather(chosen.corpus)
    if chosen.split is not None:
        utterances = in_splits(utterances, chosen.split, ", ".join(map(str, chosen.corpus)))
    times = _times(chosen)
    codebook = None if chosen.codebook is None else Codebook.load(chosen.codebook)
    config = UnitConfig(
        chosen.clusters, chosen.iterations, chosen.restarts, chosen.seed, chosen.hours, chosen.backend, chosen.format,
        chosen.repetitions, chosen.durations, chosen.batch_seconds,
        WindowConfig(chosen.chunk_seconds, chosen.context_seconds),
    )  # fmt: skip
    units = write_units(_source(chosen, codebook), utterances, chosen.out, config, codebook)
    for name, reason in (problems | units.skipped).items():
        print(f"left out: {reason if name in reason else f'{name}: {reason}'}", file=sys.stderr)
    if units.before == len(units.sequences):
        print(f"{chosen.out} was complete already", file=sys.stderr)
    elif units.before:
        print(f"went on after {units.before} recordings", file=sys.stderr)
    console = Console(highlight=False)
    print_units(units, console)
    if codebook is None and not chosen.codes:
        console.print(f"centroids: {chosen.out / CODEBOOK}", soft_wrap=True)
    given = times is not None
    if times is None and any(FIELD in utterance.extras for utterance in utterances):
        times = ManifestTimes()
    if times is not None:
        found = count_phones(units, utterances, times, chosen.stress, required=given)
        if found is not None:
            print_quality(units, found, console)
            report = [quality.to_dict() for quality in found.qualities()]
            (chosen.out / "quality.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _source(chosen: Arguments, codebook: Codebook | None) -> LayerFeatures | OwnCodes:
    layered = [name for name in ("layer", "weights", "probe", "codebook") if getattr(chosen, name) is not None]
    if chosen.codes:
        if layered:
            raise ConfigError(f"--codes are the model's own: --{layered[0]} does not go with them")
        return OwnCodes(load_coder(chosen.model, chosen.device))
    if chosen.weights is not None and chosen.probe is not None:
        raise ConfigError("--weights or --probe, not both")
    weights = chosen.weights if chosen.probe is None else probe_weights(chosen.probe)
    layer = chosen.layer
    encoder = load_encoder(chosen.model, chosen.device, chosen.adapter)
    if codebook is not None and layer is None and weights is None:
        layer = codebook.about.get("layer")
        if "weights" in codebook.about:
            own = dict(codebook.about["weights"])
            weights = [own.get(number, 0.0) for number in encoder.all_layers]
    features = LayerFeatures(encoder, layer, weights)
    if codebook is not None and not codebook.fits(features):
        print(f"note: {chosen.codebook} was trained on another model or layer than this", file=sys.stderr)
    return features


def _times(chosen: Arguments) -> Times | None:
    """Who knows when phones were said."""
    given = [name for name in ("alignments", "field", "recognizer") if getattr(chosen, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"--{given[0]} or --{given[1]}, not both")
    if chosen.alignments is not None:
        return FileTimes(open_alignments(chosen.alignments, chosen.tier))
    if chosen.field is not None:
        return ManifestTimes(chosen.field)
    if chosen.recognizer is not None:
        return RecognizerTimes(Recognizer.load(chosen.recognizer, chosen.device))
    return None
