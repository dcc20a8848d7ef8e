"""The loop of a wav2vec-U sweep: updates, looks at the valid split, losers that stop, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from torch import Tensor

from firstwords.checkpoints.own import Checkpoint
from firstwords.config import to_dict
from firstwords.errors import FirstwordsError
from firstwords.scoring import ErrorCounts, word_errors
from firstwords.training.adversarial import Member, Sweep, sweep_batches
from firstwords.training.adversarial_config import AdversarialConfig, Penalties
from firstwords.training.convergence import Verdict, agreement, conclude
from firstwords.training.phone_choice import Judgement, PhoneJudge, choose
from firstwords.training.progress import time_left
from firstwords.training.run import Run
from firstwords.training.signals import StopSignals
from firstwords.training.unpaired import Speech, UnpairedBatches

KIND, MODEL_KIND = "wav2vec-u-sweep", "wav2vec-u"
COMPARED = 5
"""Best members whose outputs are compared with the chosen one's."""


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended."""

    updates: int
    stopped_by: int | None
    """The signal that stopped it, None where all updates are done."""
    chosen: Member | None
    """The best member, None where none has said anything."""
    verdict: Verdict | None


class SweepTraining:
    """A sweep in a run's folder.

    Args:
        config: of the sweep.
        sweep: its members.
        batches: what they read.
        valid: utterances that they are judged on.
        judge: what the text is like.
        run: the folder.
        truth: phones of valid utterances by id, where they are known; logged beside.
        facts: what a model needs to be used, for its checkpoint (JSON).
    """

    def __init__(
        self,
        config: AdversarialConfig,
        sweep: Sweep,
        batches: UnpairedBatches,
        valid: Speech,
        judge: PhoneJudge,
        run: Run,
        truth: dict[str, list[str]] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.sweep, self.batches, self.valid = config, sweep, batches, valid
        self.judge, self.run, self.facts = judge, run, facts or {}
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.updates = 0
        self.halvings = 0
        self.best: dict[int, dict[str, Tensor]] = {}
        """Each member's weights at its best moment."""
        self.said: dict[int, list[list[str]]] = {}
        """What each member said then."""
        self.truth = [" ".join(truth.get(name, ())) for name in valid.ids] if truth and valid.ids else None
        if last := run.last():
            self._restore(last)

    def train(self) -> SweepOutcome:
        """Trains until all updates are done or a signal comes."""
        config, sweep, run = self.config, self.sweep, self.run
        started, first, logged = time.perf_counter(), self.updates, (time.perf_counter(), self.updates)
        with StopSignals() as stop, ThreadPoolExecutor(1) as ahead:
            run.mark(state="running", update=self.updates, steps=config.steps)
            if not self.updates and config.matching.restarts:
                self._validate()  # the start may be the best moment
            coming = ahead.submit(sweep_batches, self.batches, sweep.seeds, self.updates, sweep.device)
            while self.updates < config.steps and sweep.running:
                batches = coming.result()
                if set(sweep.seeds) - set(batches):  # cannot be: members only ever stop
                    batches = sweep_batches(self.batches, sweep.seeds, self.updates, sweep.device)
                if self.updates + 1 < config.steps:
                    coming = ahead.submit(sweep_batches, self.batches, sweep.seeds, self.updates + 1, sweep.device)
                sweep.update(self.updates, {seed: batches[seed] for seed in sweep.seeds})
                self.updates += 1
                done = self.updates == config.steps
                if failed := sweep.failed():
                    self._stop(failed, "failed")
                if self.updates % config.log_every == 0 or done:
                    elapsed = time.perf_counter() - started
                    left = elapsed / (self.updates - first) * (config.steps - self.updates)
                    pace = (self.updates - logged[1]) / (time.perf_counter() - logged[0])
                    self._report(pace, left)
                    logged = (time.perf_counter(), self.updates)
                if self.updates % config.choice.validate_every == 0 or done:
                    self._validate()
                if self.updates % config.save_every == 0 or done or stop.signal is not None:
                    self._save()
                if stop.signal is not None and not done:
                    run.mark(state="stopped", update=self.updates)
                    place = f"stopped after update {self.updates} of {config.steps}"
                    self.console.print(f"{place}; the same command goes on from there", style="bold")
                    return SweepOutcome(self.updates, stop.signal, self.chosen(), self.verdict())
        if not self.best:
            raise FirstwordsError(
                "no member ever said a phone: gradients were not finite or all outputs empty; lower "
                "generator_optimizer.rate and discriminator_optimizer.rate, and look at the features (constant, NaN?)"
            )
        self._save()
        run.mark(state="finished", update=self.updates)
        return SweepOutcome(self.updates, None, self.chosen(), self.verdict())

    def chosen(self) -> Member | None:
        """The best moment of any member, by the paper's two stages."""
        judged = [member for member in self.sweep.members if member.best is not None]
        number = choose([member.best for member in judged if member.best is not None])
        return judged[number] if number >= 0 else None

    def verdict(self) -> Verdict | None:
        """Whether the sweep has converged, in words."""
        member = self.chosen()
        if member is None or member.best is None or member.number not in self.said:
            return None
        others = sorted(
            (m for m in self.sweep.members if m.best is not None and m is not member),
            key=lambda m: m.best.weighted if m.best else math.inf,
        )[:COMPARED]
        silence = self.judge.silence
        agreeing = [agreement(self.said[member.number], self.said[m.number], silence) for m in others]
        return conclude(member.best, agreeing)

    def _report(self, pace: float, left: float) -> None:
        """A line of the log, and one for a person."""
        means = self.sweep.take()
        numbers = [member.number for member in self.sweep.running]
        rounded = {name: [float(f"{value:.5g}") for value in values] for name, values in means.items()}
        self.run.log({
            "update": self.updates, "running": numbers, **rounded, "updates_per_second": pace, "seconds_left": left,
        })  # fmt: skip
        self.run.mark(update=self.updates)

        def median(name: str) -> str:
            values = sorted(means.get(name, [])) or [math.nan]
            return f"{values[len(values) // 2]:.2f}"

        self._say(
            f"{len(numbers)} members  medians: generated {median('told_generated')}  text {median('told_text')}  "
            f"deceiving {median('deceiving')}  penalty {median('penalty')}  symbols {median('choices')}  "
            f"norm {median('norm')}  {pace:.2f} updates/s  {time_left(left)}"
        )

    def _validate(self) -> None:
        """Judges what every running member says; keeps best moments, stops losers, writes the chosen model."""
        phones = self.judge.phones
        judgements: list[Judgement] = []
        for member, ids in zip(
            self.sweep.running, self.sweep.hear(self.valid, self.config.choice.valid_utterances), strict=True
        ):
            said = [[phones[one] for one in utterance] for utterance in ids]
            judgement = self.judge.judge(said, self.updates, self._errors(said))
            judgements.append(judgement)
            if judgement.weighted < (member.best.weighted if member.best else math.inf):
                member.best = judgement
                self.best[member.number] = self.sweep.weights_of(member)
                self.said[member.number] = said
        names = ("weighted", "perplexity", "used", "fluency", "balance", "per")
        figures = {
            f"valid_{name}": [
                None if (value := getattr(one, name)) is None else float(f"{min(value, 1e9):.5g}") for one in judgements
            ]
            for name in names
        }
        self.run.log(
            {"update": self.updates, "valid_members": [member.number for member in self.sweep.running], **figures}
        )
        chosen = self.chosen()
        if chosen is not None and chosen.best is not None:
            best = chosen.best
            per = "" if best.per is None else f"  [PER {best.per:.1%}, not used]"
            self._say(
                f"best so far: {chosen} at update {best.update}: perplexity {best.perplexity:.1f} (text "
                f"{math.exp(self.judge.text_cost):.1f}, shuffled {math.exp(self.judge.shuffled_cost):.1f})  "
                f"phones used {best.used:.0%}  balance {best.balance:.0%}  fluency {best.fluency:.2f}{per}"
            )
            heard = " ".join(phone for phone in self.said[chosen.number][0] if phone != self.judge.silence)
            self.console.print(f"        {heard[:110]}", style="dim")
        self._halve()

    def _errors(self, said: Sequence[Sequence[str]]) -> float | None:
        """Phone error rate, silences left out, over the utterances whose truth is known."""
        if self.truth is None:
            return None
        silence, total = self.judge.silence, ErrorCounts()
        for reference, hypothesis in zip(self.truth, said, strict=False):
            if reference:
                spoken = " ".join(phone for phone in reference.split() if phone != silence)
                total += word_errors(spoken, " ".join(phone for phone in hypothesis if phone != silence))
        return total.rate if total.reference_length else None

    def _halve(self) -> None:
        """Stops the worse half where it is due."""
        shares, keep = self.config.choice.stop_after, self.config.choice.keep
        while self.halvings < len(shares) and self.updates >= shares[self.halvings] * self.config.steps:
            self.halvings += 1
            running = self.sweep.running
            count = max(keep, math.ceil(len(running) / 2))
            ranked = sorted(running, key=lambda one: one.best.weighted if one.best else math.inf)
            if len(ranked) > count:
                self._stop(ranked[count:], "stopped")

    def _stop(self, members: Sequence[Member], state: Any) -> None:
        why = "others say what is more like the text" if state == "stopped" else "gradients are not finite any more"
        self._say(f"{len(members)} of {len(self.sweep.running)} members stop: {why}")
        self.sweep.stop(members, state)

    def _save(self) -> None:
        """Everything to go on from, and the chosen model."""
        sweep, config = self.sweep, to_dict(self.sweep.shape)
        weights = (
            {f"running/{name}": value for name, value in sweep.model.state_dict().items()} if sweep.running else {}
        )
        for number, one in self.best.items():
            weights |= {f"best/{number}/{name}": value for name, value in one.items()}
        moments = {
            f"{network}/{name}": value
            for network, state in zip(("generator", "discriminator"), sweep.optimizer_states(), strict=True)
            for name, value in state.items()
        }
        state = {
            "progress": {"update": self.updates, "halvings": self.halvings},
            "members": [_member_to_dict(member) for member in sweep.members],
            "said": {str(number): [" ".join(one) for one in said] for number, said in self.said.items()},
        }
        self.run.save_last(Checkpoint(KIND, config, weights, moments if sweep.running else {}, self.facts | state))
        member, verdict = self.chosen(), self.verdict()
        if member is not None and member.best is not None and member.number in self.best:
            chosen = {
                "progress": {"update": member.best.update},
                "member": _member_to_dict(member),
                "verdict": None if verdict is None else verdict.to_dict(),
            }
            self.run.save_best(Checkpoint(MODEL_KIND, config, self.best[member.number], {}, self.facts | chosen))
            self.run.mark(chosen=member.number, verdict=None if verdict is None else verdict.text)

    def _restore(self, last: Checkpoint) -> None:
        weights = {name.removeprefix("running/"): v for name, v in last.weights.items() if name.startswith("running/")}
        states = [
            {key.removeprefix(f"{network}/"): v for key, v in last.optimizer.items() if key.startswith(f"{network}/")}
            for network in ("generator", "discriminator")
        ]
        self.sweep.restore(weights, states, [_member_from_dict(one) for one in last.state["members"]])
        for name, value in last.weights.items():
            if name.startswith("best/"):
                _, number, key = name.split("/", 2)
                self.best.setdefault(int(number), {})[key] = value.to(self.sweep.device)
        self.said = {int(number): [one.split() for one in said] for number, said in last.state["said"].items()}
        self.updates = last.state["progress"]["update"]
        self.halvings = last.state["progress"]["halvings"]
        self.run.forget_after(self.updates)
        self.console.print(f"going on in {self.run.folder} after update {self.updates}")

    def _say(self, text: str) -> None:
        self.console.print(f"{self.updates:>7}/{self.config.steps}  {text}")


def _member_to_dict(member: Member) -> dict[str, Any]:
    return to_dict(member) | {"best": None if member.best is None else member.best.to_dict()}


def _member_from_dict(values: dict[str, Any]) -> Member:
    best = values["best"]
    known = {"penalties": Penalties(**values["penalties"]), "best": None if best is None else Judgement(**best)}
    return Member(**(values | known))
