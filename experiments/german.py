"""German: does listening to another language help, and both?

    python experiments/german.py SPEECH WORK

wav2vec2-tiny listens to German alone (one reader, 1.4 h), to English alone (7.4 h), and to both, for equally many
updates; then 10 minutes of German labels, against random weights and log-mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from labels import WEIGHTS, listening
from trials import ENGLISH, Trial, percent, prepared, report, run_all, scores, table

from firstwords.config import merged

GERMAN = "kerstin_de"


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    steps: int = 2000
    """Updates of each listening, 24 s of audio each."""
    finetune_steps: int = 600
    """Updates of each fine-tuning."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def main() -> None:
    settings = tyro.cli(Settings)
    prepared(settings.speech, settings.work, (*ENGLISH, GERMAN))
    heard = {"German": (GERMAN,), "English": ENGLISH, "both": (*ENGLISH, GERMAN)}
    listened, words = [], []
    for name, corpora in heard.items():
        one = listening(f"listen-{name}", settings.steps)
        listened.append(Trial(one.name, corpora, one.recipe, one.changes))
    for name, weights in [*((name, "pretrained") for name in heard), ("none", "random"), ("none", "logmel")]:
        changes = {
            "steps": settings.finetune_steps, "data": {"hours": 1 / 6},
            "training": {"validate_every": 200, "save_every": 200},
        }  # fmt: skip
        source = "listen-German" if name == "none" else f"listen-{name}"
        tests = ((GERMAN, "dev"), (GERMAN, "test"))
        words.append(
            Trial(f"german-{name}-{weights}", (GERMAN,), "ctc-small", merged(WEIGHTS[weights], changes), source, tests)
        )
    run_all([*listened, *words], settings.work, settings.at_once)
    rows = []
    for trial in words:
        found = scores(settings.work, trial)
        cells = [percent(found[f"{GERMAN}/{split}"], kind) for split in ("dev", "test") for kind in ("wer", "cer")]
        rows.append((*trial.name.split("-")[1:], *cells))
    header = ("heard", "weights", "dev WER % (95 %)", "dev CER %", "test WER %", "test CER %")
    report(settings.work / "german.md", table(header, rows))


if __name__ == "__main__":
    main()
