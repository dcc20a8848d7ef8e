"""The fast forms of single parts against torch's own, forward and backward, at BASE size on a CPU.

    python benchmarks/parts.py --rounds 3 --out results.json

Position convolution, dropout, attention with dropout, and the feature encoder with its activations in slices or whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from measure import Contender, Step, interleave, processor, save, show, to_json

from firstwords.nn import feature_encoder
from firstwords.nn.attention import attention
from firstwords.nn.dropout import dropout
from firstwords.nn.feature_encoder import FeatureEncoder, FeatureEncoderConfig
from firstwords.nn.fused_convolution import activate
from firstwords.nn.position_convolution import correlate, response
from firstwords.nn.strided_convolution import strided_products

PARTS = ("position convolution", "dropout", "attention with dropout", "group encoder", "layer encoder")


@dataclass
class Settings:
    """How much."""

    parts: tuple[str, ...] = PARTS
    """Which."""
    utterances: int = 2
    """Of ten seconds."""
    rounds: int = 5
    """Measured rounds."""
    threads: int = 1
    """Of each contender."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    results = []
    for part in settings.parts:
        contenders = [Contender(form, prepare, (part, form, settings.utterances)) for form in ("firstwords", "torch")]
        timings = interleave(contenders, settings.rounds, settings.threads)
        show(f"{part}, {settings.utterances} x 10 s, {processor()}", timings, "firstwords")
        results.append(to_json(timings, "firstwords", part=part, utterances=settings.utterances))
        save(settings.out, results)


def prepare(part: str, form: str, utterances: int) -> Step:
    """Forward and backward pass of one part in one form."""
    fast = form == "firstwords"
    if part.endswith("encoder"):
        return encode("group" if part.startswith("group") else "layer", fast, utterances)
    x = torch.randn(utterances, 499, 768, requires_grad=True)
    weight = (0.01 * torch.randn(768, 48, 128)).requires_grad_()
    heads = [torch.randn(utterances, 12, 499, 64, requires_grad=True) for _ in range(3)]
    forms: dict[str, tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = {
        "position convolution": (
            lambda: correlate(x, response(weight), 16),
            lambda: F.conv1d(x.mT, weight, padding=64, groups=16)[:, :, :-1].mT,
        ),
        "dropout": (lambda: dropout(x, 0.1, True), lambda: F.dropout(x, 0.1, True)),
        "attention with dropout": (
            lambda: attention(*heads, None, 0.1),
            lambda: F.scaled_dot_product_attention(*heads, dropout_p=0.1),
        ),
    }
    forward = forms[part][0 if fast else 1]

    def step() -> None:
        result = forward()
        result.backward(torch.ones_like(result))
        for one in (x, weight, *heads):
            one.grad = None

    return step


def encode(norm: Literal["group", "layer"], sliced: bool, utterances: int) -> Step:
    config = FeatureEncoderConfig(norm=norm, bias=norm == "layer", gradient_scale=1.0)
    encoder = FeatureEncoder(config).train()
    if not sliced:
        module: Any = feature_encoder  # in this contender's process alone
        module.activate_and_convolve = whole
    audio = torch.randn(utterances, 160_000)
    lengths = torch.full((utterances,), 160_000)

    def step() -> None:
        latents = encoder(audio, lengths)
        latents.backward(torch.ones_like(latents))
        encoder.zero_grad(set_to_none=True)

    return step


def whole(x: torch.Tensor, before: Any, epsilon: float, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Activation and convolution one after the other, as on a GPU."""
    return strided_products(activate(x, before, epsilon, weight), weight, stride)


if __name__ == "__main__":
    main()
