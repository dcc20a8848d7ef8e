"""An update of training, ours against a peer's, over sizes, batches, precisions and dropouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from measure import Contender, Parts, Step, device, interleave, processor, save, show, to_json
from sizes import MIXED, forward_flop, pretraining

from firstwords.audio import SAMPLE_RATE
from firstwords.nn.precision import fast_bfloat16

Prepare = Callable[..., Step]
"""Of size, seconds of each utterance, precision, dropout; ours also takes whether blocks are compiled."""


@dataclass
class Settings:
    """Which updates."""

    sizes: tuple[str, ...] = ("base",)
    """base, large (the shape of LV-60k)."""
    crops: tuple[str, ...] = ("4x10", "8x15.6")
    """Utterances x seconds; "mixed": eight of 2 to 24 s (fine-tuning)."""
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    """bfloat16 means autocast on both sides; "auto" theirs only, where ours does not find it fast on this hardware."""
    dropouts: tuple[float, ...] = (0.0, 0.1)
    """All dropouts of both."""
    compiled: bool = False
    """Ours with compiled Transformer blocks (training.compile) as one more contender."""
    rounds: int = 5
    """Measured rounds."""
    warmup: int = 2
    """Rounds before them."""
    threads: int = 2
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


def compare(ours: Prepare, theirs: Prepare, frozen: bool = False) -> None:
    """Times both, prints a table for each kind of update, and writes JSON; settings from the command line.

    Args:
        frozen: no gradient reaches the feature encoder.
    """
    settings = tyro.cli(Settings)
    results = []
    for size in settings.sizes:
        for crop in settings.crops:
            utterances, _, seconds = crop.partition("x")
            lengths = MIXED if crop == "mixed" else int(utterances) * (float(seconds),)
            for precision in settings.precisions:
                for dropout in settings.dropouts:
                    half = precision == "bfloat16" or (precision == "auto" and fast_bfloat16(device()))
                    what = (size, lengths, "bfloat16" if half else "float32", dropout)
                    peer = (size, lengths, "bfloat16" if precision == "auto" else precision, dropout)
                    encoder = pretraining(size, dropout).model.encoder
                    passes = [forward_flop(encoder, round(one * SAMPLE_RATE)) for one in lengths]
                    flop = sum((1 if frozen else 3) * features + 3 * rest for features, rest in passes)
                    contenders = [
                        Contender("firstwords", ours, what, flop),
                        Contender("transformers", theirs, peer, flop),
                    ]
                    if settings.compiled:
                        contenders.insert(1, Contender("firstwords, compiled", ours, (*what, True), flop))
                    timings = interleave(contenders, settings.rounds, settings.threads, what[2], settings.warmup)
                    title = f"{size}, {crop} s, {precision}, dropout {dropout:g}, {processor()}"
                    show(title, timings, "firstwords")
                    facts = {"size": size, "seconds": list(lengths), "precision": precision, "dropout": dropout}
                    facts["threads"] = settings.threads
                    results.append(to_json(timings, "firstwords", **facts))
                    save(settings.out, results)


def learn(loss: torch.Tensor, optimizer: torch.optim.Optimizer, parts: Parts) -> None:
    """The second half of an update: gradients and the optimiser's step, timed."""
    loss.backward()
    parts.done("backward")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    parts.done("optimizer")
