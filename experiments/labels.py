"""Real speech, English: what listening first is worth with 10 minutes, an hour, and all of the labels.

    python experiments/labels.py SPEECH WORK

wav2vec2-tiny listens to 7.4 h (transcripts unused); ctc-small then learns from the labels, from those weights, from
random ones, and from log-mel bands in place of the feature encoder: same Transformer, same updates. Three seeds at 10
minutes. Also how CER after 10 minutes of labels falls with what was heard. Tables and a picture under WORK.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from trials import ENGLISH, SENTENCES, Trial, percent, prepared, report, run_all, scores, table

from firstwords.config import merged
from firstwords.report.curves import plot_curves
from firstwords.training.run import read_log

HOURS = {"10min": 1 / 6, "1h": 1.0, "all": 0.0}
STEPS = {"10min": 800, "1h": 1600, "all": 2400}
VALIDATE = {"10min": 200, "1h": 400, "all": 600}
SEEDS = {"10min": (1, 2, 3), "1h": (1,), "all": (1,)}
TESTS = tuple((corpus, split) for corpus in SENTENCES[:3] for split in ("dev", "test"))
WEIGHTS = {
    "pretrained": {},
    "random": {"weights": "random"},
    "logmel": {"weights": "random", "frontend": "log_mel"},
}


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written; the same command goes on where it was stopped."""
    steps: int = 14_000
    """Updates of listening, 24 s of audio each."""
    heard: tuple[int, ...] = (1000, 4000)
    """Shorter listenings, for CER against hours heard."""
    labels: tuple[str, ...] = ("10min", "1h", "all")
    """How much transcribed speech."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def listening(name: str, steps: int) -> Trial:
    schedule = {"warmup": max(0.03, min(0.15, 400 / steps))}
    training = {"schedule": schedule, "log_every": 100, "validate_every": steps // 4, "save_every": 1000}
    return Trial(
        name, ENGLISH, "wav2vec2-tiny", {"steps": steps, "data": {"crop_seconds": 2.0}, "training": training}
    )  # fmt: skip


def speaking(label: str, weights: str, seed: int, source: str = "listen") -> Trial:
    changes = {
        "steps": STEPS[label], "seed": seed, "data": {"hours": HOURS[label]},
        "training": {"validate_every": VALIDATE[label], "save_every": VALIDATE[label]},
    }  # fmt: skip
    name = f"words-{label}-{weights if source == 'listen' else source}-{seed}"
    return Trial(name, SENTENCES, "ctc-small", merged(WEIGHTS[weights], changes), source, TESTS)


def main() -> None:
    settings = tyro.cli(Settings)
    prepared(settings.speech, settings.work, ENGLISH)
    listened = [listening("listen", settings.steps)]
    listened += [listening(f"listen-{steps}", steps) for steps in settings.heard]
    words = [
        speaking(label, weights, seed) for label in settings.labels for seed in SEEDS[label] for weights in WEIGHTS
    ]
    heard = [speaking("10min", "pretrained", 1, f"listen-{steps}") for steps in settings.heard]
    run_all([*listened, *words, *heard], settings.work, settings.at_once)
    rows = []
    for trial in words:
        label, weights, seed = trial.name.split("-")[1:]
        found = scores(settings.work, trial)
        for place in (f"{corpus}/{split}" for corpus, split in TESTS):
            one = found[place]
            rows.append((label, weights, seed, place, one["utterances"], percent(one, "wer"), percent(one, "cer")))
    text = table(("labels", "weights", "seed", "corpus", "utterances", "WER % (95 %)", "CER % (95 %)"), rows)
    rows = []
    for steps, name in [(0, "random"), *((s, f"listen-{s}") for s in settings.heard), (settings.steps, "pretrained")]:
        source = name if name.startswith("listen") else "listen"
        weights = name if source == "listen" else "pretrained"
        found = scores(settings.work, speaking("10min", weights, 1, source))
        cells = [percent(found[f"{corpus}/test"], "cer") for corpus in SENTENCES[:3]]
        rows.append((steps, f"{steps * 24 / 3600:.1f}", *cells))
    text += "\n" + table(("updates", "hours heard", *(f"CER % {corpus}" for corpus in SENTENCES[:3])), rows)
    report(settings.work / "labels.md", text)
    curves = {
        f"{label}, {weights}": read_log(settings.work / "runs" / speaking(label, weights, 1).name)
        for label in settings.labels for weights in WEIGHTS
    }  # fmt: skip
    plot_curves(settings.work / "labels.png", read_log(settings.work / "runs" / "listen"), curves)


if __name__ == "__main__":
    main()
