"""Everything in miniature: a corpus of synthetic voices, pre-training on sound alone, first words from few transcripts.

The same network learns from the same transcripts without having listened first, so that the worth of listening shows.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from firstwords.commands import finetune, pretrain
from firstwords.config import from_dict, to_dict
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest, write_manifest
from firstwords.corpus.synthetic import demo_sentences, make_corpus, voices
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError
from firstwords.evaluation import evaluate, in_splits
from firstwords.recipes import load_recipe
from firstwords.recognizer import Recognizer
from firstwords.report.curves import plot_curves
from firstwords.scoring import Interval, Score, compare
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log

CORPUS, LISTEN, WORDS, BASELINE = "corpus", "listen", "words", "words-without-listening"
STATE = "demo.json"
PICTURE = "demo.png"
RESULTS = "results.json"
PRETRAIN_RECIPE, FINETUNE_RECIPE = "wav2vec2-tiny", "ctc-small"


@dataclass(frozen=True)
class DemoConfig:
    """How much of everything."""

    sentences: int = 800
    """Sentences to listen to; each is about 2.3 s long, so 800 are 30 minutes."""
    labelled: int = 120
    """How many of them come with their transcript."""
    voices: int = 10
    """Voices that read them; validation and test have others."""
    dev_sentences: int = 40
    """Sentences, by 2 unseen voices, to draw the curves of fine-tuning with."""
    test_sentences: int = 120
    """Unseen sentences by unseen voices to score at the end."""
    test_voices: int = 6
    """Voices that read the test sentences."""
    pretrain_steps: int = 1500
    """Updates of pre-training."""
    finetune_steps: int = 450
    """Updates of each of the two fine-tunings."""
    processes: int = 2
    """Processes that share the training, a core each."""
    seed: int = 1
    """Of voices, sentences, weights and everything else."""

    def check(self) -> None:
        """Raises ConfigError for amounts that no demo can have."""
        for field in dataclasses.fields(self):
            if field.name != "seed" and getattr(self, field.name) < 1:
                raise ConfigError(f"{field.name} must be at least 1, found {getattr(self, field.name)}")
        if self.labelled > self.sentences:
            raise ConfigError(f"{self.labelled} labelled sentences of {self.sentences}")
        needed, there = self.sentences + self.dev_sentences + self.test_sentences, len(demo_sentences())
        if needed > there:
            raise ConfigError(f"{needed} sentences asked for, there are {there}")


@dataclass(frozen=True)
class Finding:
    """One of the two recognisers on the test set."""

    name: str
    score: Score
    heard_minutes: float
    """Audio heard in training, repetitions included."""
    seconds: float
    """Training time."""


def run_demo(out: Path, config: DemoConfig) -> int:
    """Runs the demo in the folder `out`, or goes on with one that was stopped; a finished one starts afresh.

    Returns:
        0, or 128 + n where signal n stopped it (the same call goes on).

    Raises:
        CheckpointError: `out` holds something else.
        ConfigError: amounts that no demo can have, or espeak-ng is not installed.
    """
    config.check()
    stages = _Stages(out, config)
    listening, words = pretraining_config(config), finetuning_config(config)
    random = dataclasses.replace(words, weights="random")
    corpus = out / CORPUS
    console = Console(highlight=False, soft_wrap=True)

    def head(number: int, what: str) -> None:
        console.print(f"\n[bold]{number}/5  {what}[/bold]")

    def learn(place: Path, settings: FinetuneConfig) -> Callable[[], int]:
        return lambda: finetune([corpus], str(out / LISTEN), place, settings)

    head(1, f"Making a corpus: {config.sentences} sentences read by {config.voices} synthetic voices (espeak-ng)")
    stages.run("corpus", lambda: _make(corpus, config))
    utterances = read_manifest(corpus)
    _describe(utterances, console)
    head(2, "Listening: pre-training on the sound alone")
    if code := stages.run("listen", lambda: pretrain([corpus], out / LISTEN, listening)):
        return code
    head(3, "First words: fine-tuning what has listened")
    if code := stages.run("words", learn(out / WORDS, words)):
        return code
    head(4, "For comparison: the same network and transcripts, but it never listened")
    if code := stages.run("baseline", learn(out / BASELINE, random)):
        return code
    head(5, "Test: unseen sentences by unseen voices")
    test = in_splits(utterances, "test", corpus)
    heard = {place: _heard_minutes(out / place) for place in (LISTEN, WORDS, BASELINE)}
    findings = [
        Finding(
            "listened first",
            _score(out / WORDS, test),
            heard[LISTEN] + heard[WORDS],
            stages.seconds["listen"] + stages.seconds["words"],
        ),
        Finding("did not listen", _score(out / BASELINE, test), heard[BASELINE], stages.seconds["baseline"]),
    ]
    _show(findings, console)
    plot_curves(
        out / PICTURE,
        read_log(out / LISTEN),
        {"listened first": read_log(out / WORDS), "did not listen": read_log(out / BASELINE)},
    )
    _write_results(out / RESULTS, findings, stages.seconds)
    stages.finish()
    minutes = sum(stages.seconds.values()) / 60
    console.print(f"\nAll of it took {minutes:.1f} minutes. Curves: {out / PICTURE}    Numbers: {out / RESULTS}")
    console.print("To go on:")
    for command in (
        f"firstwords evaluate {out / WORDS} {corpus}",
        f"firstwords transcribe {out / WORDS} {corpus / 'audio'}",
        f"firstwords pretrain {corpus} --recipe {out / LISTEN / 'config.yaml'} --steps 2000 --out {out}-longer",
    ):
        console.print(f"  {command}", markup=False)
    return 0


def pretraining_config(config: DemoConfig) -> PretrainConfig:
    """The tiny recipe, with the demo's number of updates."""
    every = max(1, config.pretrain_steps // 6)
    changes = {
        "steps": config.pretrain_steps,
        "seed": config.seed,
        "training": {
            "processes": config.processes,
            "log_every": 50,
            "validate_every": every,
            "save_every": every,
        },
    }
    recipe = load_recipe(PRETRAIN_RECIPE, "pretrain", PretrainConfig)
    return from_dict(PretrainConfig, changes, "demo", recipe)


def finetuning_config(config: DemoConfig) -> FinetuneConfig:
    """The recipe for small corpora, fitted to few sentences; weights "random" is the comparison."""
    every = max(1, config.finetune_steps // 8)
    changes = {
        "steps": config.finetune_steps,
        "seed": config.seed,
        # So few sentences of such clean speech are learnt by heart without dropout and masks.
        "adapt": {"dropout": 0.1, "activation_dropout": 0.1, "input_dropout": 0.1},
        "mask": {"probability": 0.15},
        "channel_mask": {"probability": 0.1},
        "training": {
            "batch_seconds": 12,
            "bucket_seconds": 12,
            "micro_batch_seconds": 12,
            "processes": config.processes,
            "validate_every": every,
            "save_every": 2 * every,
        },
    }
    recipe = load_recipe(FINETUNE_RECIPE, "finetune", FinetuneConfig)
    return from_dict(FinetuneConfig, changes, "demo", recipe)


class _Stages:
    """What is done already, and how long each stage took, kept in a file so that a stopped demo goes on.

    Raises:
        CheckpointError: the folder holds something else than a demo.
    """

    def __init__(self, out: Path, config: DemoConfig) -> None:
        self.path = out / STATE
        asked = {
            "demo": to_dict(config),
            "listen": to_dict(pretraining_config(config)),
            "words": to_dict(finetuning_config(config)),
        }
        found = self._read()
        if found is None and out.is_dir() and any(out.iterdir()):
            raise CheckpointError(f"{out}: not empty and no demo; choose another --out")
        if found is not None and (found.get("asked") != asked or found.get("finished")):
            for name in (CORPUS, LISTEN, WORDS, BASELINE):
                shutil.rmtree(out / name, ignore_errors=True)
            for name in (PICTURE, RESULTS):
                (out / name).unlink(missing_ok=True)
            found = None
        self.values: dict[str, Any] = found or {"asked": asked, "done": [], "seconds": {}, "finished": False}
        self.seconds: dict[str, float] = self.values["seconds"]
        out.mkdir(parents=True, exist_ok=True)
        self._write()

    def run(self, name: str, work: Callable[[], int]) -> int:
        """Does a stage unless it is done, and adds up its time; returns its exit code."""
        if name in self.values["done"]:
            return 0
        begun = time.perf_counter()
        try:
            code = work()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
            self._write()
        if code == 0:
            self.values["done"].append(name)
            self._write()
        return code

    def finish(self) -> None:
        """The next call starts afresh."""
        self.values["finished"] = True
        self._write()

    def _read(self) -> dict[str, Any] | None:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return values if isinstance(values, dict) and "asked" in values else None

    def _write(self) -> None:
        temporary = self.path.with_suffix(".part")
        try:
            temporary.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error.strerror})") from error


def _make(corpus: Path, config: DemoConfig) -> int:
    """Training, validation and test speech, no voice or sentence in two of them; most of training without its text."""
    shutil.rmtree(corpus, ignore_errors=True)
    sentences = demo_sentences()
    sentences = [sentences[index] for index in np.random.default_rng(config.seed).permutation(len(sentences))]
    speakers = voices(config.voices + 2 + config.test_voices, config.seed)
    parts = (
        ("train", config.sentences, config.voices),
        ("dev", config.dev_sentences, 2),
        ("test", config.test_sentences, config.test_voices),
    )
    made: list[Utterance] = []
    for split, count, speaking in parts:
        chosen, sentences = sentences[:count], sentences[count:]
        reading, speakers = speakers[:speaking], speakers[speaking:]
        made += make_corpus(corpus, chosen, reading, split, seed=config.seed)
    training = [utterance for utterance in made if utterance.split == "train"]
    kept = {utterance.id for utterance in training[: config.labelled]}
    silent = {utterance.id for utterance in training} - kept
    for number, utterance in enumerate(made):
        if utterance.id in silent:
            extras = {key: value for key, value in utterance.extras.items() if key not in ("words", "phones")}
            made[number] = dataclasses.replace(utterance, text=None, extras=extras)
    write_manifest(made, corpus / MANIFEST_NAME)
    return 0


def _describe(utterances: list[Utterance], console: Console) -> None:
    for split in ("train", "dev", "test"):
        chosen = [utterance for utterance in utterances if utterance.split == split]
        minutes = sum(utterance.duration or 0 for utterance in chosen) / 60
        transcribed = sum(utterance.duration or 0 for utterance in chosen if utterance.text) / 60
        speakers = len({utterance.speaker for utterance in chosen})
        console.print(
            f"      {split:<5} {minutes:5.1f} minutes, {transcribed:.1f} of them transcribed, {speakers} voices"
        )


def _heard_minutes(run: Path) -> float:
    totals = [record["hours_total"] for record in read_log(run) if "hours_total" in record]
    return 60 * totals[-1] if totals else 0.0


def _score(run: Path, test: list[Utterance]) -> Score:
    return evaluate(Recognizer.load(run, "cpu"), test, unknown="count").score


def _show(findings: list[Finding], console: Console) -> None:
    """The table, what the difference is worth, and some transcripts side by side."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "CER (95 % interval)", "WER (95 % interval)", "heard", "time"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for found in findings:
        score = found.score
        characters = score.characters.rate if score.characters else 0.0
        table.add_row(
            found.name,
            _rate(characters, score.character_interval),
            _rate(score.tokens.rate, score.interval),
            f"{found.heard_minutes:.0f} min",
            f"{int(found.seconds) // 60}:{int(found.seconds) % 60:02}",
        )
    console.print(table)
    listened, baseline = (found.score for found in findings)
    console.print(_verdict(listened, baseline))
    others = {one.scored.id: one.scored.hypothesis for one in baseline.utterances}
    best_first = sorted(listened.utterances, key=lambda one: one.characters.rate if one.characters else 0.0)
    count = len(best_first)
    chosen = [best_first[place] for place in dict.fromkeys((count // 10, count // 3, count // 2, 4 * count // 5))]
    console.print("\n[bold]Some of the test, from better to worse[/bold]")
    for one in chosen:
        console.print()
        for name, text, style in (
            ("spoken", one.scored.reference, "bold"),
            (findings[0].name, one.scored.hypothesis, "green"),
            (findings[1].name, others[one.scored.id], "yellow"),
        ):
            console.print(Text.assemble((f"  {name:<15} ", "dim"), (text or "(nothing)", style)))


def _verdict(listened: Score, baseline: Score) -> str:
    """Whether listening helped, in a sentence: the paired difference of the character error rates."""
    first, second = ([one.scored for one in score.utterances] for score in (baseline, listened))
    difference = compare(
        [dataclasses.replace(s, reference=_spaced(s.reference), hypothesis=_spaced(s.hypothesis)) for s in first],
        [dataclasses.replace(s, reference=_spaced(s.reference), hypothesis=_spaced(s.hypothesis)) for s in second],
    )
    points, low, high = (
        100 * value for value in (difference.difference, difference.interval.low, difference.interval.high)
    )
    if not difference.significant:
        return f"Listening changed the character error rate by {points:+.1f} points, which may be chance."
    better = "lowered" if points < 0 else "raised"
    low, high = sorted((abs(low), abs(high)))
    return (
        f"Listening {better} the character error rate by {abs(points):.1f} points "
        f"(95 % interval {low:.1f} to {high:.1f})."
    )


def _spaced(text: str) -> str:
    """Characters as words, so that the comparison counts them."""
    return " ".join(text.replace(" ", "|"))


def _rate(value: float, interval: Interval | None) -> str:
    between = "" if interval is None else f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"
    return f"{100 * value:.1f} %{between}"


def _write_results(path: Path, findings: list[Finding], seconds: dict[str, float]) -> None:
    values = {
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "systems": [
            {
                "name": found.name,
                "minutes_heard": round(found.heard_minutes, 2),
                "training_seconds": round(found.seconds, 1),
            }
            | found.score.to_dict()
            for found in findings
        ],
    }
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
