"""Spoken digits: 1, 3 and 10 examples of each, tested on speakers that were never heard with a transcript.

    python experiments/digits.py SPEECH WORK

Starts from the listening of experiments/labels.py in the same WORK (made if missing). Examples come from four of the
six speakers of fsdd in turn; tested are all recordings of the other two, and the corpus's test split (known speakers).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import tyro
from labels import WEIGHTS, listening
from trials import ENGLISH, Trial, percent, prepared, report, run_all, scores, table

from firstwords.config import merged

HELD_OUT = ("fsdd-george", "fsdd-nicolas")
EXAMPLES = (1, 3, 10)


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    steps: int = 14_000
    """Updates of listening, 24 s of audio each."""
    finetune_steps: int = 300
    """Updates of each fine-tuning."""
    seeds: tuple[int, ...] = (1, 2)
    """Which examples, new weights, order."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def main() -> None:
    settings = tyro.cli(Settings)
    prepared(settings.speech, settings.work, ENGLISH)
    held_out(settings.work)
    trials = []
    for examples in EXAMPLES:
        for seed in settings.seeds:
            manifest = chosen(settings.work, examples, seed)
            for weights, changes in WEIGHTS.items():
                more = {
                    "steps": settings.finetune_steps, "seed": seed, "data": {"held_out": 0.0, "valid": ["dev"]},
                    "training": {"validate_every": 100, "save_every": 100, "batch_seconds": 16, "bucket_seconds": 16},
                }  # fmt: skip
                name = f"digits-{examples}-{weights}-{seed}"
                tests = (("fsdd_unheard", "test"), ("fsdd", "test"))
                trials.append(Trial(name, (str(manifest),), "ctc-small", merged(changes, more), "listen", tests))
    run_all([listening("listen", settings.steps), *trials], settings.work, settings.at_once)
    rows = []
    for trial in trials:
        found = scores(settings.work, trial)
        cells = [percent(found[f"{corpus}/test"], "wer") for corpus in ("fsdd_unheard", "fsdd")]
        rows.append((*trial.name.split("-")[1:], *cells))
    header = ("examples", "weights", "seed", "errors % of unheard speakers", "errors % of known speakers")
    report(settings.work / "digits.md", table(header, rows))


def lines(work: Path) -> list[dict[str, object]]:
    """The manifest of fsdd, audio by absolute path."""
    place = work / "corpora" / "fsdd"
    found = [json.loads(line) for line in (place / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    return [one | {"audio": str((place / one["audio"]).resolve())} for one in found]


def held_out(work: Path) -> None:
    """All recordings of the held-out speakers as a corpus."""
    write(work / "corpora" / "fsdd_unheard", [u | {"split": "test"} for u in lines(work) if u["speaker"] in HELD_OUT])


def chosen(work: Path, examples: int, seed: int) -> Path:
    """A manifest of so many examples of each digit, speakers in turn, and a few others to choose the best update by."""
    import random

    by_digit = defaultdict(list)
    for one in lines(work):
        if one["speaker"] not in HELD_OUT:
            by_digit[one["text"]].append(one)
    found = []
    for digit in sorted(by_digit, key=str):
        recordings = by_digit[digit]
        random.Random(f"{seed} {digit}").shuffle(recordings)
        train = [one for one in recordings if one["split"] == "train"]
        speakers = sorted({str(one["speaker"]) for one in train})
        turns = [[one for one in train if one["speaker"] == speaker] for speaker in speakers]
        found += [turns[n % len(turns)][n // len(turns)] for n in range(examples)]
        found += [one for one in recordings if one["split"] == "dev"][: max(1, examples // 3)]
    return write(work / "corpora" / f"digits-{examples}-{seed}", found)


def write(folder: Path, utterances: list[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in utterances)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
