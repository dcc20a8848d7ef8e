"""Reading recordings: hours of audio per second per core, and what share of a training run waits for them.

    python benchmarks/data.py --speech corpora/librispeech_sample --out results.json

Every form holds the same audio, and is read as the loader reads it: decoded, resampled where needed, to float32. Then
short pre-trainings of wav2vec2-tiny and of a model of base size read each form; their log says how long they waited.
Without --speech the audio is made up: a hum whose pitch and loudness move as a voice's do, which FLAC finds harder.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import tyro
from measure import Contender, Step, Timing, interleave, processor, quiet, ratios, save
from rich.console import Console
from rich.table import Table

from firstwords.audio import SAMPLE_RATE
from firstwords.commands import pretrain
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.shards import write_shards
from firstwords.corpus.utterance import Utterance
from firstwords.recipes import load_recipe
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log

BASE = "WAV shards"
CROP_SECONDS = 4.0


@dataclass
class Settings:
    """How much audio, which runs."""

    speech: Path | None = None
    """A corpus to take speech from; None makes audio up."""
    minutes: float = 5.0
    """Audio in each form."""
    seconds: float = 12.0
    """Longest utterance."""
    rounds: int = 5
    """Measured rounds, each reading everything once."""
    runs: tuple[str, ...] = ("wav2vec2-tiny", "wav2vec2-base")
    """Recipes of the short pre-trainings."""
    forms: tuple[str, ...] = ("WAV shards", "FLAC files", "FLAC files, 48 kHz", "Opus files")
    """What they read."""
    work: Path | None = None
    """Where the forms are written; None: a temporary folder."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    with tempfile.TemporaryDirectory() as temporary:
        forms = write_forms(settings.work or Path(temporary), audio(settings))
        results = [rates(settings, forms), *waiting(settings, forms)]
    save(settings.out, results)


def rates(settings: Settings, forms: dict[str, Path]) -> dict[str, Any]:
    """A table of every form, one thread each."""
    contenders = [Contender(name, read_whole, (path,)) for name, path in forms.items()]
    contenders += [
        Contender(f"{BASE}, crops of {CROP_SECONDS:g} s", read_crops, (forms[BASE],)),
        Contender(f"memory-mapped 16 bits, crops of {CROP_SECONDS:g} s", map_crops, (forms[BASE],)),
    ]
    timings = [on_a_core(timing) for timing in interleave(contenders, settings.rounds, threads=1)]
    heard = {one.name: hours(forms.get(one.name, forms[BASE]), "crops" in one.name) for one in contenders}
    base = next(timing for timing in timings if timing.name == BASE)
    table = Table("", "hours per second per core", "quartiles", f"times {BASE}", title=f"reading, {processor()}")
    rows = []
    for timing in timings:
        if timing.name not in heard:
            continue
        if timing.error:
            table.add_row(timing.name, timing.error[:60])
            rows.append({"name": timing.name, "error": timing.error})
            continue
        low, middle, high = speeds(timing, heard[timing.name])
        times = 1 / ratios(timing, base)[1] * heard[timing.name] / heard[BASE]
        table.add_row(timing.name, f"{middle:.2f}", f"{low:.2f} - {high:.2f}", f"{times:.2f}")
        rows.append({"name": timing.name, "hours_per_second": middle, "quartiles": [low, high], "times_base": times})
    Console(width=130).print(table)
    return {"what": "reading", "base": BASE, "minutes": 60 * heard[BASE], "rounds": settings.rounds, "rows": rows}


def on_a_core(timing: Timing) -> Timing:
    """The timing in seconds of the processor, which other work on the machine does not lengthen much."""
    return replace(timing, seconds=[part.get("core", 0.0) for part in timing.parts])


def speeds(timing: Timing, heard: float) -> tuple[float, float, float]:
    """Hours of audio per second: lower quartile, median, upper quartile."""
    each = [heard / seconds for seconds in timing.seconds]
    low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return low, middle, high


def waiting(settings: Settings, forms: dict[str, Path]) -> list[dict[str, Any]]:
    """What share of the time of short runs the model waited for recordings, from their logs."""
    table = Table("", *settings.forms, title="share of a pre-training run that waits for recordings")
    results = []
    for recipe in settings.runs:
        shares = {form: share_waiting(recipe, forms[form]) for form in settings.forms}
        table.add_row(recipe, *(f"{wait:.1%} ({speed:.0f} s/s)" for wait, speed in shares.values()))
        rows = [{"name": form, "waits": wait, "audio_per_second": speed} for form, (wait, speed) in shares.items()]
        results.append({"what": "waiting", "recipe": recipe, "rows": rows})
    if settings.runs:
        Console(width=130).print(table)
    return results


def share_waiting(recipe: str, manifest: Path) -> tuple[float, float]:
    """Share of waiting and seconds of audio a second, over the second half of some updates."""
    tiny = recipe == "wav2vec2-tiny"
    steps, seconds = (40, 24) if tiny else (2, 15.625)  # base: one crop of the published length
    changes = {
        "steps": steps,
        "chance_patience": 10 * steps,
        "data": {"held_out": 0.0, "min_seconds": 0.5},
        "training": {
            "batch_seconds": seconds,
            "bucket_seconds": seconds,
            "micro_batch_seconds": seconds,
            "log_every": steps // 2,  # the first half warms up
            "validate_every": 10 * steps,
            "save_every": 10 * steps,
        },
    }
    config = from_dict(PretrainConfig, changes, "benchmark", load_recipe(recipe, "pretrain", PretrainConfig))
    with tempfile.TemporaryDirectory() as out:
        with quiet():
            code = pretrain([manifest], Path(out) / "run", config)
        if code:
            raise SystemExit("stopped")
        last = [record for record in read_log(Path(out) / "run") if "data_wait" in record][-1]
    return last["data_wait"], last["audio_per_second"]


def audio(settings: Settings) -> list[np.ndarray]:
    """Utterances (samples,) of at most `seconds` at 16 kHz, `minutes` together."""
    wanted, found = 60 * settings.minutes, []
    if settings.speech is not None:
        for utterance in read_manifest(settings.speech):
            found.append(utterance.read()[: round(settings.seconds * SAMPLE_RATE)])
            if sum(map(len, found)) >= wanted * SAMPLE_RATE:
                break
        return found
    random = np.random.default_rng(1)
    while sum(map(len, found)) < wanted * SAMPLE_RATE:
        time = np.arange(round(random.uniform(0.3, 1) * settings.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(3 * time)) / SAMPLE_RATE
        hum = sum(np.sin(part * pitch) / part for part in range(1, 20))
        loud = 0.05 * np.abs(np.sin(2 * np.pi * 2 * time)) * np.asarray(hum)
        found.append((loud + 0.002 * random.standard_normal(len(time))).astype(np.float32))
    return found


def write_forms(folder: Path, utterances: list[np.ndarray]) -> dict[str, Path]:
    """The manifest of each form."""
    kinds = {
        "WAV files": ("wav", "WAV", "PCM_16", SAMPLE_RATE),
        "FLAC files": ("flac", "FLAC", "PCM_16", SAMPLE_RATE),
        "FLAC files, 48 kHz": ("flac", "FLAC", "PCM_16", 48_000),
        "Opus files": ("opus", "OGG", "OPUS", 48_000),
    }
    forms: dict[str, Path] = {}
    plain: list[Utterance] = []
    for name, (ending, container, coding, rate) in kinds.items():
        place = folder / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True, exist_ok=True)
        made = []
        for number, samples in enumerate(utterances):
            path = place / f"{number:05}.{ending}"
            sounds = samples if rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, rate)
            soundfile.write(path, sounds, rate, format=container, subtype=coding)
            made.append(Utterance(id=path.stem, audio=path, duration=len(samples) / SAMPLE_RATE))
        write_manifest(made, place / "manifest.jsonl")
        forms[name] = place / "manifest.jsonl"
        plain = plain or made
    for name, coding in (("WAV shards", "wav"), ("FLAC shards", "flac")):
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        sharded = write_shards(plain, place / "shards", coding, workers=1)
        write_manifest(sharded.utterances, place / "manifest.jsonl")
        forms[name] = place / "manifest.jsonl"
    return forms


def hours(manifest: Path, crops: bool) -> float:
    """Of audio that one round reads."""
    seconds = [utterance.duration or 0.0 for utterance in read_manifest(manifest)]
    return sum(min(one, CROP_SECONDS) if crops else one for one in seconds) / 3600


def read_whole(manifest: Path) -> Step:
    utterances = read_manifest(manifest)

    def step() -> dict[str, float]:
        started = time.process_time()
        for utterance in utterances:
            utterance.read()
        return {"core": time.process_time() - started}

    return step


def read_crops(manifest: Path) -> Step:
    """A stretch of each utterance at random, decoding nothing else."""
    utterances = read_manifest(manifest)
    random = np.random.default_rng(1)

    def step() -> dict[str, float]:
        started = time.process_time()
        for utterance in utterances:
            length = min(CROP_SECONDS, utterance.duration or 0.0)
            start = random.uniform(0, (utterance.duration or 0.0) - length)
            replace(utterance, start=start, duration=length).read()
        return {"core": time.process_time() - started}

    return step


def map_crops(manifest: Path) -> Step:
    """What a memory-mapped file of bare 16-bit samples would cost: the floor of any format."""
    utterances = read_manifest(manifest)
    random = np.random.default_rng(1)
    shards = {u.audio: np.memmap(u.audio, dtype=np.int16, mode="r") for u in utterances}

    def step() -> dict[str, float]:
        started = time.process_time()
        for utterance in utterances:
            length = round(min(CROP_SECONDS, utterance.duration or 0.0) * SAMPLE_RATE)
            first = (utterance.offset or 0) // 2 + 22  # behind the WAV header
            start = first + int(random.integers(0, round((utterance.duration or 0.0) * SAMPLE_RATE) - length + 1))
            shards[utterance.audio][start : start + length].astype(np.float32) / 32768.0
        return {"core": time.process_time() - started}

    return step


if __name__ == "__main__":
    main()
