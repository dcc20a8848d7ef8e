"""The contrastive loss alone, forward and backward: one product and indices, against gathered vectors.

python benchmarks/contrastive_loss.py --crops 4x10 8x15.6 --out results.json
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from measure import Contender, Step, device, interleave, processor, quiet, save, show, to_json
from torch.profiler import ProfilerActivity, profile

from firstwords.audio import SAMPLE_RATE
from firstwords.losses.contrastive import (
    ContrastConfig,
    ContrastIndices,
    contrast_indices,
    contrastive_logits,
    contrastive_loss,
)
from firstwords.nn.feature_encoder import FeatureEncoder, FeatureEncoderConfig
from firstwords.nn.masking import SpanMaskConfig, draw_spans, leave_one


@dataclass
class Settings:
    """Which losses."""

    crops: tuple[str, ...] = ("4x10", "8x15.6")
    """Utterances x seconds."""
    dims: tuple[int, ...] = (256,)
    """Width in which frames are compared: 256 BASE, 768 LARGE."""
    rounds: int = 10
    """Measured rounds."""
    threads: int = 2
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for crop in settings.crops:
        utterances, seconds = int(crop.split("x")[0]), float(crop.split("x")[1])
        for dim in settings.dims:
            what = (utterances, seconds, dim)
            contenders = [Contender("indices", one_product, what), Contender("gathered vectors", gathered, what)]
            timings = interleave(contenders, settings.rounds, settings.threads)
            show(f"{utterances} x {seconds:g} s, {dim} wide, K = 100, {processor()}", timings, "indices")
            facts: dict[str, Any] = {
                "utterances": utterances, "seconds": seconds, "dim": dim, "threads": settings.threads,
            }  # fmt: skip
            if device().type == "cpu":
                held = {one.name: peak_of_tensors(one.prepare(*what)) for one in contenders}
                facts["tensors_mb"] = held
                print("tensors at their peak: " + ", ".join(f"{name} {mb:.1f} MB" for name, mb in held.items()))
            results.append(to_json(timings, "indices", **facts))
            save(settings.out, results)


def peak_of_tensors(step: Step) -> float:
    """MB of the tensors that a step holds at once; the table's memory has the libraries' buffers and code in it too."""
    step()
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = (event.nbytes() for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]")
    return max(accumulate(events)) / 2**20


def frames_to_compare(
    utterances: int, seconds: float, dim: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, ContrastIndices]:
    """Context, targets and codes of the masked frames of a batch."""
    frames = int(FeatureEncoder(FeatureEncoderConfig()).frames(round(seconds * SAMPLE_RATE)))
    randoms = [np.random.default_rng(number) for number in range(utterances)]
    masks = [leave_one(draw_spans(frames, SpanMaskConfig(), random).mask()) for random in randoms]
    indices = contrast_indices(masks, masks, frames, ContrastConfig(), randoms).to(device())
    torch.manual_seed(1)
    count = len(indices.pool)
    context, targets = (torch.randn(count, dim, device=device(), requires_grad=True) for _ in range(2))
    return context, targets, torch.randint(320, (count, 2), device=device()), indices


def one_product(utterances: int, seconds: float, dim: int) -> Step:
    context, targets, codes, indices = frames_to_compare(utterances, seconds, dim)

    def step() -> None:
        loss = contrastive_loss(contrastive_logits(context, targets, codes, indices, 0.1)).loss
        torch.autograd.grad(loss, (context, targets))

    return step


def gathered(utterances: int, seconds: float, dim: int) -> Step:
    """Every distractor's vector is copied beside its frame, as fairseq and Hugging Face do."""
    context, targets, _, indices = frames_to_compare(utterances, seconds, dim)
    groups, most, _ = indices.sizes
    ends = torch.searchsorted(indices.pool_slots, torch.arange(groups, device=device()) * most)
    choices = (indices.choices + ends[:, None, None]).flatten(0, 1)[indices.scored_slots]

    def step() -> None:
        chosen = targets[choices]  # (p, 1 + K, f)
        same = (chosen == chosen[:, :1]).all(-1)
        same[:, 0] = False
        logits = F.cosine_similarity(context[:, None].float(), chosen.float(), dim=-1) / 0.1
        loss = F.cross_entropy(
            logits.masked_fill(same, float("-inf")),
            torch.zeros(len(logits), dtype=torch.long, device=device()),
            reduction="sum",
        )
        torch.autograd.grad(loss, (context, targets))

    return step


if __name__ == "__main__":
    main()
