"""wav2vec-U (Baevski et al. 2021) and 2.0 (Liu et al. 2022): a generator of phones and a discriminator of texts.

Every parameter has a leading dimension M: that many models of one shape live side by side ("members" of a sweep) and
are computed together, member by member what a model of its own would compute. M is 1 where one model is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError
from firstwords.nn.causal_products import CausalProduct, GeluSlope, TransposedCausalProduct
from firstwords.nn.lengths import length_mask
from firstwords.nn.segmenters import Joined, join, pool_uniformly

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""Symbols before the phones, as in fairseq's dictionaries; they are outputs like any other."""
PAD = 1
SILENCE = "<SIL>"
BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1e-5, 0.1


@dataclass(frozen=True)
class GeneratorConfig:
    """One convolution over segments; with batch norm and a residual projection in 2.0."""

    kernel: int = 4
    """Segments that a step sees: 4 (1.0), 9 (2.0). Source: w2vu.yaml."""
    stride: int = 1
    """Segments from step to step: 1 (1.0), 3 (2.0, from 50 Hz to 16 Hz). Source: w2vu2.yaml."""
    dropout: float = 0.1
    """Of the input features. Source: w2vu.yaml."""
    batch_norm: float = 0.0
    """First weight of a batch norm of the features; 0 has none (1.0), 30 in 2.0, without which it fails."""
    residual: bool = False
    """Add a linear projection of the features to them. Source: w2vu2.yaml."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Three causal convolutions, a GELU before the last."""

    dim: int = 384
    """Width. Source: w2vu.yaml."""
    kernel: int = 6
    """Of each convolution: 6 (1.0), 8 (2.0). Source: w2vu.yaml, w2vu2.yaml."""


@dataclass(frozen=True)
class SegmentationConfig:
    """From the generator's steps to phones."""

    kind: Literal["join", "none"] = "join"
    """"join": steps in a row with the same choice become one. Source: w2vu.yaml."""
    mean: bool = False
    """A run becomes its mean in training too, not a step at random, which does better."""
    remove_zeros: bool = False
    """Leave runs of symbol 0 out."""
    pool: float = 1.0
    """Pool the features first, uniformly, to this many for each segment; 1 leaves them."""


@dataclass(frozen=True)
class Wav2VecUConfig:
    """Both networks."""

    input_dim: int = 512
    """D, width of the features: 512 after PCA (1.0), 1024 (2.0)."""
    symbols: int = 44
    """V: the four specials, phones, silence."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """From features to symbols."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """From sequences of symbols to how little they look like text."""
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    """Between the two."""
    auxiliary: int = 0
    """Units that a linear layer tells apart beside (2.0: 64 clusters of MFCCs); 0 has none."""


class Generated(NamedTuple):
    """What a generator says of a batch."""

    logits: Tensor
    """(M, B, T', V)."""
    lengths: Tensor
    """(B,) valid steps."""
    width: int
    """Steps of the batch."""
    inner: Tensor | None
    """(M, B, T, D): output of the residual projection, which the auxiliary targets are told from; None without it."""


class Wav2VecU(nn.Module):
    """Generator, discriminator, and the auxiliary layer of 2.0.

    Args:
        config: the shape.
        members: M.
    """

    def __init__(self, config: Wav2VecUConfig, members: int = 1) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.generator = Generator(config, members)
        self.discriminator = Discriminator(config.discriminator, config.symbols, members)
        self.auxiliary = StackedLinear(config.input_dim, config.auxiliary, members) if config.auxiliary else None

    @property
    def members(self) -> int:
        """M."""
        return len(self.generator.weight)

    @classmethod
    def stacked(cls, models: Sequence[Wav2VecU]) -> Wav2VecU:
        """Models of one shape side by side in one."""
        weights = [model.state_dict() for model in models]
        return cls.holding(models[0].config, {name: torch.cat([one[name] for one in weights]) for name in weights[0]})

    def part(self, members: slice | Tensor) -> Wav2VecU:
        """Some of the members; a slice of them shares its weights with this model, chosen ones are copied."""
        return self.holding(self.config, {name: value[members] for name, value in self.state_dict().items()})

    @classmethod
    def holding(cls, config: Wav2VecUConfig, weights: dict[str, Tensor]) -> Wav2VecU:
        """A model around weights, which are not copied; they say how many members there are."""
        with torch.device("meta"):
            model = cls(config, len(weights["generator.weight"]))
        model.load_state_dict(weights, assign=True)
        return model

    def forward(self, features: Tensor, lengths: Tensor, stride: int | None = None) -> tuple[Tensor, Tensor]:
        """Logits before segmentation, for decoding: (M, B, T', V), and their lengths (B,).

        Args:
            features: (B, T, D), 0 beyond the lengths.
            lengths: (B,).
            stride: of the convolution, where it shall not be the configuration's (2.0 decodes best with 2).
        """
        generated = self.generator(*self._pooled(features, lengths), stride=stride)
        return generated.logits, generated.lengths

    def generate(
        self, features: Tensor, lengths: Tensor, draws: Tensor | None = None, masks: tuple[Tensor, ...] = ()
    ) -> tuple[Generated, Joined]:
        """The generator and the segmenter.

        Args:
            features: (B, T, D), 0 beyond the lengths.
            lengths: (B,).
            draws: (B, T') or more, uniform in [0, 1), which choose a step of each run; None takes means.
            masks: see `Generator.forward`.
        """
        generated = self.generator(*self._pooled(features, lengths), masks)
        settings = self.config.segmentation
        if settings.kind == "none":
            count = generated.lengths.expand(self.members, -1)
            inside = length_mask(generated.lengths, generated.width)[..., None]
            sizes = torch.full_like(count[:, 0], generated.width)
            return generated, Joined(generated.logits * inside, count, sizes)
        chosen = None if settings.mean else draws
        return generated, join(
            generated.logits, generated.lengths, chosen, generated.width, remove_zeros=settings.remove_zeros
        )

    def _pooled(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.config.segmentation.pool
        return (features, lengths) if rate == 1 else pool_uniformly(features, lengths, rate)


class StackedLinear(nn.Module):
    """M linear layers side by side, each with torch's own initialisation."""

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members, outputs))
        for weight, bias in zip(self.weight.detach(), self.bias.detach(), strict=True):
            _initialize(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(M, B, T, inputs) to (M, B, T, outputs)."""
        members, rows, steps, width = x.shape
        flat = torch.baddbmm(self.bias[:, None], x.reshape(members, rows * steps, width), self.weight.transpose(1, 2))
        return flat.view(members, rows, steps, -1)


class StackedConvolution(nn.Module):
    """The weights of M one-dimensional convolutions side by side, each with torch's own initialisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.empty(members, outputs))
        for weight, bias in zip(self.weight.detach(), self.bias.detach(), strict=True):
            _initialize(weight, bias)


class Generator(nn.Module):
    """Features to logits of symbols: a convolution without bias (1.0), after batch norm and a residual (2.0)."""

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, config: Wav2VecUConfig, members: int) -> None:
        super().__init__()
        self.config = config.generator
        width = config.input_dim
        if self.config.batch_norm:
            self.norm_weight = nn.Parameter(torch.full((members, width), float(self.config.batch_norm)))
            self.norm_bias = nn.Parameter(torch.zeros(members, width))
            self.register_buffer("running_mean", torch.zeros(members, width))
            self.register_buffer("running_variance", torch.ones(members, width))
        self.projection = StackedLinear(width, width, members) if self.config.residual else None
        self.weight = nn.Parameter(torch.empty(members, config.symbols, width, self.config.kernel))
        for weight in self.weight.detach():
            _initialize(weight, None)

    def forward(
        self, features: Tensor, lengths: Tensor, masks: tuple[Tensor, ...] = (), stride: int | None = None
    ) -> Generated:
        """
        Args:
            features: (B, T, D), 0 beyond the lengths; all members hear the same.
            lengths: (B,).
            masks: what dropout multiplies by, (B, T, D): before the residual projection, where there is one, and
                before the convolution. None given, nothing is dropped.
            stride: of the convolution, where it shall not be the configuration's.
        """
        x = features[None]
        if self.config.batch_norm:
            x = self._normalized(features, length_mask(lengths, features.shape[1])[..., None])
        inner = None
        if self.projection is not None:
            shared = x * masks[0] if masks else x
            inner = self.projection(shared.expand(len(self.weight), -1, -1, -1))
            x = x + inner
        if masks:
            x = x * masks[-1]
        stride = self.config.stride if stride is None else stride
        logits = _convolved(x, self.weight, stride)
        steps, kept = logits.shape[2], -(-features.shape[1] // stride)
        # An even kernel says one step more than it hears: the first, always valid.
        valid = (-(-lengths // stride) + max(0, steps - kept)).clamp(max=steps)
        return Generated(logits, valid, steps, inner)

    def _normalized(self, features: Tensor, inside: Tensor) -> Tensor:
        """Batch norm over valid frames, (M, B, T, D); 0 beyond."""
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            count = inside.sum()
            own = (features * inside).sum((0, 1)) / count
            spread = ((features - own) * inside).square().sum((0, 1))
            with torch.no_grad():
                unbiased = spread / (count - 1).clamp(min=1)
                self.running_mean.lerp_(own.expand_as(mean), BATCH_NORM_MOMENTUM)
                self.running_variance.lerp_(unbiased.expand_as(variance), BATCH_NORM_MOMENTUM)
            mean, variance = own[None], (spread / count)[None]
        scale = self.norm_weight * torch.rsqrt(variance + BATCH_NORM_EPSILON)
        shift = self.norm_bias - mean * scale
        return (features * scale[:, None, None] + shift[:, None, None]) * inside


class Discriminator(nn.Module):
    """Sequences of symbol probabilities to a logit: high where they were generated, low where they are text.

    No activation stands between the first two convolutions, so that both are one, of kernel 2k - 1 and a fifth of the
    arithmetic; the third comes after the only GELU and is summed over time, so that it is k weighted sums.
    """

    def __init__(self, config: DiscriminatorConfig, symbols: int, members: int) -> None:
        super().__init__()
        self.first = StackedConvolution(symbols, config.dim, config.kernel, members)
        self.second = StackedConvolution(config.dim, config.dim, config.kernel, members)
        self.last = StackedConvolution(config.dim, 1, config.kernel, members)

    def forward(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """(M, B, T, V) and (M, B) valid steps to (M, B): the mean of the last convolution over valid steps."""
        return self.scores(self.hidden(sequences, self.kernel()), lengths)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The first two convolutions as one.

        Returns:
            weights (M, (2k - 1) V, H), oldest step first, and biases (M, k, H): of step t the row min(t, k - 1), since
            before the beginning the second convolution sees zeros and not the first one's bias.
        """
        first, second = self.first.weight, self.second.weight
        members, width, symbols, taps = first.shape
        left = second.permute(0, 3, 1, 2).reshape(members, taps * len(second[0]), width)
        pairs = torch.bmm(left, first.reshape(members, width, symbols * taps)).view(members, taps, -1, symbols, taps)
        parts = [F.pad(pairs[..., tap], (0, 0, 0, 0, tap, taps - 1 - tap)) for tap in range(taps)]
        whole = torch.stack(parts).sum(0)
        reached = torch.einsum("moik,mi->mko", second, self.first.bias).flip(1).cumsum(1)
        return whole.transpose(2, 3).flatten(1, 2), reached + self.second.bias[:, None]

    def hidden(self, sequences: Tensor, kernel: tuple[Tensor, Tensor]) -> Tensor:
        """(M, B, T, H) before the GELU."""
        weights, biases = kernel
        steps = torch.arange(sequences.shape[2], device=sequences.device).clamp(max=biases.shape[1] - 1)
        return CausalProduct.apply(sequences, weights) + biases[:, None, steps]

    def scores(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(M, B): GELU, last convolution, mean over the valid steps (M, B)."""
        members, rows, steps, width = hidden.shape
        by_lag = self.last.weight[:, 0].flip(-1)  # (M, H, k): how a step counts for the one `lag` later
        flat = F.gelu(hidden).view(members, rows * steps, width)
        heard = torch.bmm(flat, by_lag).view(members, rows, steps, -1)
        until = lengths[..., None] - torch.arange(by_lag.shape[-1], device=lengths.device)
        counts = torch.arange(steps, device=lengths.device)[:, None] < until[:, :, None]
        return (heard * counts).sum((2, 3)) / lengths + self.last.bias

    def input_gradient(self, hidden: Tensor, kernel: Tensor, sizes: Tensor) -> Tensor:
        """(M, B, T, V): the gradient of the scores of whole rows, no padding, by the sequences; differentiable.

        Args:
            hidden: (M, B, T, H) what `hidden` made of the sequences.
            kernel: weights of `kernel()`.
            sizes: (M,) steps of each member's rows, at most T.
        """
        steps, lags = hidden.shape[2], self.last.weight.shape[-1]
        reach = self.last.weight[:, 0].flip(-1).cumsum(-1).transpose(1, 2)  # (M, k, H)
        left = sizes[:, None] - torch.arange(steps, device=sizes.device)
        index = (left.clamp(1, lags) - 1)[..., None].expand(-1, -1, reach.shape[-1])
        weight = reach.gather(1, index) * ((left > 0) / sizes[:, None])[..., None]
        slope = GeluSlope.apply(hidden, weight)
        symbols = self.first.weight.shape[2]
        return TransposedCausalProduct.apply(slope, kernel, symbols)


def _convolved(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """(M or 1, B, T, D) by (M, V, D, k), padded by k // 2 on both sides, to (M, B, T', V).

    With stride 1 as one product for all taps, whose results are shifted and added: the wide side is never copied.
    """
    members, symbols, width, taps = weight.shape
    rows, length, half = x.shape[1], x.shape[2], taps // 2
    steps = (length + 2 * half - taps) // stride + 1
    if stride > 1:
        padded = F.pad(x, (0, 0, half, half))
        windows = padded.unfold(2, taps, stride).reshape(len(x), rows * steps, width * taps)
        return torch.matmul(windows, weight.view(members, symbols, -1).transpose(1, 2)).view(members, rows, steps, -1)
    by_tap = weight.permute(0, 2, 3, 1)  # (M, D, k, V)
    if len(x) == 1:  # all members hear the same
        flat = x.view(rows * length, width) @ by_tap.transpose(0, 1).reshape(width, -1)
        products = flat.view(rows, length, members, taps, symbols).permute(2, 0, 1, 3, 4)
    else:
        flat = torch.bmm(x.view(members, rows * length, width), by_tap.reshape(members, width, -1))
        products = flat.view(members, rows, length, taps, symbols)
    # Step t adds tap j of segment t + j - half: shifted by padding, so that no step is written twice.
    parts = []
    for tap in range(taps):
        before = half - tap
        parts.append(F.pad(products[..., tap, :], (0, 0, before, steps - length - before)))
    return torch.stack(parts).sum(0) if taps > 4 else sum(parts[1:], parts[0])


def _initialize(weight: Tensor, bias: Tensor | None) -> None:
    """As torch's linear layers and convolutions do."""
    bound = 1 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -bound, bound)
    if bias is not None:
        nn.init.uniform_(bias, -bound, bound)


def _check(config: Wav2VecUConfig) -> None:
    """Raises ConfigError for shapes that no model has."""
    for name, value in (
        ("input_dim", config.input_dim),
        ("generator: kernel", config.generator.kernel),
        ("generator: stride", config.generator.stride),
        ("discriminator: dim", config.discriminator.dim),
        ("discriminator: kernel", config.discriminator.kernel),
    ):
        if value < 1:
            raise ConfigError(f"model: {name} must be at least 1, found {value}")
    if config.symbols <= len(SPECIALS):
        raise ConfigError(f"model: symbols are the {len(SPECIALS)} specials and phones, found {config.symbols}")
    if config.auxiliary and not config.generator.residual:
        raise ConfigError("model: auxiliary targets are told from the residual projection: set generator.residual")
    if not 0 < config.segmentation.pool <= 1:
        raise ConfigError(f"model: segmentation: pool must be above 0 and at most 1, found {config.segmentation.pool}")
