"""The Auto Segmentation Criterion beside torch's CTC, forward and backward, on emissions of the same size.

python benchmarks/asg.py --sizes 16x800x100x31 --out results.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from measure import Contender, Step, device, interleave, processor, save, show, to_json

from firstwords.losses.asg import asg_loss


@dataclass
class Settings:
    """Which sizes."""

    sizes: tuple[str, ...] = ("4x800x100x31", "16x800x100x31", "16x300x40x39", "64x800x100x31")
    """Utterances x frames x labels of each x outputs: WSJ letters in small and large batches, TIMIT phones."""
    rounds: int = 10
    """Measured rounds."""
    threads: int = 1
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for size in settings.sizes:
        numbers = tuple(int(number) for number in size.split("x"))
        contenders = [Contender("torch CTC", ctc, numbers), Contender("ASG", asg, numbers)]
        timings = interleave(contenders, settings.rounds, settings.threads)
        what = "{} utterances, {} frames, {} labels, {} outputs".format(*numbers)
        show(f"{what}, {processor()}, {settings.threads} thread{'s' * (settings.threads > 1)}", timings, "torch CTC")
        results.append(to_json(timings, "torch CTC", size=size, threads=settings.threads))
        save(settings.out, results)


def emissions(utterances: int, frames: int, labels: int, outputs: int) -> tuple[torch.Tensor, ...]:
    """Emissions, lengths, targets and their lengths, the same for all; no label is the blank."""
    torch.manual_seed(1)
    values = torch.randn(utterances, frames, outputs, device=device(), requires_grad=True)
    targets = torch.randint(1, outputs, (utterances, labels), device=device())
    lengths = torch.full((utterances,), frames, device=device())
    return values, lengths, targets, torch.full((utterances,), labels, device=device())


def ctc(utterances: int, frames: int, labels: int, outputs: int) -> Step:
    values, lengths, targets, sizes = emissions(utterances, frames, labels, outputs)

    def step() -> None:
        rows = values.log_softmax(-1).transpose(0, 1)
        F.ctc_loss(rows, targets, lengths, sizes, reduction="sum").backward()
        values.grad = None

    return step


def asg(utterances: int, frames: int, labels: int, outputs: int) -> Step:
    values, lengths, targets, sizes = emissions(utterances, frames, labels, outputs)
    transitions = torch.randn(outputs, outputs, device=device(), requires_grad=True)

    def step() -> None:
        asg_loss(values, lengths, targets, sizes, transitions).sum().backward()
        values.grad = transitions.grad = None

    return step


if __name__ == "__main__":
    main()
