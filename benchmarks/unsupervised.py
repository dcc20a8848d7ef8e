"""wav2vec-U: updates of a sweep with 1, 8 and more members, against the networks as one would write them down.

    python benchmarks/unsupervised.py --members 1 8 --rounds 5 --out results.json
    python benchmarks/unsupervised.py --members 60 --batch 16 --no-plain

A step is two updates, one of each network, of all members: made-up segments of 512 dimensions, 30 to 80 an utterance
(14 a second), as many as the sentences' phones; nothing is joined, which is the dearest case. "plain" has one member,
three convolutions, and a gradient penalty by differentiating twice, and clips and steps alike.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from measure import CEILING, Contender, Step, device, interleave, processor, save, show, to_json
from torch import nn

from firstwords.models.wav2vec_u import Wav2VecUConfig
from firstwords.nn.lengths import length_mask
from firstwords.training.adversarial import Sweep, sweep_batches
from firstwords.training.adversarial_config import AdversarialConfig, GridConfig
from firstwords.training.unpaired import Speech, Text, UnpairedBatches

DIM, PHONES = 512, 40


@dataclass
class Settings:
    """How many members, and how much they read."""

    members: tuple[int, ...] = (1, 8)
    """Contenders: sweeps of so many members, one seed for every 12."""
    batch: int = 160
    """Utterances, and sentences, of an update."""
    plain: bool = True
    """Time the networks as one would write them down, too."""
    rounds: int = 5
    """Measured rounds."""
    threads: int = 2
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    contenders = [Contender(f"{count} members", members, (count, settings.batch)) for count in settings.members]
    if settings.plain:
        contenders.append(Contender("plain, 1 member", plain, (settings.batch,)))
    base = contenders[0].name
    timings = interleave(contenders, settings.rounds, settings.threads, warmup=1)
    show(f"two updates of batch {settings.batch}, {processor()}", timings, base)
    for timing in timings:
        if timing.seconds and timing.name != CEILING:
            count = 1 if timing.name.startswith("plain") else int(timing.name.split()[0])
            pace = 2 / statistics.median(timing.seconds)
            print(f"{timing.name}: {pace:.2f} updates/s, {count * pace:.2f} updates of a member/s")
    save(settings.out, [to_json(timings, base, batch=settings.batch, threads=settings.threads)])


def source(batch: int) -> UnpairedBatches:
    """Segments and sentences of 30 to 80."""
    random = np.random.default_rng(0)
    lengths = random.integers(30, 81, 2 * batch)
    values = random.standard_normal((int(lengths.sum()), DIM)).astype(np.float32)
    phones = [f"p{number}" for number in range(PHONES)]
    sentences = [[phones[n] for n in random.integers(PHONES, size=size)] for size in random.integers(30, 81, 400)]
    return UnpairedBatches(Speech(values, lengths), Text(sentences, phones), batch)


def members(count: int, batch: int) -> Step:
    """A sweep's own updates."""
    penalties = tuple(1.5 + 0.01 * number for number in range(min(count, 12)))
    grid = GridConfig(penalties, (0.5,), (4.0,), (0.0,), tuple(range(-(-count // 12))))
    config = AdversarialConfig(grid=grid, batch=batch)
    sweep, batches = Sweep(config, Wav2VecUConfig(DIM, 4 + PHONES), device()), source(batch)
    assert len(sweep.running) == count, "12 or fewer members, or a multiple of 12"
    update = 0

    def step() -> None:
        nonlocal update
        for _ in range(2):
            sweep.update(update, sweep_batches(batches, sweep.seeds, update, sweep.device))
            update += 1

    return step


def plain(batch: int) -> Step:
    """One member as the paper draws it."""
    symbols, dim, taps = 4 + PHONES, 384, 6
    generator = nn.Conv1d(DIM, symbols, 4, padding=2, bias=False).to(device())
    layers = nn.ModuleList(
        [nn.Conv1d(symbols, dim, taps), nn.Conv1d(dim, dim, taps), nn.Conv1d(dim, 1, taps)]
    ).to(device())  # fmt: skip
    optimizers = [
        torch.optim.AdamW(generator.parameters(), 4e-4, (0.5, 0.98), weight_decay=0.0),
        torch.optim.AdamW(layers.parameters(), 5e-4, (0.5, 0.98), weight_decay=1e-4),
    ]
    everything = [*generator.parameters(), *layers.parameters()]
    batches, update = source(batch), 0

    def outputs(x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        for number, layer in enumerate(layers):
            x = layer(F.pad(F.gelu(x) if number == 2 else x, (taps - 1, 0)))
        return x[:, 0]

    def score(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return (outputs(x) * length_mask(lengths, x.shape[1])).sum(1) / lengths

    def step() -> None:
        nonlocal update
        for turn in range(2):
            read = batches.batch(0, update, device())
            update += 1
            x = F.dropout(read.features, 0.1).transpose(1, 2)
            lengths = read.lengths + 1
            logits = generator(x).transpose(1, 2) * length_mask(lengths, x.shape[2] + 1)[..., None]
            fake = logits.softmax(-1)
            told = score(fake, lengths)
            if turn == 0:
                mean = fake.mean((0, 1))
                loss = F.softplus(told).sum() + 4.0 * batch * (1 + (mean * mean.log()).sum().exp() / symbols)
                loss = loss + 0.5 * batch * (logits[:, 1:] - logits[:, :-1]).square().mean()
            else:
                text = F.one_hot(read.tokens, symbols).float()
                loss = F.softplus(-told).sum() + F.softplus(score(text, read.text_lengths)).sum()
                steps = min(text.shape[1], fake.shape[1])
                share = torch.rand(batch, 1, 1, device=device())
                between = share * text[:, :steps] + (1 - share) * fake[:, :steps]
                gradient = torch.autograd.grad(outputs(between).mean(1).sum(), between, create_graph=True)[0]
                loss = loss + 1.5 * (gradient.norm(dim=1) - 1).square().sum()
            for parameter in everything:
                parameter.grad = None
            (loss / batch).backward()
            nn.utils.clip_grad_norm_(everything, 5.0)
            optimizers[turn].step()

    return step


if __name__ == "__main__":
    main()
