"""Where a run stands: in its checkpoint, and between two lines of its log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from firstwords.checkpoints.own import Checkpoint, load_weights
from firstwords.corpus.batches import Position
from firstwords.training.optimizers import parameter_names
from firstwords.training.run import Run
from firstwords.training.task import Sums, Task


@dataclass
class Progress:
    """Part of every checkpoint."""

    update: int = 0
    """Updates done."""
    position: Position = field(default_factory=Position)
    """In the data."""
    audio_seconds: float = 0.0
    """Heard so far, by all processes; symbols read, where a task learns from text."""
    best: float = math.inf
    """Lowest validation figure so far."""
    stale: int = 0
    """Validations since then."""
    languages: dict[str, float] = field(default_factory=dict)
    """Seconds heard of each language, where a task tells several apart."""

    def hear(self, seconds: float, languages: Mapping[str, float]) -> None:
        """Adds the audio of an update, and how much of it was of which language."""
        self.audio_seconds += seconds
        for name, part in languages.items():
            self.languages[name] = self.languages.get(name, 0.0) + part


def snapshot(task: Task[Any], progress: Progress, optimizer: torch.optim.Optimizer | None = None) -> Checkpoint:
    """A checkpoint of this moment; with the optimiser it is one to go on from."""
    moments: dict[str, Tensor] = {}
    if optimizer is not None:
        names = parameter_names(task.model, optimizer)
        for number, values in optimizer.state_dict()["state"].items():
            moments |= {f"{names[number]}/{kind}": value for kind, value in values.items() if value is not None}
    saved = {
        "update": progress.update,
        "position": {"epoch": progress.position.epoch, "index": progress.position.index},
        "audio_seconds": progress.audio_seconds,
        "best": None if math.isinf(progress.best) else progress.best,
        "stale": progress.stale,
    } | ({"languages": progress.languages} if progress.languages else {})
    weights = dict(task.model.state_dict())
    if task.kind == "adapter":  # the rest lies where it came from and never changes
        weights = {name: value for name, value in task.model.named_parameters() if value.requires_grad}
    return Checkpoint(task.kind, task.config(), weights, moments, {"progress": saved} | task.state())


def restore(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts weights and optimiser state of the run's last checkpoint in place; a new run starts at update 0.

    No random state is stored: every choice follows from (seed, update).
    """
    last = run.last()
    if last is None:
        return Progress()
    found = dict(model.state_dict()) | last.weights if last.kind == "adapter" else last.weights
    load_weights(model, found, str(run.folder))
    names = parameter_names(model, optimizer)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in last.optimizer.items():
        name, kind = key.rsplit("/", 1)
        moments.setdefault(names.index(name), {})[kind] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    saved = last.state["progress"]
    best = math.inf if saved["best"] is None else saved["best"]
    position, languages = Position(**saved["position"]), dict(saved.get("languages", {}))
    stale = saved.get("stale", 0)
    progress = Progress(saved["update"], position, saved["audio_seconds"], best, stale, languages)
    run.forget_after(progress.update)
    return progress


class Meter:
    """Sums and clocks between two lines of the log.

    Args:
        steps: updates of the run.
        progress: where it stands.
        unit: "seconds" of audio, or "symbols" of text: what a task's last count counts.
    """

    def __init__(self, steps: int, progress: Progress, unit: str = "seconds") -> None:
        self.steps = steps
        self.unit = unit
        self.started = time.perf_counter()
        self.first_update = progress.update
        self._reset(progress, 0.0)

    def _reset(self, progress: Progress, waited: float) -> None:
        self.sums: Sums = {}
        self._since = time.perf_counter()
        self._waited = waited
        self._audio_before = progress.audio_seconds
        self._update_before = progress.update

    def add(self, sums: Sums) -> None:
        """Adds what a micro-batch or an update brought."""
        for name, value in sums.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def take(self, waited: float, progress: Progress) -> tuple[Sums, dict[str, float]]:
        """The sums so far and figures of time; starts anew. `waited`: seconds spent waiting for data, ever."""
        seconds = time.perf_counter() - self._since
        audio = progress.audio_seconds - self._audio_before
        updates = max(1, progress.update - self._update_before)
        if self.unit == "symbols":
            amounts = {
                "symbols_per_update": audio / updates,
                "symbols_total": progress.audio_seconds,
                "symbols_per_second": audio / seconds,
            }
        else:
            amounts = {
                "hours_per_update": audio / 3600 / updates,
                "hours_total": progress.audio_seconds / 3600,
                "audio_per_second": audio / seconds,
            } | {f"hours/{name}": part / 3600 for name, part in progress.languages.items()}
        timing = amounts | {
            "data_wait": (waited - self._waited) / seconds,
            "seconds_left": self.seconds_left(progress),
        }
        sums = self.sums
        self._reset(progress, waited)
        return sums, timing

    def amount(self, timing: dict[str, float]) -> str:
        """How much has been heard or read, and how fast."""
        if self.unit == "symbols":
            return f"read {timing['symbols_total'] / 1e6:.1f} M  {timing['symbols_per_second']:.0f}/s"
        return f"heard {timing['hours_total']:.2f} h  {timing['audio_per_second']:.0f} s/s"

    def seconds_left(self, progress: Progress) -> float:
        """Until all updates are done, at the pace so far."""
        done = max(1, progress.update - self.first_update)
        return (time.perf_counter() - self.started) / done * (self.steps - progress.update)


def time_left(seconds: float) -> str:
    """Seconds as a person says them."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h left"
    return f"{hours} h {minutes:02} min left" if hours else f"{minutes} min {whole % 60:02} s left"
