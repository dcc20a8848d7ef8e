"""Stability: which pre-training runs learn, stay at chance, or collapse; ours and Hugging Face's example script.

    python experiments/stability.py SPEECH WORK [--out docs/results/stability.md]

SPEECH is a folder of corpora with manifests (librispeech_sample, kathleen, speechocean762; WAV shards are fastest).
A matrix of audio per update x peak rate x data, each cell a short run of the same tiny model by either side. Cells
that are done are not run again. Hugging Face's side needs transformers; without it that half of the matrix stays empty.
--table writes the page from the cells that are there.

The data are clips of 1.5 s, so that neither side crops or pads:

clean     speech
silence   half of the clips are silence: half of these digital zeros, half a recorder's last bit
broken    a third of the clips are clipped (30 times too loud), a third hold one constant value

Every run is judged on the same clean speech of other speakers, in evaluation mode.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import tyro
from stability_peer import train_peer
from stability_report import write_report

from firstwords.audio import SAMPLE_RATE
from firstwords.commands import pretrain
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.recipes import load_recipe
from firstwords.training.health import Health
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log

RECIPE = "wav2vec2-tiny"
CLIP = 1.5
"""Seconds of a clip: the recipe's longest crop."""
CORPORA = ("librispeech_sample", "kathleen", "speechocean762")
KINDS = ("clean", "silence", "broken")
LOUD = 30.0
CONSTANT = 0.25


@dataclass
class Settings:
    """Which cells."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where clips and runs are written."""
    out: Path | None = None
    """Markdown; JSON and a picture are written beside it."""
    sides: tuple[str, ...] = ("ours", "peer")
    """Firstwords, Hugging Face's example script."""
    seconds: tuple[float, ...] = (6.0, 24.0)
    """Audio of an update; the recipe has 24 s."""
    rates: tuple[float, ...] = (3.75e-4, 1.5e-3, 6e-3)
    """Peak learning rates; the recipe has 1.5e-3."""
    kinds: tuple[str, ...] = KINDS
    """Data."""
    steps: int = 200
    """Updates of each run."""
    warmup: float = 0.2
    """Share of the updates."""
    clips: int = 640
    """Clips of each corpus."""
    seed: int = 1
    """Of everything."""
    threads: int = 1
    """Of each run."""
    table: bool = False
    """Run nothing: write the page from the cells that are done."""


@dataclass
class Cell:
    """One run, and what became of it."""

    side: str
    kind: str
    seconds: float
    rate: float
    verdict: str = ""
    """"learns", "at chance", "collapsed"; of the model on clean speech it has not heard."""
    bits: float = math.nan
    chance_bits: float = math.nan
    accuracy: float = math.nan
    perplexity: float = math.nan
    """Codes in use, summed over codebooks, of the most probable entries."""
    training_bits: float = math.nan
    """Of the last tenth of training."""
    said: str = ""
    """What the run said about its own health, first words; empty where it said nothing."""
    minutes: float = 0.0
    """Of one core."""


def main() -> None:
    settings = tyro.cli(Settings)
    torch.set_num_threads(settings.threads)
    if not settings.table:
        for kind in settings.kinds:
            make_corpus(settings, kind)
    cells: list[Cell] = []
    for side in settings.sides:
        for kind in settings.kinds:
            for seconds in settings.seconds:
                for rate in settings.rates:
                    cell = run_cell(settings, Cell(side, kind, seconds, rate))
                    cells += [cell] if cell.verdict else []
                    if settings.out is not None and cells:
                        write_report(settings.out, cells, settings)


def run_cell(settings: Settings, cell: Cell) -> Cell:
    """The cell with its result, from disk where it is there."""
    folder = settings.work / "runs" / f"{cell.side}-{cell.kind}-{cell.seconds:g}-{cell.rate:g}-{settings.seed}"
    done = folder.with_name(folder.name + ".json")
    corpus = settings.work / cell.kind
    config = configure(settings, cell)
    if done.is_file():
        cell = Cell(**json.loads(done.read_text(encoding="utf-8")))
        if cell.side == "ours":
            cell.said = what_was_said(read_log(folder), config)
        return cell
    if settings.table or (cell.side == "peer" and find_spec("transformers") is None):
        return cell
    started = time.process_time()
    if cell.side == "ours":
        if pretrain([corpus], folder, config):
            raise SystemExit("stopped; the same command goes on")
        records = read_log(folder)
        cell.said = what_was_said(records, config)
    else:
        records = train_peer(read_manifest(corpus), config)
    judge(cell, records)
    cell.minutes = (time.process_time() - started) / 60
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps(asdict(cell), indent=1) + "\n", encoding="utf-8")
    print(
        f"{cell.side} {cell.kind} {cell.seconds:g} s {cell.rate:g}: {cell.verdict}, {cell.minutes:.1f} min", flush=True
    )
    return cell


def configure(settings: Settings, cell: Cell) -> PretrainConfig:
    """The recipe, shorter, with this cell's audio and rate."""
    changes = {
        "steps": settings.steps,
        "seed": settings.seed,
        "chance_patience": settings.steps * 2 // 3,
        "data": {"crop_seconds": CLIP, "valid_seconds": 120},
        "training": {
            "batch_seconds": cell.seconds,
            "bucket_seconds": cell.seconds,
            "micro_batch_seconds": cell.seconds,
            "schedule": {"peak": cell.rate, "warmup": settings.warmup},
            "precision": "float32",
            "device": "cpu",
            "workers": 1,
            "log_every": 10,
            "validate_every": max(1, settings.steps // 3),
            "save_every": settings.steps,
        },
    }
    return from_dict(PretrainConfig, changes, "stability", load_recipe(RECIPE, "pretrain", PretrainConfig))


def what_was_said(records: Sequence[dict[str, Any]], config: PretrainConfig) -> str:
    """The sentence that stood when the run ended, as the run printed it."""
    codebooks = config.model.quantizer.groups
    health = Health(config.chance_patience, codebooks, codebooks * config.model.quantizer.entries)
    standing = ""
    for record in records:
        if "bits" not in record:
            continue
        names = ("update", "bits", "chance_bits", "accuracy", "codes_perplexity")
        sentence = health.look(*(record[name] for name in names), record["unopposed_share"])
        if sentence:
            standing = "" if sentence.startswith("healthy again") else sentence
    return standing


def judge(cell: Cell, records: Sequence[dict[str, Any]]) -> None:
    """Takes the figures of the last validation, and calls them by a name."""
    last = [record for record in records if "valid_bits" in record][-1]
    cell.bits, cell.accuracy = last["valid_bits"], last["valid_accuracy"]
    cell.chance_bits, cell.perplexity = last["valid_chance_bits"], last["valid_codes_perplexity"]
    training = [record["bits"] for record in records if "bits" in record]
    cell.training_bits = float(np.mean(training[-max(1, len(training) // 10) :]))
    if not math.isfinite(cell.bits) or cell.perplexity < 4 or cell.accuracy > 0.95:
        cell.verdict = "collapsed"  # under two codes a codebook
    elif cell.bits > 0.985 * cell.chance_bits:
        cell.verdict = "at chance"
    else:
        cell.verdict = "learns"


def make_corpus(settings: Settings, kind: str) -> None:
    """Clips as WAV files with a manifest; the validation clips are clean speech in every corpus."""
    folder = settings.work / kind
    if (folder / "manifest.jsonl").is_file():
        return
    random = np.random.default_rng(settings.seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    made = []
    for split, count in (("train", settings.clips), ("dev", 80)):
        for number, clip in enumerate(speech_clips(settings.speech, split, count, random)):
            if split == "train":
                clip = spoil(clip, kind, number, random)
            path = folder / "audio" / f"{split}-{number:04}.wav"
            soundfile.write(path, np.clip(np.rint(clip * 32768), -32768, 32767).astype(np.int16), SAMPLE_RATE)
            made.append(Utterance(id=path.stem, audio=path, duration=CLIP, split=split))
    write_manifest(made, folder / "manifest.jsonl")


def spoil(clip: np.ndarray, kind: str, number: int, random: np.random.Generator) -> np.ndarray:
    """What a careless corpus would hold in this place."""
    if kind == "silence" and number % 2:
        return np.zeros_like(clip) if number % 4 == 1 else random.integers(-1, 2, len(clip)) / 32768
    if kind == "broken" and number % 3 == 1:
        return np.clip(LOUD * clip, -1, 1)
    if kind == "broken" and number % 3 == 2:
        return np.full_like(clip, CONSTANT)
    return clip


def speech_clips(speech: Path, split: str, count: int, random: np.random.Generator) -> list[np.ndarray]:
    """The same number from each corpus, one clip of an utterance."""
    clips: list[np.ndarray] = []
    for number, name in enumerate(CORPORA):
        utterances = [u for u in read_manifest(speech / name) if u.split == split and (u.duration or 0) >= CLIP + 0.1]
        wanted = (count * (number + 1)) // len(CORPORA) - len(clips)
        for index in random.permutation(len(utterances))[:wanted]:
            whole = utterances[index]
            start = random.uniform(0, (whole.duration or 0) - CLIP - 0.05)
            part = replace(whole, start=whole.start + start, duration=CLIP)
            clips.append(part.read()[: round(CLIP * SAMPLE_RATE)])
    return [clips[index] for index in random.permutation(len(clips))]


if __name__ == "__main__":
    main()
