"""Real speech: what frozen features know of speakers, digits and gender, against log-mel bands and random weights.

    python experiments/probes.py SPEECH WORK --source RUN

Each probe is `firstwords classify train` and `evaluate` on one corpus: speakers of speechocean762 and of fsdd (own
splits by utterance, the same speakers on both sides), digits (fsdd), gender and speaker verification (speechocean762,
own split by speaker). One command, which goes on where it was stopped; tables and pictures under WORK/probes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from trials import prepared, report, table

from firstwords.classification import evaluate_classifier, train_classifier
from firstwords.classifier import SpeechClassifier
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.evaluation import in_splits
from firstwords.recipes import load_recipe
from firstwords.report.classification import plot_confusions
from firstwords.scoring import Interval
from firstwords.training.classify_config import ClassifyConfig

FEATURES: dict[str, dict[str, Any]] = {
    "pretrained": {},
    "random": {"weights": "random"},
    "logmel": {"frontend": "log_mel"},
}


@dataclass(frozen=True)
class Probe:
    """One task."""

    name: str
    corpus: str
    label: str
    split: Callable[[list[Utterance]], list[Utterance]]
    recipe: str = "probe-small"
    batch: float = 240.0
    """Seconds of audio of an update."""


def by_utterance(utterances: list[Utterance]) -> list[Utterance]:
    """Of each speaker 60 % of the utterances to learn from, 15 to validate and 25 to test on, by a hash of the id."""
    return _by_share(utterances, lambda u: str(u.speaker), lambda u: u.id)


def by_speaker(utterances: list[Utterance]) -> list[Utterance]:
    """60, 15 and 25 % of the speakers, by a hash of their names."""
    return _by_share(utterances, lambda u: "", lambda u: str(u.speaker))


def as_it_is(utterances: list[Utterance]) -> list[Utterance]:
    """The corpus's own split, by recording."""
    return utterances


def _by_share(
    utterances: list[Utterance], group: Callable[[Utterance], str], name: Callable[[Utterance], str]
) -> list[Utterance]:
    groups: dict[str, set[str]] = {}
    for one in utterances:
        groups.setdefault(group(one), set()).add(name(one))
    split: dict[tuple[str, str], str] = {}
    for key, names in groups.items():
        ranked = sorted(names, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
        for place, text in enumerate(ranked):
            share = (place + 0.5) / len(ranked)
            split[key, text] = "test" if share < 0.25 else "dev" if share < 0.4 else "train"
    return [replace(one, split=split[group(one), name(one)]) for one in utterances]


PROBES = (
    Probe("digits", "fsdd", "text", as_it_is),
    Probe("speakers6", "fsdd", "speaker", by_utterance),
    Probe("speakers225", "speechocean762", "speaker", by_utterance, batch=960.0),
    Probe("gender", "speechocean762", "gender", by_speaker, batch=960.0),
    Probe("verification", "speechocean762", "speaker", by_speaker, recipe="xvector-small"),
)


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written; prepared corpora are taken from WORK/corpora where they are there."""
    source: Path
    """The pre-training run (experiments/labels.py makes one: WORK/runs/listen)."""
    steps: int = 2000
    """Updates of a probe."""
    verification_steps: int = 160
    """Updates of an x-vector head, 64 s of audio each."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of new weights and order, on fsdd."""
    large_seeds: tuple[int, ...] = (1,)
    """The same on speechocean762, which takes longer."""
    probes: tuple[str, ...] = tuple(probe.name for probe in PROBES)
    """Which."""
    features: tuple[str, ...] = tuple(FEATURES)
    """Which."""


def main() -> None:
    settings = tyro.cli(Settings)
    torch.set_num_threads(1)
    chosen = [probe for probe in PROBES if probe.name in settings.probes]
    prepared(settings.speech, settings.work, {probe.corpus for probe in chosen})
    place = settings.work / "probes"
    for probe in chosen:
        for seed in settings.seeds if probe.corpus == "fsdd" else settings.large_seeds:
            for features in settings.features:
                run_probe(probe, features, seed, settings, place)
    report(place / "probes.md", tables(place))


def run_probe(probe: Probe, features: str, seed: int, settings: Settings, place: Path) -> None:
    """Trains and scores one, unless its scores are there."""
    name = f"{probe.name}-{features}-{seed}"
    scores = place / "scores" / f"{name}.json"
    if scores.exists():
        return
    scores.parent.mkdir(parents=True, exist_ok=True)
    corpus = place / "corpora" / probe.name
    if not (corpus / "manifest.jsonl").exists():
        utterances = probe.split(read_manifest(settings.work / "corpora" / probe.corpus))
        write_manifest(utterances, corpus / "manifest.jsonl")
    run = place / "runs" / name
    xvector = probe.recipe == "xvector-small"
    steps = settings.verification_steps if xvector else settings.steps
    training: dict[str, Any] = {"validate_every": max(1, steps // 5), "save_every": max(1, steps // 5)}
    batch = 64.0 if xvector else probe.batch
    sizes = {"batch_seconds": batch, "bucket_seconds": batch / 4, "micro_batch_seconds": batch / 4}
    changes = merged(FEATURES[features], {"steps": steps, "seed": seed, "data": {"label": probe.label}})
    recipe = load_recipe(probe.recipe, "classify", ClassifyConfig)
    config = from_dict(ClassifyConfig, merged(changes, {"training": training | sizes}), name, recipe)
    started = time.perf_counter()
    if train_classifier([corpus], str(settings.source), run, config):
        raise SystemExit(f"{name}: stopped; the same command goes on")
    classifier = SpeechClassifier.load(run)
    found = evaluate_classifier(classifier, in_splits(read_manifest(corpus), "test", corpus))
    minutes = (time.perf_counter() - started) / 60
    result: dict[str, Any] = {"minutes": round(minutes, 1), "layers": classifier.model.head.shares}
    if found.score is not None:
        score = found.score
        result |= {
            "utterances": len(score.utterances), "classes": len(score.labels), "majority": score.majority,
            "accuracy": _three(score.accuracy, score.accuracy_interval),
            "macro_f1": _three(score.macro_f1, score.macro_f1_interval),
        }  # fmt: skip
        plot_confusions(place / f"{name}.png", score, f"{probe.name}, {features}")
    if found.verification is not None and probe.recipe == "xvector-small":
        verification = found.verification
        result |= {
            "eer": _three(verification.equal_error_rate, verification.interval),
            "cost": verification.detection_cost, "same": verification.same, "different": verification.different,
        }  # fmt: skip
    scores.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _three(value: float, interval: Interval | None) -> list[float]:
    return [value, interval.low, interval.high] if interval else [value, value, value]


def tables(place: Path) -> str:
    """What has been scored so far."""
    rows, trials = [], []
    order = {probe.name: number for number, probe in enumerate(PROBES)}
    paths = sorted(
        (place / "scores").glob("*.json"),
        key=lambda p: (order[p.stem.split("-")[0]], list(FEATURES).index(p.stem.split("-")[1]), p.stem),
    )
    for path in paths:
        probe, features, seed = path.stem.split("-")
        found = json.loads(path.read_text(encoding="utf-8"))
        layers = " ".join(f"{share:.2f}" for share in found["layers"])
        if "eer" in found:
            trials.append((features, seed, found["same"], found["different"], _percent(found["eer"]),
                           f"{found['cost']:.3f}", layers, found["minutes"]))  # fmt: skip
        else:
            figures = (_percent(found["accuracy"]), f"{100 * found['macro_f1'][0]:.1f}", layers, found["minutes"])
            majority = f"{100 * found['majority']:.1f}"
            rows.append((probe, features, seed, found["utterances"], found["classes"], majority, *figures))
    header = ("probe", "features", "seed", "test utterances", "classes", "commonest class %", "accuracy % (95 %)",
              "macro-F1 %", "layers heard", "minutes")  # fmt: skip
    text = table(header, rows)
    if trials:
        columns = ("features", "seed", "pairs by one", "by two", "EER % (95 %)", "least cost", "layers", "minutes")
        text += "\n" + table(columns, trials)
    return text


def _percent(value: list[float]) -> str:
    """73.4 (72.8–74.1)."""
    middle, low, high = (100 * one for one in value)
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


if __name__ == "__main__":
    main()
