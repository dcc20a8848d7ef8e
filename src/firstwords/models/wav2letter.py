"""Acoustic models on features that do not change: the networks of the wav2vec paper's experiments (its section 3.3).

Both are stacks of convolutions over time: seven with PReLU for TIMIT's phones (Zeghidour et al. 2018), and seventeen
gated ones for WSJ's letters (Collobert et al. 2016; wav2letter's recipes). Their outputs go to ASG, with transition
scores that are learnt beside them, or to CTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import ConfigError
from firstwords.models.encoders import build_encoder
from firstwords.nn.dropout import dropout
from firstwords.nn.lengths import length_mask, normalize_waveform
from firstwords.nn.log_mel import LogMel

SLOPE = 0.25
"""Of a PReLU at the start."""


@dataclass(frozen=True)
class FeaturesConfig:
    """What the network hears."""

    layer: int | None = None
    """The encoder's block whose output it is (0: the input of the first); none: the encoder's output."""
    weighted: bool = False
    """A sum of all layers instead, with weights that are learnt. Source: ELMo; SUPERB for speech."""
    normalize: bool = True
    """Zero mean and unit variance of every channel over the utterance: encoders differ in scale by orders of magnitude,
    and plain SGD suffers from it. Log-mel bands are always normalised. Ours."""


@dataclass(frozen=True)
class NetworkConfig:
    """Convolutions over time; every one keeps the number of frames."""

    kind: Literal["prelu", "gated"] = "prelu"
    """After each convolution: a PReLU with one slope, or a gate that halves the channels."""
    channels: tuple[int, ...] = (1000,) * 7
    """What each layer gives on; gated ones compute twice as many. Source: wav2letter recipes/timit, conv_relu."""
    kernels: tuple[int, ...] = (5,) * 7
    """Frames that each looks at. Source: as above."""
    dropout: float = 0.7
    """After each layer. Source: as above; recipes/wsj, conv_glu: 0.25."""
    initialization: Literal["scaled", "torch"] = "scaled"
    """Weights at the start: so large that what goes through a layer keeps its size (Gehring et al. 2017, section 3.5,
    for gates; He et al. 2015 for PReLU), or torch's, which let it shrink to a third in each gated layer."""

    def __post_init__(self) -> None:
        check_shares("network", self, "dropout")
        if not self.channels or len(self.channels) != len(self.kernels) or min(*self.channels, *self.kernels, 1) < 1:
            raise ConfigError(
                "network: channels and kernels must have one number a layer, each at least 1; found "
                f"{self.channels} and {self.kernels}"
            )


@dataclass(frozen=True)
class AcousticConfig:
    """An acoustic model and what it stands on."""

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """Which features."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The convolutions."""
    labels: int = 39
    """Outputs; with CTC the blank is one of them."""
    criterion: Literal["asg", "ctc"] = "asg"
    """"asg" has transition scores."""
    self_transition: float = 0.0
    """Where the score of staying with a label starts; all others start at 0. Source: wav2letter's `transdiag`."""
    encoder: Any = None
    """`kind` and `config` of the encoder (see `models.encoders`); none: 80 log-mel bands every 10 ms."""


class AcousticEmissions(NamedTuple):
    """What a criterion reads."""

    logits: Tensor
    """(B, T, N), not normalised."""
    lengths: Tensor
    """(B,) valid frames."""
    transitions: Tensor | None
    """(N, N), entry [i, j] for the step from j to i; None with CTC."""


class Features(nn.Module):
    """Waveforms to what the network hears, frozen: an encoder's layer or layers, or log-mel bands.

    Args:
        config: which of them.
        encoder: a wav2vec 2.0 encoder or its like (see `models.encoders`); None takes log-mel bands.

    Raises:
        ConfigError: a layer that the encoder has not.
    """

    def __init__(self, config: FeaturesConfig, encoder: Any) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.bands = LogMel(stacked=1) if encoder is None else None
        front: Any = self.bands if encoder is None else self.encoder.feature_encoder
        blocks = 0 if encoder is None else int(self.encoder.layers)
        if config.layer is not None and (encoder is None or not 0 <= config.layer <= blocks):
            raise ConfigError(
                f"features: layer {config.layer}: " + (f"this encoder has 0 to {blocks}" if encoder else "log-mel "
                "bands have none")
            )  # fmt: skip
        self.layers = blocks + 1 if config.weighted and encoder is not None else 1
        """How many layers come side by side."""
        self.dim = int(front.output_dim if encoder is None else self.encoder.dim)
        self.hop, self.receptive_field = int(front.hop), int(front.receptive_field)
        self.requires_grad_(False)

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.encoder.frames(samples) if self.bands is None else self.bands.frames(samples)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, T, layers, D), zero beyond `lengths` (B,) samples, of waveforms (B, samples) as recorded."""
        frames = self.frames(lengths)
        if self.bands is not None:
            found: Tensor = self.bands(waveforms, lengths)[:, :, None]
            return found
        config = self.encoder.config
        if config.normalize_waveform:
            waveforms = normalize_waveform(waveforms, lengths, config.normalize_epsilon)
        states: list[Tensor] = []
        if self.layers > 1:
            output = self.encoder(waveforms, lengths, states=states).features
            stacked = torch.stack([*states[:-1], output], 2)
        else:
            stacked = self.encoder(waveforms, lengths, layer=self.config.layer).features[:, :, None]
        stacked = stacked.float()
        valid = length_mask(frames, stacked.shape[1])[:, :, None, None]
        if not self.config.normalize:
            return stacked * valid
        count = frames.clamp_min(1)[:, None, None, None]
        centred = (stacked - (stacked * valid).sum(1, keepdim=True) / count) * valid
        return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + 1e-5)


class AcousticNetwork(nn.Module):
    """Features (B, T, D) to outputs (B, T, N). What lies beyond an utterance's end changes nothing in it."""

    def __init__(self, config: NetworkConfig, inputs: int, labels: int) -> None:
        super().__init__()
        self.config = config
        doubled = 2 if config.kind == "gated" else 1
        sizes = zip((inputs, *config.channels), config.channels, config.kernels, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv1d(i, doubled * o, kernel) for i, o, kernel in sizes)
        self.slopes = nn.ParameterList(
            nn.Parameter(torch.tensor([SLOPE])) for _ in (config.channels if config.kind == "prelu" else ())
        )
        self.output = nn.Linear(config.channels[-1], labels)
        if config.initialization == "scaled":
            gain = 4.0 if config.kind == "gated" else 2 / (1 + SLOPE**2)
            for number, module in enumerate(self.convolutions):
                convolution: Any = module
                fan_in = convolution.weight[0].numel()
                kept = 1 - config.dropout * (number > 0)  # dropout makes what is kept larger
                nn.init.normal_(convolution.weight, std=math.sqrt(gain * kept / fan_in))
                nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, not normalised; `lengths` (B,) valid frames."""
        x = features.transpose(1, 2)
        valid = length_mask(lengths, x.shape[2])[:, None]
        for number, convolution in enumerate(self.convolutions):
            kernel = self.config.kernels[number]
            x = convolution(F.pad(x * valid, ((kernel - 1) // 2, kernel // 2)))
            x = F.prelu(x, self.slopes[number]) if self.config.kind == "prelu" else F.glu(x, 1)
            x = dropout(x, self.config.dropout, self.training)
        logits: Tensor = self.output(x.transpose(1, 2))
        return logits


class AcousticModel(nn.Module):
    """Waveforms to emissions: features that stay as they are, a network, and with ASG transition scores.

    Args:
        config: all of it.
        encoder: the features' encoder, of the kind that `config` says; None builds one with random weights.
    """

    def __init__(self, config: AcousticConfig, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        if encoder is None and config.encoder is not None:
            encoder = build_encoder(config.encoder["kind"], config.encoder["config"])
        self.features = Features(config.features, encoder).eval()
        self.layer_weights = nn.Parameter(torch.zeros(self.features.layers)) if self.features.layers > 1 else None
        self.network = AcousticNetwork(config.network, self.features.dim, config.labels)
        self.transitions: nn.Parameter | None = None
        if config.criterion == "asg":
            self.transitions = nn.Parameter(config.self_transition * torch.eye(config.labels))

    @property
    def front(self) -> Features:
        """What says how samples become frames: `hop`, `receptive_field`, `frames`."""
        return self.features

    def transition_scores(self) -> np.ndarray | None:
        """(N, N) float32, entry [i, j] for the step from j to i; None with CTC."""
        return None if self.transitions is None else self.transitions.detach().float().cpu().numpy()

    def train(self, mode: bool = True) -> AcousticModel:
        """The features are never trained: no dropout there."""
        super().train(mode)
        self.features.eval()
        return self

    def learning(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name."""
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    def forward(
        self, waveforms: Tensor | None, lengths: Tensor | None = None, features: Tensor | None = None
    ) -> AcousticEmissions:
        """Emissions of waveforms, or of features that are known already.

        Args:
            waveforms: (B, samples) at 16 kHz as recorded.
            lengths: (B,) valid samples, or frames of `features`; None means all.
            features: (B, T, layers, D) in place of waveforms, as `Features` gives them.
        """
        given = waveforms if features is None else features
        assert given is not None
        if lengths is None:
            lengths = torch.full((len(given),), given.shape[1], device=given.device)
        if features is None:
            features, lengths = self.features(given, lengths), self.features.frames(lengths)
        if self.layer_weights is None:
            x = features[:, :, 0]
        else:
            x = torch.einsum("btld,l->btd", features, self.layer_weights.softmax(0).to(features))
        logits = self.network(x.to(self.network.output.weight.dtype), lengths)
        transitions = None if self.transitions is None else self.transitions + 0  # so that it comes out of this module
        return AcousticEmissions(logits, lengths, transitions)
