"""Cost per hour of audio: as utterances grow, as the batch grows, and with two processes. Firstwords alone.

    python benchmarks/scaling.py --size base --out results.json

An update is forward and backward pass and AdamW of pre-training, as the training loop does it, batch included;
inference is a CTC recogniser's emissions. Processes are compared in short pre-trainings of the same updates, turn by
turn: one process with one thread, one with two, two with one thread each (training/launch.py).
"""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from measure import Contender, Step, Timing, autocast, device, interleave, processor, quiet, ratios, save
from pretraining_step import ours, write_noise
from rich.console import Console
from rich.table import Table
from sizes import pretraining

from firstwords.audio import SAMPLE_RATE
from firstwords.commands import pretrain
from firstwords.config import from_dict
from firstwords.corpus.manifest import write_manifest
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log


@dataclass
class Settings:
    """Which growth."""

    size: Literal["tiny", "base", "large"] = "base"
    """tiny (the recipe wav2vec2-tiny), base, large (the shape of LV-60k)."""
    lengths: tuple[float, ...] = (1, 5, 15, 30, 60)
    """Seconds of an utterance; each batch holds one minute, so 60 to 1 utterances."""
    batch_seconds: float = 60.0
    """Audio of each batch of the first table."""
    batches: tuple[int, ...] = (1, 2, 4, 8)
    """Utterances of `crop` seconds: the second table."""
    crop: float = 10.0
    """Seconds of an utterance in the second and third table."""
    processes: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Processes x threads of each, for updates of four utterances of `crop` seconds: the third table."""
    updates: int = 4
    """Of each of these runs; the second half of them is timed."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 means autocast."""
    rounds: int = 3
    """Measured rounds."""
    warmup: int = 2
    """Rounds before them."""
    threads: int = 1
    """Of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for what, prepare in (("update", prepare_update), ("inference", prepare_inference)):
        lengths = [(max(1, round(settings.batch_seconds / seconds)), seconds) for seconds in settings.lengths]
        results.append(grow(f"{what}, utterances grow", prepare, lengths, settings))
        save(settings.out, results)
        batches = [(count, settings.crop) for count in settings.batches]
        results.append(grow(f"{what}, the batch grows", prepare, batches, settings))
        save(settings.out, results)
    if settings.processes:
        results.append(share(settings))
        save(settings.out, results)


def grow(title: str, prepare: Any, batches: list[tuple[int, float]], settings: Settings) -> dict[str, Any]:
    """Seconds of computing for an hour of audio, batch by batch."""
    contenders = [
        Contender(f"{count} x {seconds:g} s", prepare, (settings.size, count, seconds, settings.precision))
        for count, seconds in batches
    ]
    timings = interleave(contenders, settings.rounds, settings.threads, settings.precision, settings.warmup)
    rows = hours_of(timings, [count * seconds for count, seconds in batches])
    print_rows(f"{settings.size}, {title}, {settings.precision}, {settings.threads} threads, {processor()}", rows)
    return {"what": title, "size": settings.size, "precision": settings.precision, "rows": rows}


def hours_of(timings: list[Timing], audio: list[float]) -> list[dict[str, Any]]:
    """Cost per hour of audio of each contender, and times the cheapest of them, ratios taken round by round."""
    working = [replace(t, seconds=[s / a * 3600 for s in t.seconds]) for t, a in zip(timings, audio, strict=False)]
    done = [timing for timing in working if not timing.error]
    if not done:
        return [{"name": timing.name, "error": timing.error} for timing in working]
    best = min(done, key=lambda timing: statistics.median(timing.seconds))
    rows: list[dict[str, Any]] = []
    for timing in working:
        if timing.error:
            rows.append({"name": timing.name, "error": timing.error})
            continue
        low, middle, high = ratios(timing, best)
        cost = {"seconds_per_hour": statistics.median(timing.seconds), "times_best": middle, "quartiles": [low, high]}
        rows.append({"name": timing.name} | cost | {"above_start_mb": timing.peak_mb - timing.held_mb})
    return rows


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table("", "seconds per hour of audio", "times the cheapest", "quartiles", "MB above start", title=title)
    for row in rows:
        if "error" in row:
            table.add_row(row["name"], row["error"][:60])
            continue
        low, high = row["quartiles"]
        memory = f"{row['above_start_mb']:.0f}" if row["above_start_mb"] else ""
        cost = f"{row['seconds_per_hour']:.0f}"
        table.add_row(row["name"], cost, f"{row['times_best']:.2f}", f"{low:.2f} - {high:.2f}", memory)
    Console(width=130).print(table)


def prepare_update(size: str, utterances: int, seconds: float, precision: str) -> Step:
    """One update as the training loop does it, its batch included."""
    return ours(size, utterances, seconds, precision, 0.0)


def prepare_inference(size: str, utterances: int, seconds: float, precision: str) -> Step:
    model = CTCModel(CTCConfig(pretraining(size, 0.0).model.encoder, 32)).eval()
    model = model.to(device())
    audio = 0.1 * torch.randn(utterances, round(seconds * SAMPLE_RATE), device=device())
    lengths = torch.full((utterances,), audio.shape[1], device=device())

    @torch.inference_mode()
    def step() -> None:
        with autocast(precision):
            model(audio, lengths)

    return step


def share(settings: Settings) -> dict[str, Any]:
    """The same updates by one process and by two, as short runs of `firstwords pretrain` in turn."""
    timings = [Timing(f"{what.split('x')[0]} processes x {what.split('x')[1]} threads") for what in settings.processes]
    threads_before = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.jsonl"
        write_manifest(write_noise(Path(folder), 16, settings.crop), manifest)
        for number in range(settings.rounds):
            for what, timing in zip(settings.processes, timings, strict=True):
                processes, threads = (int(part) for part in what.split("x"))
                os.environ["OMP_NUM_THREADS"] = str(processes * threads)  # which launch.py shares out
                torch.set_num_threads(threads)
                out = Path(folder) / f"run-{number}-{what}"
                with quiet():
                    code = pretrain([manifest], out, run_config(settings, processes))
                if code:
                    raise SystemExit("stopped")
                last = [record for record in read_log(out) if "audio_per_second" in record][-1]
                timing.seconds.append(3600 / last["audio_per_second"])
    torch.set_num_threads(threads_before)
    rows = hours_of(timings, [3600.0] * len(timings))
    print_rows(f"{settings.size}, updates of 4 x {settings.crop:g} s, processes, {processor()}", rows)
    return {"what": "processes", "size": settings.size, "precision": settings.precision, "rows": rows}


def run_config(settings: Settings, processes: int) -> PretrainConfig:
    seconds = 4 * settings.crop
    changes = {
        "steps": settings.updates,
        "chance_patience": 10 * settings.updates,
        "data": {"held_out": 0.0, "min_seconds": 0.5, "crop_seconds": settings.crop},
        "training": {
            "batch_seconds": seconds,
            "bucket_seconds": seconds,
            "micro_batch_seconds": seconds,
            "processes": processes,
            "precision": settings.precision,
            "log_every": max(1, settings.updates // 2),
            "validate_every": 10 * settings.updates,
            "save_every": 10 * settings.updates,
        },
    }
    return from_dict(PretrainConfig, changes, "benchmark", pretraining(settings.size, 0.0))


if __name__ == "__main__":
    main()
