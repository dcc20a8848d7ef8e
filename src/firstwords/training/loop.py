"""The training loop: one for every objective.

Every loss is a sum over micro-batches and processes that is divided once, by counts of the whole update, so that the
gradient does not depend on how the update is split. Every random choice follows from (seed, update), so that a run
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from firstwords.errors import CorpusError, FirstwordsError
from firstwords.nn.precision import fast_bfloat16
from firstwords.training.config import LoopConfig
from firstwords.training.optimizers import make_optimizer
from firstwords.training.processes import Processes
from firstwords.training.progress import Meter, Progress, restore, snapshot, time_left
from firstwords.training.run import SKIPPED, Run
from firstwords.training.schedule import learning_rate
from firstwords.training.signals import StopSignals
from firstwords.training.task import Task

MOST_SKIPPED = 20
"""Updates in a row whose gradients may be infinite, or whose recordings unusable, before a run gives up."""


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    progress: Progress
    stopped_by: int | None
    """The signal that stopped it, None where all updates are done."""


def train(task: Task[Any], training: LoopConfig, steps: int, seed: int, run: Run, processes: Processes) -> Outcome:
    """Trains until `steps` updates are done or a signal comes; goes on from the run's last checkpoint."""
    return _Trainer(task, training, steps, seed, run, processes).train()


class _Trainer:
    def __init__(
        self, task: Task[Any], training: LoopConfig, steps: int, seed: int, run: Run, processes: Processes
    ) -> None:
        self.task, self.training, self.steps, self.seed = task, training, steps, seed
        self.run, self.processes = run, processes
        self.console = Console(highlight=False, markup=False, soft_wrap=True, quiet=not processes.main)
        self.model = task.model.to(processes.device).train()
        self.optimizer = make_optimizer(self.model, training.optimizer)
        self.progress = restore(run, self.model, self.optimizer)
        if self.progress.update:
            self.console.print(f"going on in {run.folder} after update {self.progress.update}")
        self.module: nn.Module = self.model
        if processes.count > 1:
            self.module = DistributedDataParallel(self.model, find_unused_parameters=True)
        self.meter = Meter(steps, self.progress, getattr(task, "unit", "seconds"))
        self.rate = 0.0
        self.infinite = self.unusable = 0  # updates in a row

    def train(self) -> Outcome:
        progress, every = self.progress, self.training
        if self._at_its_best():  # killed before it could be marked as finished
            self.run.mark(state="finished", update=progress.update)
            return Outcome(progress, None)
        with StopSignals() as stop:
            self.run.mark(state="running", update=progress.update, steps=self.steps)
            for batches, after in self.task.loader.updates(progress.update, progress.position, self.steps):
                self.rate = learning_rate(every.schedule, progress.update, self.steps)
                torch.manual_seed(_mix(self.seed, progress.update, self.processes.rank))
                counts, languages, signals, lacking = self._count(batches, stop.signal)
                if float(counts[0]) > 0:
                    self._update(batches, counts, lacking > 0)
                else:
                    self._pass_over(after.index == 0)
                progress.update, progress.position = progress.update + 1, after
                progress.hear(float(counts[-1]), languages)

                done = progress.update == self.steps
                if progress.update % every.log_every == 0 or done:
                    self._report()
                if progress.update % every.validate_every == 0 or done:
                    self._validate()
                    done = done or self._at_its_best()
                if progress.update % every.save_every == 0 or done or signals:
                    self.run.save_last(snapshot(self.task, progress, self.optimizer))
                if signals and not done:
                    self.run.mark(state="stopped", update=progress.update)
                    place = f"stopped after update {progress.update} of {self.steps}"
                    self.console.print(f"{place}; the same command goes on from there", style="bold")
                    return Outcome(progress, stop.signal or signal.SIGTERM)
                if done:
                    break
        self.run.mark(state="finished", update=progress.update)
        return Outcome(progress, None)

    def _count(self, batches: list[Any], stop: int | None) -> tuple[Tensor, dict[str, float], float, float]:
        """Over all processes: the task's counts, seconds of each language where it tells them apart, signals that came,
        and how many processes have nothing to do."""
        names: tuple[str, ...] = getattr(self.task, "languages", ())
        own = torch.tensor([float(stop or 0), float(not batches)], dtype=torch.double)
        heard = [self.task.heard(batches)] if names else []  # type: ignore[attr-defined]
        everyone = self.processes.sum(torch.cat([*heard, self.task.count(batches), own]))
        signals, lacking = everyone[-2:].tolist()
        languages = dict(zip(names, everyone.tolist(), strict=False))
        return everyone[len(names) : -2], languages, signals, lacking

    def _update(self, batches: list[Any], counts: Tensor, lacking: bool) -> None:
        """Gradients of all micro-batches, then one step of the optimiser.

        DistributedDataParallel wants a backward pass of every process; `lacking` one, gradients are averaged after it.
        """
        update = self.progress.update
        module = self.model if lacking else self.module
        with self._autocast():
            whole = self.task.survey(batches, update, counts, lacking)
        for number, batch in enumerate(batches):
            with self._gradients_stay_here(number + 1 < len(batches)):
                with self._autocast():
                    loss, sums = self.task.loss(module, batch, update, counts, whole)
                loss = loss * self.processes.count  # counts have divided it; the mean over processes will again
                loss.backward()
            self.meter.add(sums)
        if lacking:
            self.processes.average_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.training.optimizer.clip_norm or math.inf)
        one = torch.ones((), dtype=torch.double)
        if bool(torch.isfinite(norm)):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * group.get("rate_scale", 1.0)
            self.optimizer.step()
            self.infinite = 0
            self.meter.add({"gradient_norm": norm.detach().double(), "updates": one})
        else:
            self.infinite += 1
            self.meter.add({"updates_skipped": one})
            if self.infinite == MOST_SKIPPED:
                raise FirstwordsError(
                    f"gradients were not finite for {self.infinite} updates up to update {update}; lower "
                    "training.schedule.peak, or set training.precision to float32"
                )
        self.optimizer.zero_grad(set_to_none=True)
        self.unusable = 0

    def _pass_over(self, epoch_ends: bool) -> None:
        """An update of which no recording could be used."""
        self.unusable += 1
        if self.unusable == MOST_SKIPPED or (epoch_ends and self.unusable > self.progress.position.index):
            raise CorpusError(
                f"no recording of {self.unusable} update{'s' * (self.unusable > 1)} in a row could be used, up to "
                f"update {self.progress.update}; are they still there? Is there sound in them (firstwords audit)? What "
                f"was wrong with each is in {self.run.folder / SKIPPED}; the same command goes on once that is mended"
            )

    def _report(self) -> None:
        """A line of the log, and one for a person."""
        progress = self.progress
        own, timing = self.meter.take(self.task.loader.waited, progress)
        sums = self.processes.merge(own)
        if not sums:
            return
        updates, norms, skipped = (
            float(sums.pop(name, 0.0)) for name in ("updates", "gradient_norm", "updates_skipped")
        )
        figures = self.task.describe(sums) | {"learning_rate": self.rate} | timing
        figures["gradient_norm"] = norms / updates if updates else math.nan
        if skipped:
            figures["updates_skipped"] = skipped / self.processes.count
        verdict, sentence = self.task.judge(progress.update, figures)
        self.run.log({"update": progress.update, **figures, "health": verdict})
        self._say(
            f"{self.task.line(figures)}  rate {self.rate:.1e}  norm {figures['gradient_norm']:.2g}  "
            f"{self.meter.amount(timing)}  "
            f"waiting {timing['data_wait']:.0%}  {time_left(timing['seconds_left'])}"
        )
        if sentence:
            self.console.print(sentence, style="bold yellow" if verdict != "healthy" else "green")
        self.run.mark(update=progress.update, health=verdict)

    def _validate(self) -> None:
        """Validates in the main process, while the others wait, and keeps the best checkpoint."""
        if self.processes.main:
            random = torch.get_rng_state()
            self.model.eval()
            with torch.no_grad(), self._autocast():
                figures = self.task.validate(self.progress.update)
            self.model.train()
            torch.set_rng_state(random)
            if figures:
                named = {f"valid_{name}": value for name, value in figures.items()}
                self.run.log({"update": self.progress.update, **named})
                self._say(f"validation  {self.task.line(figures)}")
                for example in self.task.examples():
                    self.console.print(example, style="dim")
            score = figures.get(self.task.best_is_low, -math.inf)  # with nothing to validate on, the last is best
            self.progress.stale = 0 if score < self.progress.best else self.progress.stale + 1
            if score <= self.progress.best:
                self.progress.best = score if figures else math.inf
                self.run.save_best(snapshot(self.task, self.progress))
        self.processes.wait()

    def _at_its_best(self) -> bool:
        """Whether so many validations have brought nothing better that the task wants to stop."""
        patience = getattr(self.task, "patience", 0)
        if not patience:
            return False
        own = torch.tensor([float(self.progress.stale if self.processes.main else 0)], dtype=torch.double)
        stale = float(self.processes.sum(own))
        if stale >= patience:
            self._say(f"no better {self.task.best_is_low} for {stale:.0f} validations: this is where it ends")
        return stale >= patience

    def _say(self, text: str) -> None:
        self.console.print(f"{self.progress.update:>7}/{self.steps}  {text}")

    def _autocast(self) -> AbstractContextManager[Any]:
        """The chosen precision, for forward passes."""
        device, precision = self.processes.device, self.training.precision
        if precision == "bfloat16" or (precision == "auto" and fast_bfloat16(device)):
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def _gradients_stay_here(self, more_to_come: bool) -> AbstractContextManager[Any]:
        """Keeps processes from exchanging gradients before the last micro-batch."""
        if more_to_come and isinstance(self.module, DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()


def _mix(*numbers: int) -> int:
    """One seed of several numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return seed
