"""The training loop: one for every objective.

Every loss is a sum over micro-batches and processes that is divided once, by counts of the whole update, so that the
gradient does not depend on how the update is split. Every random choice follows from (seed, update), so that a run
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from firstwords.checkpoints.own import Checkpoint, load_weights
from firstwords.corpus.batches import Position
from firstwords.errors import CorpusError, FirstwordsError
from firstwords.training.config import TrainingConfig
from firstwords.training.loader import Loader
from firstwords.training.processes import Processes, fast_bfloat16
from firstwords.training.run import SKIPPED, Run
from firstwords.training.schedule import learning_rate

Batch = TypeVar("Batch")
MOST_SKIPPED = 20
"""Updates in a row whose gradients may be infinite, or whose recordings unusable, before a run gives up."""
Sums = dict[str, Tensor]
"""Named sums that add over micro-batches, processes and updates."""


class Task(Protocol[Batch]):
    """An objective: how to load a micro-batch, what its loss is, and how to tell what happened."""

    kind: str
    best_is_low: str
    """The validation figure that chooses the best checkpoint; lower is better."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def loader(self) -> Loader[Batch]:
        """Where micro-batches come from."""

    def count(self, batches: list[Batch]) -> Tensor:
        """(n,) counts of this process's part of an update, float64: what divides the loss, ..., seconds of audio."""

    def survey(self, batches: list[Batch], update: int, counts: Tensor) -> Any:
        """Whatever the loss of each part needs to know of the whole update, besides counts."""

    def loss(self, module: nn.Module, batch: Batch, update: int, counts: Tensor, whole: Any) -> tuple[Tensor, Sums]:
        """This micro-batch's share of the update's loss, and sums for the log."""

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log from summed sums."""

    def line(self, figures: dict[str, float]) -> str:
        """The same for a person, on one line."""

    def validate(self, update: int) -> dict[str, float]:
        """Figures on the validation split, computed by the main process; empty where there is none."""

    def examples(self) -> list[str]:
        """A few lines that let a person judge the last validation."""

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """Verdict on the run's health, and a sentence when it changes."""

    def state(self) -> dict[str, Any]:
        """What the checkpoint should hold besides weights (alphabet, source)."""

    def config(self) -> dict[str, Any]:
        """The model's configuration, as plain containers."""


@dataclass
class Progress:
    """Where a run stands; part of its checkpoint."""

    update: int = 0
    position: Position = field(default_factory=Position)
    audio_seconds: float = 0.0
    best: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    progress: Progress
    stopped_by: int | None
    """The signal that stopped it, None where all updates are done."""


def train(task: Task[Any], training: TrainingConfig, steps: int, seed: int, run: Run, processes: Processes) -> Outcome:
    """Trains until `steps` updates are done or a signal comes; goes on from the run's last checkpoint."""
    console = Console(highlight=False, markup=False, soft_wrap=True, quiet=not processes.main)
    model = task.model.to(processes.device).train()
    settings = training.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(),
        0.0,
        (settings.betas[0], settings.betas[1]),
        settings.epsilon,
        settings.weight_decay,
        fused=True,
    )
    progress = _resume(run, model, optimizer, console)
    module: Any = model
    if processes.count > 1:
        module = DistributedDataParallel(model, find_unused_parameters=True)
    autocast = _autocast(training, processes.device)
    meter = _Meter(training, steps, progress)
    skipped = idle = 0

    with _StopSignals() as stop:
        run.mark(state="running", update=progress.update, steps=steps)
        for batches, after in task.loader.updates(progress.update, progress.position, steps):
            update = progress.update
            rate = learning_rate(training.schedule, update, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(_mix(seed, update, processes.rank))
            local = torch.tensor([float(stop.signal or 0), float(not batches)], dtype=torch.double)
            everyone = processes.sum(torch.cat([task.count(batches), local]))
            counts, (signals, empty) = everyone[:-2], everyone[-2:].tolist()
            if float(counts[0]) > 0 and not empty:  # else all of a process's recordings were unreadable
                idle = 0
                with autocast():
                    whole = task.survey(batches, update, counts)
                for number, batch in enumerate(batches):
                    last = number + 1 == len(batches)
                    with nullcontext() if last or processes.count == 1 else module.no_sync():
                        with autocast():
                            loss, sums = task.loss(module, batch, update, counts, whole)
                        (
                            loss * processes.count
                        ).backward()  # DistributedDataParallel averages; counts have divided already
                    meter.add(sums)
                norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
                if bool(torch.isfinite(norm)):
                    optimizer.step()
                    skipped = 0
                    meter.add({"gradient_norm": norm.detach().double(), "updates": torch.ones((), dtype=torch.double)})
                else:
                    skipped += 1
                    if skipped == MOST_SKIPPED:
                        raise FirstwordsError(
                            f"gradients were not finite for {skipped} updates up to update {update}; lower "
                            "training.schedule.peak, or set training.precision to float32"
                        )
                    meter.add({"updates_skipped": torch.ones((), dtype=torch.double)})
                optimizer.zero_grad(set_to_none=True)
            else:
                idle += 1
                if idle == MOST_SKIPPED or (after.index == 0 and idle > progress.position.index):
                    raise CorpusError(
                        f"no recording of {idle} update{'s' * (idle > 1)} in a row could be used, up to update "
                        f"{update}; are they still there? What was wrong with each is in {run.folder / SKIPPED}; "
                        "the same command goes on once that is mended"
                    )
            progress.update, progress.position = update + 1, after
            progress.audio_seconds += float(counts[-1])
            stopped = signals > 0
            done = progress.update == steps

            if (progress.update % training.log_every == 0 or done) and meter.sums:
                sums, timing = meter.take(task.loader.waited, progress)
                figures = task.describe({name: processes.sum(value).cpu() for name, value in sums.items()})
                figures |= {"learning_rate": rate} | timing
                verdict, sentence = task.judge(progress.update, figures)
                run.log({"update": progress.update, **figures, "health": verdict})
                console.print(f"{progress.update:>7}/{steps}  {task.line(figures)}  {meter.left(progress)}")
                if sentence:
                    console.print(sentence, style="bold yellow" if verdict != "healthy" else "green")
                run.mark(update=progress.update, health=verdict)
            if progress.update % training.validate_every == 0 or done:
                _validate(task, run, progress, processes, console, autocast, steps)
            if progress.update % training.save_every == 0 or stopped or done:
                run.save_last(_snapshot(task, model, progress, optimizer))
            if stopped and not done:
                run.mark(state="stopped", update=progress.update)
                number = stop.signal or signal.SIGTERM
                console.print(
                    f"stopped after update {progress.update} of {steps}; the same command goes on from there",
                    style="bold",
                )
                return Outcome(progress, int(number))
    run.mark(state="finished", update=progress.update)
    return Outcome(progress, None)


def _validate(
    task: Task[Any],
    run: Run,
    progress: Progress,
    processes: Processes,
    console: Console,
    autocast: Any,
    steps: int,
) -> None:
    """Validates in the main process and keeps the best checkpoint."""
    if processes.main:
        random = torch.get_rng_state()
        task.model.eval()
        with torch.no_grad(), autocast():
            figures = task.validate(progress.update)
        task.model.train()
        torch.set_rng_state(random)
        if figures:
            run.log({"update": progress.update, **{f"valid_{name}": value for name, value in figures.items()}})
            console.print(f"{progress.update:>7}/{steps}  validation  {task.line(figures)}")
            for example in task.examples():
                console.print(example, style="dim")
            score = figures[task.best_is_low]
            if score <= progress.best:
                progress.best = score
                run.save_best(_snapshot(task, task.model, progress))
        else:
            run.save_best(_snapshot(task, task.model, progress))
    processes.wait()


def _resume(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, console: Console) -> Progress:
    """Puts the last checkpoint's weights and optimiser state in place."""
    last = run.last()
    if last is None:
        return Progress()
    load_weights(model, last.weights, str(run.folder))
    names = [name for name, _ in model.named_parameters()]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in last.optimizer.items():
        name, kind = key.rsplit("/", 1)
        moments.setdefault(names.index(name), {})[kind] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    saved = last.state["progress"]
    best = math.inf if saved["best"] is None else saved["best"]
    progress = Progress(saved["update"], Position(**saved["position"]), saved["audio_seconds"], best)
    run.forget_after(progress.update)
    console.print(f"going on in {run.folder} after update {progress.update}")
    return progress


def _snapshot(
    task: Task[Any], model: nn.Module, progress: Progress, optimizer: torch.optim.Optimizer | None = None
) -> Checkpoint:
    """A checkpoint of this moment; with the optimiser it is one to go on from."""
    moments: dict[str, Tensor] = {}
    if optimizer is not None:
        names = [name for name, _ in model.named_parameters()]
        for number, values in optimizer.state_dict()["state"].items():
            moments |= {f"{names[number]}/{kind}": value for kind, value in values.items()}
    saved = {
        "update": progress.update,
        "position": {"epoch": progress.position.epoch, "index": progress.position.index},
        "audio_seconds": progress.audio_seconds,
        "best": None if math.isinf(progress.best) else progress.best,
    }
    return Checkpoint(task.kind, task.config(), dict(model.state_dict()), moments, {"progress": saved} | task.state())


def _autocast(training: TrainingConfig, device: torch.device) -> Any:
    """A context for forward passes in the chosen precision."""
    use = training.precision == "bfloat16" or (training.precision == "auto" and fast_bfloat16(device))

    def context() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if use else nullcontext()

    return context


def _mix(*numbers: int) -> int:
    """One seed of several numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return seed


class _Meter:
    """Sums and clocks between two lines of the log."""

    def __init__(self, training: TrainingConfig, steps: int, progress: Progress) -> None:
        self.training = training
        self.steps = steps
        self.started = time.perf_counter()
        self.first_update = progress.update
        self._reset(progress, 0.0)

    def _reset(self, progress: Progress, waited: float) -> None:
        self.sums: Sums = {}
        self.since = time.perf_counter()
        self.waited = waited
        self.audio_before = progress.audio_seconds
        self.update_before = progress.update

    def add(self, sums: Sums) -> None:
        for name, value in sums.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def take(self, waited: float, progress: Progress) -> tuple[Sums, dict[str, float]]:
        """The sums so far and timing figures; starts anew."""
        seconds = time.perf_counter() - self.since
        audio = progress.audio_seconds - self.audio_before
        timing = {
            "hours_per_update": audio / 3600 / max(1, progress.update - self.update_before),
            "hours_total": progress.audio_seconds / 3600,
            "audio_per_second": audio / seconds,
            "data_wait": (waited - self.waited) / seconds,
            "seconds_left": self._seconds_left(progress),
        }
        sums = self.sums
        self._reset(progress, waited)
        return sums, timing

    def _seconds_left(self, progress: Progress) -> float:
        done = max(1, progress.update - self.first_update)
        return (time.perf_counter() - self.started) / done * (self.steps - progress.update)

    def left(self, progress: Progress) -> str:
        """Time left, for the progress line."""
        seconds = round(self._seconds_left(progress))
        days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
        if days:
            return f"{days} d {hours} h left"
        return f"{hours} h {minutes:02} min left" if hours else f"{minutes} min {seconds % 60:02} s left"


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    """Handles SIGINT and SIGTERM by `handler` where this thread may."""
    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the update; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._context = _signals(self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __enter__(self) -> _StopSignals:
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
