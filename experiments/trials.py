"""What the experiments share: trainings side by side, each on one core, scored, resumable, as tables.

A trial is a pre-training or a fine-tuning, named; its run lies in WORK/runs/NAME, what it printed in
WORK/logs/NAME.log, what it scored in WORK/scores/NAME.json. Finished ones are not done again.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from firstwords.commands import finetune, pretrain
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.prepare import PrepareOptions, prepare
from firstwords.evaluation import evaluate, in_splits
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.objectives import pretraining_recipe
from firstwords.training.run import read_log

ENGLISH = (
    "speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample", "fsdd", "yesno", "picovoice_barista",
)  # fmt: skip
SENTENCES = ("speechocean762", "kathleen", "librispeech_sample", "ljspeech_sample")
"""English corpora of sentences; digits and yes/no are tasks of their own."""


@dataclass(frozen=True)
class Trial:
    """One training."""

    name: str
    corpora: tuple[str, ...]
    """Corpora under WORK/corpora, or manifests by their path."""
    recipe: str = "ctc-small"
    changes: dict[str, Any] = field(default_factory=dict)
    """To the recipe."""
    source: str = ""
    """Fine-tuning: the trial that it starts from, or a recipe whose shape it takes with random weights."""
    tests: tuple[tuple[str, str], ...] = ()
    """(corpus, split) to score on."""

    @property
    def listens(self) -> bool:
        return not self.source


def prepared(speech: Path, work: Path, names: Iterable[str]) -> None:
    """Opus to WAV shards, once; decoding Opus would slow every epoch."""
    for name in names:
        out = work / "corpora" / name
        if not (out / "manifest.jsonl").exists():
            prepare(speech / name, out, PrepareOptions(shards="wav"))


@dataclass(frozen=True)
class Job:
    """Work for a process of its own."""

    name: str
    work: Callable[..., None]
    """A function of a module."""
    arguments: tuple[Any, ...]
    after: str = ""
    """The job that must be done before, if it is among those that are to be done."""


def run_all(trials: Sequence[Trial], work: Path, at_once: int) -> None:
    """Runs what is not finished, in order, `at_once` side by side; a trial waits for the one it starts from.

    Raises:
        SystemExit: some failed; their names are printed, the others are done.
    """
    waiting = [trial for trial in trials if not finished(work, trial)]
    side_by_side([Job(trial.name, _work, (trial, work), trial.source) for trial in waiting], at_once)


def side_by_side(jobs: Sequence[Job], at_once: int) -> None:
    """Does jobs in order, `at_once` at a time; says which are done.

    Raises:
        SystemExit: some failed; their names are printed, the others are done.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    running: dict[str, Any] = {}
    failed: list[str] = []
    started = time.perf_counter()
    while waiting or running:
        for name, process in list(running.items()):
            if process.exitcode is not None:
                del running[name]
                failed += [name] if process.exitcode else []
                minutes = (time.perf_counter() - started) / 60
                print(f"{minutes:6.1f} min  {'FAILED' if process.exitcode else 'done'}  {name}", flush=True)
        ready = [job for job in waiting if not any(job.after == w.name for w in waiting) and job.after not in running]
        for job in ready[: at_once - len(running)]:
            waiting.remove(job)
            if job.after in failed:
                failed.append(job.name)
                continue
            running[job.name] = context.Process(target=job.work, args=job.arguments, daemon=True)
            running[job.name].start()
        time.sleep(0.5)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see WORK/logs")


def finished(work: Path, trial: Trial) -> bool:
    return scores_path(work, trial).exists()


def scores_path(work: Path, trial: Trial) -> Path:
    return work / "scores" / f"{trial.name}.json"


def scores(work: Path, trial: Trial) -> dict[str, Any]:
    """{"corpus/split": {"wer": ..., "cer": ..., their bounds, "utterances"}} of a fine-tuning; of a pre-training the
    last validation."""
    found: dict[str, Any] = json.loads(scores_path(work, trial).read_text(encoding="utf-8"))
    return found


def _work(trial: Trial, work: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    run = work / "runs" / trial.name
    for folder in ("logs", "scores"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    with open(work / "logs" / f"{trial.name}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        started = time.perf_counter()
        corpora = [Path(name) if "/" in name else work / "corpora" / name for name in trial.corpora]
        if trial.listens:
            recipe: Any = pretraining_recipe(trial.recipe)
            code = pretrain(corpora, run, from_dict(type(recipe), trial.changes, trial.name, recipe))
        else:
            place = work / "runs" / trial.source
            recipe_ = load_recipe(trial.recipe, "finetune", FinetuneConfig)
            config = from_dict(FinetuneConfig, trial.changes, trial.name, recipe_)
            code = finetune(corpora, str(place) if place.exists() else trial.source, run, config)
        if code:
            raise SystemExit(code)
        minutes = (time.perf_counter() - started) / 60
        result = last_validation(run) if trial.listens else _scored(trial, work)
        text = json.dumps(result | {"minutes": round(minutes, 1)}, indent=1)
        scores_path(work, trial).write_text(text + "\n", encoding="utf-8")


def _scored(trial: Trial, work: Path) -> dict[str, Any]:
    recognizer = Recognizer.load(work / "runs" / trial.name)
    result = {}
    for corpus, split in trial.tests:
        place = work / "corpora" / corpus
        found = evaluate(recognizer, in_splits(read_manifest(place), split, place), unknown="count").score
        words, letters = found.interval, found.character_interval
        assert found.characters is not None and words is not None and letters is not None
        result[f"{corpus}/{split}"] = {
            "utterances": len(found.utterances), "wer": found.tokens.rate, "cer": found.characters.rate,
            "wer_low": words.low, "wer_high": words.high, "cer_low": letters.low, "cer_high": letters.high,
            "examples": [(one.scored.reference, one.scored.hypothesis) for one in found.utterances[:3]],
        }  # fmt: skip
    return result


def last_validation(run: Path) -> dict[str, Any]:
    """The last validation of a run's log."""
    lines = [line for line in read_log(run) if any(key.startswith("valid_") for key in line)]
    return {} if not lines else dict(lines[-1])


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def percent(found: dict[str, Any], kind: str) -> str:
    """73.4 (72.8–74.1)."""
    return f"{100 * found[kind]:.1f} ({100 * found[kind + '_low']:.1f}–{100 * found[kind + '_high']:.1f})"


def report(path: Path, text: str) -> None:
    """Prints and keeps."""
    print(text)
    path.write_text(text, encoding="utf-8")
