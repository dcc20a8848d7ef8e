"""English and German together: what is it worth to hear more of the smaller language?

    python experiments/multilingual.py SPEECH WORK

wav2vec2-tiny listens to English (seven corpora, 7.4 h) and German (one reader, 1.4 h) for equally many updates,
sampled with p_l proportional to (n_l / N)^alpha: alpha = 1 keeps their proportions, 0.5 raises German from a sixth to
three tenths of what is heard. Beside them English alone, and both without sampling, as german.py has them (in the same
WORK they are not trained again). Then 10 minutes of German labels for each. What each run heard and knows of a language
is in its log, how alike the languages use its codes in WORK/runs/NAME/languages.png.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from german import GERMAN
from labels import listening
from trials import ENGLISH, Trial, last_validation, percent, prepared, report, run_all, scores, table

from firstwords.config import merged

LANGUAGES = ("de", "en")


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written; the same command goes on where it was stopped."""
    steps: int = 2000
    """Updates of each listening, 24 s of audio each."""
    finetune_steps: int = 600
    """Updates of each fine-tuning."""
    alphas: tuple[float, ...] = (1.0, 0.5)
    """Exponents of the sampling."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def main() -> None:
    settings = tyro.cli(Settings)
    both = (*ENGLISH, GERMAN)
    prepared(settings.speech, settings.work, both)
    heard = {"English": (ENGLISH, None), "both": (both, None)}
    heard |= {f"alpha-{alpha:g}": (both, alpha) for alpha in settings.alphas}
    listened, words = [], []
    for name, (corpora, alpha) in heard.items():
        one = listening(f"listen-{name}", settings.steps)
        changes = merged(one.changes, {} if alpha is None else {"data": {"language_alpha": alpha}})
        listened.append(Trial(one.name, corpora, one.recipe, changes))
        changes = {
            "steps": settings.finetune_steps, "data": {"hours": 1 / 6},
            "training": {"validate_every": 200, "save_every": 200},
        }  # fmt: skip
        tests = ((GERMAN, "dev"), (GERMAN, "test"))
        words.append(Trial(f"german-{name}-pretrained", (GERMAN,), "ctc-small", changes, one.name, tests))
    run_all([*listened, *words], settings.work, settings.at_once)
    rows = []
    for listener, speaker in zip(listened, words, strict=True):
        run = settings.work / "runs" / listener.name
        place = run / "languages.json"
        figures = json.loads(place.read_text(encoding="utf-8"))["languages"] if place.exists() else {}
        cells: list[str] = []
        for key, form in (("hours_heard", ".1f"), ("bits", ".3f"), ("accuracy", ".3f")):
            cells += [f"{figures[name][key]:{form}}" if key in figures.get(name, {}) else "" for name in LANGUAGES]
        found = scores(settings.work, speaker)
        errors = [percent(found[f"{GERMAN}/{split}"], kind) for split in ("dev", "test") for kind in ("wer", "cer")]
        rows.append(
            (listener.name.removeprefix("listen-"), f"{last_validation(run)['valid_bits']:.3f}", *cells, *errors)
        )
    header = ["heard", "held-out bits"]
    header += [f"{what} {name}" for what in ("h heard", "bits", "accuracy") for name in LANGUAGES]
    header += ["dev WER % (95 %)", "dev CER %", "test WER %", "test CER %"]
    report(settings.work / "multilingual.md", table(header, rows))


if __name__ == "__main__":
    main()
