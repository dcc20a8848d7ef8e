"""wav2vec's ablations at a small scale, beside the paper's trend: distractors, future steps, crops.

    python experiments/wav2vec_ablations.py SPEECH WORK

Each variant of wav2vec-tiny listens to the English corpora for the same amount of audio, on one core each; the same
command goes on where it was stopped. Loss and accuracy are not comparable between numbers of distractors or steps, so
each model is also judged by one measure for all: how many of 10 distractors' worth of predictions, 1 to 8 steps ahead,
it tells right on the same validation audio in crops of the same length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from trials import ENGLISH, Trial, prepared, report, run_all, scores, table

from firstwords.checkpoints.models import wav2vec_of
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.config import merged
from firstwords.corpus.manifest import read_manifest
from firstwords.losses.noise_contrastive import draw_all_distractors, noise_contrastive_loss
from firstwords.nn.lengths import normalize_waveform
from firstwords.recipes import load_recipe
from firstwords.training.data import pad
from firstwords.training.wav2vec import Wav2VecPretrainConfig

RECIPE = "wav2vec-tiny"
LIKE = 150_000
"""The paper's crop; the recipe's stands for it, and the others keep their proportion to it."""
JUDGED_STEPS = 8
"""The fewest that a variant predicts."""
JUDGED_DISTRACTORS = 10
JUDGED_SECONDS = 3.0

DISTRACTORS = {1: "16.3", 2: "15.8", 5: "15.9", 10: "15.5", 20: "15.7"}
"""Number: the paper's phoneme error rate on TIMIT dev (as far as it is known; unchecked)."""
STEPS = {8: "-", 12: "best", 16: "no better"}
CROPS = {"none": "worst", "40k": "-", "100k": "-", "150k": "best", "200k": "-"}


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written."""
    steps: int = 1000
    """Updates of each listening."""
    judged: int = 100
    """Validation utterances that all models are judged on."""
    groups: tuple[str, ...] = ("distractors", "steps", "crops")
    """Which of the three."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def variants(settings: Settings, crop_seconds: float) -> list[tuple[str, str, dict[str, Any], str]]:
    """(name of the run, in words, changes to the recipe, the paper's figure or trend)."""
    found: list[tuple[str, str, dict[str, Any], str]] = []
    if "distractors" in settings.groups:
        found += [
            (f"distractors-{n}", f"{n} distractor{'s' * (n > 1)}", {"model": {"contrast": {"distractors": n}}}, paper)
            for n, paper in DISTRACTORS.items()
        ]
    if "steps" in settings.groups:
        found += [(f"steps-{k}", f"{k} steps", {"model": {"steps": k}}, paper) for k, paper in STEPS.items()]
    if "crops" in settings.groups:
        for name, paper in CROPS.items():
            seconds = 60.0 if name == "none" else round(crop_seconds * float(name[:-1]) * 1000 / LIKE, 3)
            room = {"bucket_seconds": 60.0, "micro_batch_seconds": 60.0} if name == "none" else {}
            found.append(
                (f"crop-{name}", f"crops {name}", {"data": {"crop_seconds": seconds}, "training": room}, paper)
            )
    return found


@torch.inference_mode()
def judge(work: Path, run: str, utterances: int) -> list[float]:
    """Accuracy of the first steps among as many distractors for every model, on the same crops of validation audio."""
    checkpoint, where = open_checkpoint(work / "runs" / run)
    model = wav2vec_of(checkpoint, where).eval()
    contrast = replace(model.config.contrast, distractors=JUDGED_DISTRACTORS, batch_distractors=0)
    size = round(JUDGED_SECONDS * 16_000)
    held = [u for name in ENGLISH for u in read_manifest(work / "corpora" / name) if u.split in ("dev", "valid")]
    chosen = [u for u in sorted(held, key=lambda u: u.id) if (u.duration or 0) >= JUDGED_SECONDS][:utterances]
    correct, made = torch.zeros(JUDGED_STEPS), torch.zeros(JUDGED_STEPS)
    for start in range(0, len(chosen), 10):
        waveforms = [torch.from_numpy(u.read()) for u in chosen[start : start + 10]]
        if model.config.encoder.normalize_waveform:
            waveforms = [normalize_waveform(waveform[None])[0] for waveform in waveforms]
        padded, lengths = pad([waveform[:size] for waveform in waveforms])
        result = model(padded, lengths)
        randoms = [np.random.default_rng([7, start + number]) for number in range(len(waveforms))]
        drawn = draw_all_distractors(result.lengths.tolist(), result.targets.shape[1], contrast, randoms)
        found = noise_contrastive_loss(
            result.predictions[:, :, :JUDGED_STEPS], result.targets, result.lengths, drawn, model.offset, contrast
        )
        correct, made = correct + found.correct, made + found.predictions
    return (correct / made).tolist()


def main() -> None:
    settings = tyro.cli(Settings)
    prepared(settings.speech, settings.work, ENGLISH)
    recipe = load_recipe(RECIPE, "pretrain", {"wav2vec": Wav2VecPretrainConfig})
    chosen = variants(settings, recipe.data.crop_seconds)
    every = max(1, settings.steps // 4)
    shared = {"steps": settings.steps, "training": {"validate_every": every, "save_every": every}}
    trials = [Trial(f"wav2vec-{name}", ENGLISH, RECIPE, merged(shared, changes)) for name, _, changes, _ in chosen]
    run_all(trials, settings.work, settings.at_once)
    rows = []
    for trial, (_, words, _, paper) in zip(trials, chosen, strict=True):
        heard, judged = scores(settings.work, trial), judge(settings.work, trial.name, settings.judged)
        own = f"{heard['valid_bits']:.2f} of {heard['valid_chance_bits']:.2f}"
        mean = 100 * sum(judged) / len(judged)
        ends = [f"{100 * judged[step]:.1f}" for step in (0, -1)]
        rows.append((words, own, f"{mean:.1f}", *ends, heard["minutes"], paper))
    among = f"accuracy % among {JUDGED_DISTRACTORS}"
    header = ("variant", "own bits", among, "step 1", f"step {JUDGED_STEPS}", "minutes", "paper: TIMIT dev PER %")
    report(settings.work / "wav2vec-ablations.md", table(header, rows))


if __name__ == "__main__":
    main()
