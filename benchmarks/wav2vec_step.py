"""One update of wav2vec (2019) pre-training: Firstwords against the same model in torch's own convolutions.

    python benchmarks/wav2vec_step.py --sizes base --crops 2x9.375 --precisions float32 --out results.json

The other side is written as the method's first code is: Conv1d and GroupNorm on (B, C, T), padding by copies, the
step predictions as a transposed convolution, and distractors gathered as vectors. Both sides: distractors drawn on the
host, forward pass, loss, backward pass, AdamW. Random weights, noise for audio. Ours also reads its crops from files.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from measure import Contender, Parts, Step, autocast, device, interleave, processor, save, show, to_json
from pretraining_step import write_noise
from torch import Tensor, nn
from updates import learn

from firstwords.audio import SAMPLE_RATE
from firstwords.models.wav2vec import Wav2VecConfig
from firstwords.recipes import load_recipe
from firstwords.training.data import Skipped
from firstwords.training.processes import Processes
from firstwords.training.wav2vec import Wav2VecPretrainConfig, Wav2VecPretraining

RECIPES = {"tiny": "wav2vec-tiny", "base": "wav2vec", "large": "wav2vec-large"}


@dataclass
class Settings:
    """Which updates."""

    sizes: tuple[str, ...] = ("base",)
    """tiny, base, large."""
    crops: tuple[str, ...] = ("4x9.375",)
    """Utterances x seconds."""
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    """bfloat16 means autocast on both sides."""
    rounds: int = 5
    """Measured rounds."""
    warmup: int = 2
    """Rounds before them."""
    threads: int = 2
    """Threads of each contender."""
    out: Path | None = None
    """JSON."""


class Stock(nn.Module):
    """The same model of torch's own modules, (B, C, T) throughout."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.config = config
        features, context = config.encoder.latent_encoder, config.encoder.context_network
        sizes = zip((1, *features.channels), features.channels, features.kernels, features.strides, strict=False)
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv1d(i, o, k, s, bias=False), nn.GroupNorm(1, o), nn.ReLU()) for i, o, k, s in sizes
        )
        widths = zip((features.channels[-1], *context.channels), context.channels, context.kernels, strict=False)
        self.context = nn.ModuleList(
            nn.Sequential(nn.ReplicationPad1d((k - 1, 0)), nn.Conv1d(i, o, k), nn.GroupNorm(1, o), nn.ReLU())
            for i, o, k in widths
        )
        self.predictions = nn.ConvTranspose2d(context.channels[-1], features.channels[-1], (1, config.steps))

    def forward(self, waveforms: Tensor, distractors: Tensor, offset: int) -> tuple[Tensor, int]:
        """Sum of the binary losses and how many positives; distractors (B, T * N) of each utterance."""
        x = waveforms[:, None]
        for layer in self.encoder:
            x = layer(x)
        latents = (x.abs() + 1).log()
        x = latents
        for layer in self.context:
            residual, x = x, layer(x)
            if self.config.encoder.context_network.skip_connections:
                x = (x + residual) * 0.5**0.5
        made = self.predictions(x[..., None])
        batch, channels, frames = latents.shape
        flat = latents.transpose(0, 1).reshape(channels, -1)
        numbers = (distractors + torch.arange(batch, device=flat.device)[:, None] * frames).flatten()
        others = flat[:, numbers].view(channels, batch, -1, frames).permute(2, 1, 0, 3)
        targets = torch.cat([latents[None], others])
        loss, positives = made.new_zeros(()), 0
        for step in range(self.config.steps):
            ahead = offset + step
            logits = torch.einsum("bct,nbct->nbt", made[..., :-ahead, step], targets[..., ahead:]).float()
            labels = torch.zeros_like(logits)
            labels[0] = 1
            loss = loss + F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            positives += labels[0].numel()
        return loss, positives


def ours(size: str, utterances: int, seconds: float, precision: str) -> Step:
    """One update as the training loop does it, its batch included."""
    config = load_recipe(RECIPES[size], "pretrain", {"wav2vec": Wav2VecPretrainConfig})
    config = replace(config, data=replace(config.data, min_seconds=min(seconds, 0.5), crop_seconds=seconds))
    folder = tempfile.TemporaryDirectory()
    corpus = write_noise(Path(folder.name), utterances, seconds)
    task = Wav2VecPretraining(config, corpus, [], Processes("auto"), Skipped())
    model = task.model.to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    update = 0

    def step() -> dict[str, float]:
        nonlocal update
        parts = Parts()
        assert folder  # kept while the step lives
        batch = task.make_batch(corpus, round(seconds * SAMPLE_RATE), (1, update))
        assert batch is not None
        parts.done("batch")
        with autocast(precision):
            loss, _ = task.loss(model, batch, update, task.count([batch]), None)
        parts.done("forward")
        learn(loss, optimizer, parts)
        update += 1
        return parts.seconds

    return step


def stock(size: str, utterances: int, seconds: float, precision: str) -> Step:
    """The same in torch's own modules."""
    config = load_recipe(RECIPES[size], "pretrain", {"wav2vec": Wav2VecPretrainConfig}).model
    model = Stock(config).to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    audio = 0.1 * torch.randn(utterances, round(seconds * SAMPLE_RATE), device=device())
    frames = _lengths(config, audio.shape[1])[-1]
    count = config.contrast.distractors

    def step() -> dict[str, float]:
        parts = Parts()
        drawn = torch.randint(0, frames - 1, (utterances, frames * count))
        own = torch.arange(frames).repeat_interleave(count)
        drawn = (drawn + (drawn >= own).long()).to(audio.device)
        parts.done("batch")
        with autocast(precision):
            loss, positives = model(audio, drawn, 3)
        parts.done("forward")
        learn(loss / positives, optimizer, parts)
        return parts.seconds

    return step


def forward_flop(config: Wav2VecConfig, utterances: int, samples: int) -> float:
    """Multiplications and additions that the method needs: convolutions, step predictions, and their similarities."""
    features, context = config.encoder.latent_encoder, config.encoder.context_network
    flop, width = 0.0, 1
    lengths = _lengths(config, samples)
    for length, channels, kernel in zip(lengths, features.channels, features.kernels, strict=True):
        flop += 2.0 * length * kernel * width * channels
        width = channels
    frames, target = lengths[-1], width
    for channels, kernel in zip(context.channels, context.kernels, strict=True):
        flop += 2.0 * frames * kernel * width * channels
        width = channels
    flop += 2.0 * frames * width * target * config.steps
    flop += 2.0 * frames * target * config.steps * (1 + config.contrast.distractors)
    return utterances * flop


def _lengths(config: Wav2VecConfig, samples: int) -> list[int]:
    """Frames that each layer of the encoder gives."""
    lengths = []
    for kernel, stride in zip(
        config.encoder.latent_encoder.kernels, config.encoder.latent_encoder.strides, strict=True
    ):
        samples = (samples - kernel) // stride + 1
        lengths.append(samples)
    return lengths


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for size in settings.sizes:
        for crop in settings.crops:
            utterances, seconds = int(crop.split("x")[0]), float(crop.split("x")[1])
            config = load_recipe(RECIPES[size], "pretrain", {"wav2vec": Wav2VecPretrainConfig}).model
            flop = 3 * forward_flop(config, utterances, round(seconds * SAMPLE_RATE))
            for precision in settings.precisions:
                what = (size, utterances, seconds, precision)
                timings = interleave(
                    [Contender("firstwords", ours, what, flop), Contender("stock torch", stock, what, flop)],
                    settings.rounds, settings.threads, precision, settings.warmup,
                )  # fmt: skip
                show(f"{size}, {utterances} x {seconds:g} s, {precision}, {processor()}", timings, "firstwords")
                names = ("size", "utterances", "seconds", "precision")
                facts = dict(zip(names, what, strict=True)) | {"threads": settings.threads}
                results.append(to_json(timings, "firstwords", **facts))
                save(settings.out, results)


if __name__ == "__main__":
    main()
