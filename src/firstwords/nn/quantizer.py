"""Product quantisation with Gumbel softmax (wav2vec 2.0 section 2; vq-wav2vec section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError


@dataclass(frozen=True)
class QuantizerConfig:
    """Codebooks and the temperature of their choice."""

    groups: int = 2
    """Codebooks G. Source: wav2vec 2.0 section 4.2."""
    entries: int = 320
    """Entries V of each codebook. Source: wav2vec 2.0 section 4.2."""
    dim: int = 0
    """Width of a quantised vector, all groups together; 0 takes the model's final_dim. Source: released models."""
    depth: int = 1
    """Layers of the projection that scores entries. Source: released models."""
    factor: int = 3
    """Width of the inner projections, times the input width, where depth > 1. Source: fairseq."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Between the layers of the projection, where depth > 1. Source: fairseq."""
    shared: bool = False
    """One codebook for all groups: off in wav2vec 2.0, on in vq-wav2vec (combine_groups)."""
    temperature_start: float = 2.0
    """Gumbel-softmax temperature at update 0. Source: wav2vec 2.0 section 4.2."""
    temperature_end: float = 0.5
    """Lowest temperature: 0.5 BASE, 0.1 LARGE."""
    temperature_decay: float = 0.999995
    """Factor on the temperature at each update. Source: wav2vec 2.0 section 4.2."""
    centred: bool = False
    """Codebooks start uniform in [-0.5, 0.5) instead of [0, 1) (fairseq): what all targets share tells none apart."""
    gumbel_noise: bool = True
    """Draw codes with Gumbel noise while training; the paper's ablation turns it off (8.73 against 7.97 WER)."""

    def temperature(self, update: int) -> float:
        """max(start * decay^update, end)."""
        return max(self.temperature_start * self.temperature_decay**update, self.temperature_end)


class Quantized(NamedTuple):
    """What the quantiser makes of N frames."""

    vectors: Tensor
    """(N, dim) chosen entries of all groups, side by side."""
    codes: Tensor
    """(N, G) index of the entry used."""
    probabilities: Tensor | None
    """(G, V) sum over frames of softmax(logits), without noise or temperature, fp32, with gradient; None: k-means."""
    counts: Tensor
    """(G, V) how often each entry has the highest logit, or is the nearest."""
    squares: Tensor | None = None
    """k-means: the codebook and commitment terms, summed over frames and channels; None with Gumbel softmax."""


class GumbelQuantizer(nn.Module):
    """Chooses one entry of each of G codebooks for every frame.

    Training: hard Gumbel softmax (straight-through); evaluation: the entry with the highest logit.
    Codebooks start uniform in [0, 1) unless centred; a one-layer projection starts N(0, 1) with bias 0, deeper ones as
    torch's linear layers do (fairseq): N(0, 1) would saturate their softmax.
    """

    def __init__(self, config: QuantizerConfig, input_dim: int, dim: int) -> None:
        super().__init__()
        if min(config.groups, config.entries, config.depth, dim) < 1:
            raise ConfigError(
                "quantizer: groups, entries, depth and width must be at least 1; "
                f"found {config.groups}, {config.entries}, {config.depth}, {dim}"
            )
        temperatures = (config.temperature_start, config.temperature_end)
        if not (min(temperatures) > 0 and 0 < config.temperature_decay <= 1):
            raise ConfigError(
                "quantizer: temperatures must be above 0 and temperature_decay above 0 and at most 1; "
                f"found {temperatures[0]}, {temperatures[1]}, {config.temperature_decay}"
            )
        if dim % config.groups:
            raise ConfigError(f"quantizer: dim {dim} must be a multiple of groups ({config.groups})")
        self.config = config
        start = torch.rand(1 if config.shared else config.groups, config.entries, dim // config.groups)
        self.codebooks = nn.Parameter(start - 0.5 if config.centred else start)
        inner, activation = input_dim * config.factor, nn.GELU if config.activation == "gelu" else nn.ReLU
        layers: list[nn.Module] = []
        for number in range(config.depth - 1):
            layers += [nn.Linear(inner if number else input_dim, inner), activation()]
        self.logits = nn.Linear(inner if layers else input_dim, config.groups * config.entries)
        if not layers:
            nn.init.normal_(self.logits.weight)
            nn.init.zeros_(self.logits.bias)
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor, temperature: float, noise: Tensor | None = None) -> Quantized:
        """Quantises frames (N, input_dim).

        Args:
            x: frames, any number.
            temperature: of the Gumbel softmax; used in training only.
            noise: standard Gumbel noise (N, G, V); None draws it. Used in training only.
        """
        entries = self.config.entries
        logits = self.entry_logits(x)
        best = logits.argmax(-1)
        if self.training:
            if self.config.gumbel_noise:
                noise = gumbel_noise(logits.shape, logits.device) if noise is None else noise
                soft = ((logits + noise) / temperature).softmax(-1)
            else:
                soft = (logits / temperature).softmax(-1)
            codes = soft.argmax(-1)
            choice = F.one_hot(codes, entries) - soft.detach() + soft
            vectors = torch.einsum("ngv,gvd->ngd", choice, every_codebook(self.codebooks, self.config).float())
        else:
            codes = best
            vectors = self.look_up(codes)
        return Quantized(vectors.flatten(1), codes, logits.softmax(-1).sum(0), F.one_hot(best, entries).sum(0))

    def entry_logits(self, x: Tensor) -> Tensor:
        """Scores of all entries for frames (N, input_dim): (N, G, V), fp32."""
        return self.logits(self.inner(x)).view(-1, self.config.groups, self.config.entries).float()

    def look_up(self, codes: Tensor) -> Tensor:
        """Entries of the codebooks: (N, G) indices to (N, G, dim / G)."""
        return look_up(self.codebooks, self.config, codes)


def every_codebook(codebooks: Tensor, config: QuantizerConfig) -> Tensor:
    """(1 or G, V, d) as (G, V, d): the shared one for each group."""
    return codebooks.expand(config.groups, -1, -1)


def look_up(codebooks: Tensor, config: QuantizerConfig, codes: Tensor) -> Tensor:
    """Entries of codebooks (1 or G, V, d): (N, G) indices to (N, G, d)."""
    return every_codebook(codebooks, config)[torch.arange(config.groups, device=codes.device), codes]


def gumbel_noise(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise, -log(E) with E exponential."""
    return -torch.empty(shape, device=device).exponential_(generator=generator).log()


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy) of each codebook's use: (G, V) sums to (G,), between 1 and V."""
    shares = counts.float() / counts.float().sum(-1, keepdim=True).clamp_min(1e-9)
    return torch.exp(-(shares * torch.log(shares + 1e-7)).sum(-1))
