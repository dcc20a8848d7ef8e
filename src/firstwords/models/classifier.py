"""Classifiers: what a pre-trained encoder hears, made into a class of the utterance, of each frame, or a speaker.

The features are a learnt weighted sum of all layers (SUPERB, Yang et al. 2021, section 3.1) or the last layer alone.
The heads are laid out as transformers' Wav2Vec2ForSequenceClassification, ForAudioFrameClassification and ForXVector,
so that they can be exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import ConfigError
from firstwords.losses.additive_margin import cosines
from firstwords.models.encoders import build_encoder
from firstwords.nn.lengths import length_mask, normalize_waveform

SMALLEST_VARIANCE = 1e-12
"""Below it a channel counts as constant; its standard deviation has no gradient there."""


@dataclass(frozen=True)
class HeadConfig:
    """From the encoder's layers to classes."""

    kind: Literal["mean", "x-vector", "frames"] = "mean"
    """"mean": projection, mean over time, linear layer (SUPERB's probe of utterances); "x-vector": TDNN layers and
    statistics pooling, compared by cosine (speaker verification); "frames": a linear layer on every frame."""
    layers: Literal["weighted", "last"] = "weighted"
    """A weighted sum of all layers, its weights learnt, or the last layer alone."""
    final_norm: bool = True
    """weighted: the last of the layers is the model's output, after a pre-norm Transformer's final norm, as in s3prl
    and transformers 4; off, it is what enters that norm, as in transformers 5."""
    normalize: bool = False
    """Each frame of each layer to zero mean and unit variance first, so that no layer is loud (s3prl's option
    upstream_feature_normalize, off in SUPERB; transformers' heads have none)."""
    projection: int = 256
    """Width of the projection before the mean. Source: SUPERB (s3prl voxceleb1, speech_commands, emotion)."""
    tdnn_dims: tuple[int, ...] = (512, 512, 512, 512, 1500)
    """x-vector: widths of the TDNN layers. Source: SUPERB, transformers."""
    tdnn_kernels: tuple[int, ...] = (5, 3, 3, 1, 1)
    """x-vector: frames that each sees. Source: SUPERB, transformers."""
    tdnn_dilations: tuple[int, ...] = (1, 2, 3, 1, 1)
    """x-vector: distance between those frames. Source: SUPERB, transformers."""
    embedding: int = 512
    """x-vector: width of the speaker's vector. Source: SUPERB, transformers."""
    scale: float = 30.0
    """x-vector: of the additive-margin softmax. Source: SUPERB, transformers."""
    margin: float = 0.4
    """x-vector: by which the right speaker's cosine must be ahead. Source: SUPERB, transformers."""

    def check(self) -> None:
        """Raises ConfigError for sizes that no head can have."""
        sizes = {len(self.tdnn_dims), len(self.tdnn_kernels), len(self.tdnn_dilations)}
        if len(sizes) > 1 or 0 in sizes:
            raise ConfigError("head: tdnn_dims, tdnn_kernels and tdnn_dilations must be equally long, at least 1")
        numbers = (self.projection, self.embedding, *self.tdnn_dims, *self.tdnn_kernels, *self.tdnn_dilations)
        if min(numbers) < 1:
            raise ConfigError("head: widths, kernels and dilations must be at least 1")
        if not (self.scale > 0 and 0 <= self.margin < 2):
            raise ConfigError(
                f"head: scale must be above 0 and margin from 0 to below 2, found {self.scale}, {self.margin}"
            )

    @property
    def context(self) -> int:
        """Frames that the head needs at least: what its TDNN layers take away, and two for a spread."""
        if self.kind != "x-vector":
            return 1
        return 2 + sum((k - 1) * d for k, d in zip(self.tdnn_kernels, self.tdnn_dilations, strict=True))


@dataclass(frozen=True)
class ClassifierConfig:
    """Encoder and head."""

    encoder_kind: str = "wav2vec2"
    """Which encoder: a key of `models.encoders.ENCODERS`."""
    encoder: Any = field(default_factory=dict)
    """Its configuration, as plain containers."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The head."""
    labels: int = 2
    """Classes."""


class Decision(NamedTuple):
    """What a classifier makes of a batch."""

    logits: Tensor
    """(B, C) or, for frames, (B, T, C). Of an x-vector head: `scale` times the cosines with the speakers' centres."""
    embeddings: Tensor
    """(B, E): what was pooled and projected; for frames the features (B, T, D)."""
    lengths: Tensor
    """(B,) valid frames."""


class TimeDelayLayer(nn.Module):
    """A convolution without padding and a ReLU (TDNN, Peddinti et al. 2015); (B, T, D) to (B, T - (K - 1) d, E)."""

    def __init__(self, dim: int, output: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, output, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convolution(x.transpose(1, 2)).transpose(1, 2))


class Head(nn.Module):
    """From an encoder's layers to logits; see HeadConfig.

    Args:
        config: which.
        dim: width D of the encoder's layers.
        states: how many there are, the input of the first block included.
        labels: classes C.
    """

    def __init__(self, config: HeadConfig, dim: int, states: int, labels: int) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.layer_weights = nn.Parameter(torch.zeros(states)) if config.layers == "weighted" else None
        if config.kind == "frames":
            self.classifier = nn.Linear(dim, labels)
        elif config.kind == "mean":
            self.projector = nn.Linear(dim, config.projection)
            self.classifier = nn.Linear(config.projection, labels)
        else:
            self.projector = nn.Linear(dim, config.tdnn_dims[0])
            inputs = (config.tdnn_dims[0], *config.tdnn_dims)
            sizes = zip(inputs, config.tdnn_dims, config.tdnn_kernels, config.tdnn_dilations, strict=False)
            self.tdnn = nn.ModuleList(TimeDelayLayer(*size) for size in sizes)
            self.embedding = nn.Linear(2 * config.tdnn_dims[-1], config.embedding)
            self.classifier = nn.Linear(config.embedding, config.embedding)
            self.centres = nn.Parameter(torch.randn(config.embedding, labels))

    @property
    def shares(self) -> list[float]:
        """How much of each layer is heard; the last alone where nothing is weighed."""
        return [1.0] if self.layer_weights is None else self.layer_weights.detach().softmax(0).tolist()

    def mixed(self, states: Sequence[Tensor]) -> Tensor:
        """The layers (each ..., D) as one."""
        if self.layer_weights is None:
            return states[-1]
        return sum((w * s for w, s in zip(self.layer_weights.softmax(0), states, strict=True)), torch.zeros(()))

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Decision:
        """The decision on layers (B, T, D) each with `lengths` (B,) valid frames."""
        if self.config.kind == "mean":
            return self.pooled(layer_means(states, lengths), lengths)
        mixed = self.mixed(states)
        if self.config.kind == "frames":
            return Decision(self.classifier(mixed), mixed, lengths)
        x = self.projector(mixed)
        for layer in self.tdnn:
            x = layer(x)
        vectors = self.embedding(statistics(x, lengths - (self.config.context - 2)))
        return Decision(self.config.scale * cosines(self.classifier(vectors), self.centres), vectors, lengths)

    def pooled(self, means: Tensor, lengths: Tensor) -> Decision:
        """The same from each layer's mean over time, (B, S, D): sum, projection and mean are linear, so they commute.

        Only for "mean"; S is 1 where the last layer alone is used.
        """
        if self.layer_weights is None:
            mixed = means[:, -1]
        else:
            mixed = torch.einsum("s,bsd->bd", self.layer_weights.softmax(0), means)
        vectors = self.projector(mixed)
        return Decision(self.classifier(vectors), vectors, lengths)


class Classifier(nn.Module):
    """An encoder and a head.

    Args:
        config: encoder and head.
        learn: "all" trains the encoder too; "head" keeps it as it is, in evaluation mode and without gradients.
    """

    def __init__(self, config: ClassifierConfig, learn: Literal["head", "all"] = "head") -> None:
        super().__init__()
        self.config = config
        self.learn = learn
        encoder: Any = build_encoder(config.encoder_kind, config.encoder)
        self.encoder: Any = encoder
        self.head = Head(config.head, encoder.dim, encoder.layers + 1, config.labels)
        if learn == "head":
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Classifier:
        """As nn.Module's, but an encoder that does not learn stays in evaluation mode."""
        super().train(mode)
        if self.learn == "head":
            self.encoder.eval()
        return self

    def states(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        kept: Sequence[bool] | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """The layers that the head looks at, (B, T, D) each, and the valid frames (B,); arguments as `forward`'s."""
        settings = self.encoder.config
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        if getattr(settings, "normalize_waveform", False):
            waveforms = normalize_waveform(waveforms, lengths, settings.normalize_epsilon)
        more: dict[str, Any] = {} if mask is None else {"mask": mask, "channel_mask": channel_mask}
        if kept is not None:
            more["kept"] = kept
        if self.config.head.layers == "last":
            found = [self.encoder(waveforms, lengths, **more).features]
        else:
            states: list[Tensor] = []
            features = self.encoder(waveforms, lengths, **more, states=states).features
            found = [*states[:-1], features] if self.config.head.final_norm else states
            if len(widths := {state.shape[-1] for state in found}) > 1:
                raise ConfigError(
                    f"head: layers of this encoder are {', '.join(map(str, sorted(widths)))} wide and cannot be "
                    "summed; take the last alone: --head.layers last"
                )
        if self.config.head.normalize:
            found = [F.layer_norm(state, state.shape[-1:]) for state in found]
        return found, self.encoder.frames(lengths)

    def forward(
        self,
        waveforms: Tensor | None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        kept: Sequence[bool] | None = None,
        frozen: bool = False,
        means: Tensor | None = None,
    ) -> Decision:
        """The decision on waveforms.

        Args:
            waveforms: (B, samples) at 16 kHz, as recorded: the encoder's own normalisation is applied here.
            lengths: (B,) valid samples; None means all.
            mask, channel_mask, kept: as Wav2Vec2Encoder has them.
            frozen: the head alone learns now: the encoder runs without gradients.
            means: (B, S, D) of each layer over time, in place of waveforms; see `Head.pooled`. `lengths` are frames.
        """
        if means is not None and lengths is not None:
            return self.head.pooled(means, lengths)
        assert waveforms is not None
        with torch.no_grad() if frozen or self.learn == "head" else nullcontext():
            states, frames = self.states(waveforms, lengths, mask, channel_mask, kept)
        return self.head(states, frames)


def layer_means(states: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """(B, S, D): the mean over valid frames of each of S layers (B, T, D)."""
    valid = length_mask(lengths, states[0].shape[1])[:, :, None]
    count = lengths.clamp_min(1)[:, None].to(states[0].dtype)
    return torch.stack([(state * valid).sum(1) / count for state in states], 1)


def statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, 2 D): mean and standard deviation (of a sample: n - 1) over the valid frames of (B, T, D)."""
    valid = length_mask(lengths, x.shape[1])[:, :, None]
    count = lengths[:, None].to(x.dtype)
    mean = (x * valid).sum(1) / count.clamp_min(1)
    squares = ((x - mean[:, None]) * valid).square().sum(1)
    return torch.cat([mean, (squares / (count - 1).clamp_min(1)).clamp_min(SMALLEST_VARIANCE).sqrt()], 1)
