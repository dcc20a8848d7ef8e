"""Real speech, English: vq-wav2vec with Gumbel softmax and with k-means, and BERT over the codes of each.

    python experiments/vq_wav2vec.py SPEECH WORK

Both variants listen to 7.4 h (transcripts unused), side by side; each then turns the training speech into codes, and
BERT learns from them. Tables and pictures under WORK; the same command goes on where it was stopped. The runs are
WORK/runs/vq-gumbel, vq-kmeans, bert-gumbel and bert-kmeans: features for acoustic models, by `load_encoder`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from trials import ENGLISH, Trial, last_validation, prepared, report, run_all, table

from firstwords.code_pretraining import pretrain_on_codes
from firstwords.coder import load_coder
from firstwords.config import from_dict
from firstwords.features import OwnCodes
from firstwords.report.curves import plot_curves
from firstwords.training.data import choose_splits, read_corpora
from firstwords.training.objectives import pretraining_recipe
from firstwords.training.run import read_log
from firstwords.units import write_units

VARIANTS = {"gumbel": "vq-wav2vec-tiny", "kmeans": "vq-wav2vec-kmeans-tiny"}


@dataclass
class Settings:
    """Where, how long."""

    speech: tyro.conf.Positional[Path]
    """Folder of corpora."""
    work: tyro.conf.Positional[Path]
    """Where everything is written; the same command goes on where it was stopped."""
    steps: int = 8000
    """Updates of listening."""
    bert: str = "code-bert-tiny"
    """Recipe of BERT."""
    bert_steps: int = 6000
    """Updates of BERT."""
    at_once: int = 2
    """Trainings side by side, a core each."""


def listening(variant: str, steps: int) -> Trial:
    changes: dict[str, Any] = {
        "steps": steps, "training": {"log_every": 100, "validate_every": steps // 8, "save_every": 500}
    }  # fmt: skip
    if variant == "gumbel":  # the lowest temperature after 70 % of the updates, as in the paper
        changes["model"] = {"encoder": {"quantizer": {"annealing": "linear", "annealing_updates": int(0.7 * steps)}}}
    return Trial(f"vq-{variant}", ENGLISH, VARIANTS[variant], changes)


def reading(variant: str, settings: Settings) -> None:
    """Codes of the training speech, and BERT over them; whatever is there already is not done again."""
    torch.set_num_threads(1)
    work = settings.work
    (work / "logs").mkdir(parents=True, exist_ok=True)
    with open(work / "logs" / f"bert-{variant}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        source = work / "runs" / f"vq-{variant}"
        training, _ = choose_splits(read_corpora([work / "corpora" / name for name in ENGLISH]), ("train",), (), 0)
        units = work / "units" / variant
        write_units(OwnCodes(load_coder(source, "cpu")), training, units, progress=False)
        recipe: Any = pretraining_recipe(settings.bert)
        every = {"log_every": 100, "validate_every": settings.bert_steps // 8, "save_every": 500}
        config = from_dict(type(recipe), {"steps": settings.bert_steps, "training": every}, settings.bert, recipe)
        if code := pretrain_on_codes([units], work / "runs" / f"bert-{variant}", config, str(source)):
            raise SystemExit(code)


def main() -> None:
    settings = tyro.cli(Settings)
    os.environ["OMP_NUM_THREADS"] = "1"
    prepared(settings.speech, settings.work, ENGLISH)
    run_all([listening(variant, settings.steps) for variant in VARIANTS], settings.work, settings.at_once)
    context = multiprocessing.get_context("spawn")
    with context.Pool(settings.at_once, maxtasksperchild=1) as pool:
        pool.starmap(reading, [(variant, settings) for variant in VARIANTS], chunksize=1)
    heard, read = [], []
    for variant in VARIANTS:
        vq, bert = (last_validation(settings.work / "runs" / f"{kind}-{variant}") for kind in ("vq", "bert"))
        heard.append(
            [
                variant, f"{vq['valid_bits']:.3f}", f"{vq['valid_chance_bits']:.3f}", f"{vq['valid_accuracy']:.3f}",
                f"{vq['valid_codes_used']:.0f}", f"{vq['valid_codes_perplexity']:.1f}",
                f"{vq['valid_combinations_used']:.0f}", f"{vq['valid_combinations_perplexity']:.1f}",
            ]
        )  # fmt: skip
        read.append(
            [
                variant, f"{bert['valid_bits']:.3f}", f"{bert['valid_unigram_bits']:.3f}",
                f"{bert['valid_chance_bits']:.3f}", f"{bert['valid_accuracy']:.3f}",
            ]
        )  # fmt: skip
        for kind, panel in (("vq", "listening"), ("bert", "codes")):
            records = read_log(settings.work / "runs" / f"{kind}-{variant}")
            plot_curves(settings.work / f"{kind}-{variant}.png", **{panel: records}, title=f"{kind}-{variant}")  # type: ignore[arg-type]
    report(
        settings.work / "vq_wav2vec.md",
        table(["quantiser", "bits", "chance", "accuracy", "entries used", "perplexity, summed over codebooks",
               "combinations used", "their perplexity"], heard)
        + "\n"
        + table(["BERT over codes of", "bits", "frequencies alone", "chance", "accuracy"], read),
    )  # fmt: skip


if __name__ == "__main__":
    main()
