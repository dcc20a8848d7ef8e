"""Does it matter: the paper's ablations at the smallest scale, beside the paper's own figures.

    python experiments/ablations.py SPEECH WORK

Each variant of wav2vec2-tiny listens to the English corpora for the same number of updates; then 10 minutes of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from labels import TESTS, listening
from trials import ENGLISH, SENTENCES, Trial, percent, prepared, report, run_all, scores, table

from firstwords.config import merged

VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "as the recipe": ({}, "7.97"),
    "masks equalised in a batch": ({"model": {"mask": {"equalize": True}}}, "released code"),
    "edges of masks scored (U=5)": ({"model": {"contrast": {"scored": "edges", "edge_frames": 5}}}, "8.19"),
    "centres of spans scored": ({"model": {"contrast": {"scored": "centres"}}}, "-"),
    "20 distractors": ({"model": {"contrast": {"distractors": 20}}}, "-"),
    "200 distractors": ({"model": {"contrast": {"distractors": 200}}}, "8.12"),
    "targets from any frame": ({"model": {"contrast": {"candidates": "all"}}}, "8.07"),
    "codebooks 4 x 18": ({"model": {"quantizer": {"groups": 4, "entries": 18}}}, "9.02"),
    "continuous targets": ({"model": {"quantize_targets": False}}, "8.58"),
}
"""Name: changes, and the paper's WER (BASE, 250 k updates, 10 h of labels; docs: wav2vec 2.0 tables 4, 12, 13)."""


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    steps: int = 1000
    """Updates of each listening, 24 s of audio each."""
    finetune_steps: int = 500
    """Updates of each fine-tuning."""
    variants: tuple[int, ...] = tuple(range(len(VARIANTS)))
    """Which of the variants, by number."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def main() -> None:
    settings = tyro.cli(Settings)
    prepared(settings.speech, settings.work, ENGLISH)
    trials: list[Trial] = []
    chosen = [(number, *list(VARIANTS.items())[number]) for number in settings.variants]
    for number, _, (changes, _) in chosen:
        heard = listening(f"ablation-{number}", settings.steps)
        trials.append(Trial(heard.name, ENGLISH, heard.recipe, merged(heard.changes, changes)))
        words = {
            "steps": settings.finetune_steps, "data": {"hours": 1 / 6},
            "training": {"validate_every": settings.finetune_steps // 2, "save_every": 250},
        }  # fmt: skip
        trials.append(Trial(f"ablation-{number}-words", SENTENCES, "ctc-small", words, heard.name, TESTS))
    run_all(trials, settings.work, settings.at_once)
    rows = []
    for place, (_, name, (_, paper)) in enumerate(chosen):
        heard, words = (scores(settings.work, trial) for trial in trials[2 * place : 2 * place + 2])
        cells = [percent(words[f"{corpus}/test"], "cer") for corpus in SENTENCES[:3]]
        bits = f"{heard['valid_bits']:.2f} of {heard['valid_chance_bits']:.2f}"
        codes = f"{heard['valid_codes_perplexity']:.0f}" if "valid_codes_perplexity" in heard else "-"
        rows.append((name, bits, f"{100 * heard['valid_accuracy']:.1f}", codes, *cells, paper))
    header = ("variant", "bits", "accuracy %", "codes", *(f"CER % {c}" for c in SENTENCES[:3]), "paper's WER %")
    report(settings.work / "ablations.md", table(header, rows))


if __name__ == "__main__":
    main()
