"""A recording of any length through the network in constant memory: emissions, or features, as if heard at once.

What is exact and what is not. The waveform's normalisation and the norms over time in front of the Transformer take
their statistics over the whole recording, gathered in passes of their own, and the convolutions run on from block to
block: the Transformer's inputs are those of the whole, to rounding. The Transformer itself sees windows, with context
on both sides that is heard and then thrown away. Its attention could reach further in a recording heard at once; so
emissions differ a little near a window's edges, and with `WindowConfig.seconds` set to infinity not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.errors import ConfigError
from firstwords.models.heads import CTCModel
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.nn.moments import Moments


@dataclass(frozen=True)
class WindowConfig:
    """How recordings are cut up that are too long to be heard at once."""

    seconds: float = 20.0
    """Audio that a window gives emissions for; infinity hears every recording at once, at the memory that takes."""
    context: float = 5.0
    """Seconds that a window hears beyond that on either side. Ours (docs/transcribing.md)."""

    def check(self) -> None:
        """Raises ConfigError."""
        if not (self.seconds >= 1 and self.context >= 0):
            raise ConfigError(
                f"windows of {self.seconds} s with {self.context} s of context: at least 1 s and 0 s are needed"
            )

    @property
    def whole_seconds(self) -> float:
        """The longest recording that is heard at once."""
        return self.seconds + 2 * self.context


@dataclass(frozen=True)
class Statistics:
    """What a network normalises by."""

    mean: float = 0.0
    """Of the waveform; 0 where the model takes it as it is."""
    scale: float = 1.0
    """Factor on what is left."""
    features: tuple[Tensor, Tensor] | None = None
    """For the norm over time in the front end."""

    def normalized(self, samples: Tensor) -> Tensor:
        """The waveform (samples,) as the network expects it."""
        return samples if self.scale == 1.0 and self.mean == 0.0 else (samples - self.mean) * self.scale


class RunningStatistics:
    """Statistics of what was heard so far."""

    def __init__(self, encoder: Wav2Vec2Encoder) -> None:
        self.normalize, self.epsilon = encoder.config.normalize_waveform, encoder.config.normalize_epsilon
        self.waveform = Moments(1, 1, lambda samples: samples[:, None], products=False)
        self.features = encoder.feature_encoder.moments()

    def add_waveform(self, samples: Tensor) -> None:
        """The next samples (n,) as recorded."""
        if self.normalize:
            self.waveform.add(samples)

    def add_normalized(self, samples: Tensor) -> None:
        """The next samples (n,), normalised."""
        if self.features is not None:
            self.features.add(samples)

    def waveform_statistics(self) -> Statistics:
        """Of the waveform alone."""
        found = self.waveform.statistics()
        if found is None:
            return Statistics()
        mean, variance = found
        return Statistics(float(mean), 1 / math.sqrt(max(float(variance), 0.0) + self.epsilon))  # as normalize_waveform

    def statistics(self) -> Statistics:
        """Over everything that was added."""
        features = None if self.features is None else self.features.statistics()
        return replace(self.waveform_statistics(), features=features)


def gather_statistics(encoder: Wav2Vec2Encoder, blocks: Callable[[], Iterable[Tensor]]) -> Statistics:
    """Over a whole recording, in as many passes as the model needs (none to two).

    Args:
        encoder: what it is for.
        blocks: gives the recording's samples from the start each time it is called.
    """
    running = RunningStatistics(encoder)
    if running.normalize:
        for block in blocks():
            running.add_waveform(block)
    if running.features is not None:
        waveform = running.waveform_statistics()
        for block in blocks():
            running.add_normalized(waveform.normalized(block))
    return running.statistics()


@torch.inference_mode()
def latents(
    encoder: Wav2Vec2Encoder,
    blocks: Iterable[Tensor],
    statistics: Statistics,
    device: torch.device,
    after: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """The Transformer's inputs (t, D), block by block; joined they are those of the whole recording.

    Args:
        encoder: whose front end is used.
        blocks: samples (n,) as recorded, of any lengths.
        statistics: what to normalise by.
        device: where the encoder is.
        after: what becomes of the latents (1, t, C), frame by frame; None makes them the Transformer's inputs.
    """
    front = encoder.feature_encoder
    after = after or (lambda found: encoder.projection(encoder.latent_norm(found)))
    waiting, given = torch.zeros(0), 0
    for block in blocks:
        waiting = torch.cat([waiting, statistics.normalized(block)])
        if (frames := front.frames(len(waiting))) >= 1:
            yield _latents(encoder, waiting, statistics, device, after)
            waiting = waiting[frames * front.hop :]
            given += frames
    if not given:  # too short for a single frame
        padded = torch.zeros(front.receptive_field)
        padded[: len(waiting)] = waiting
        yield _latents(encoder, padded, statistics, device, after)


def _latents(
    encoder: Wav2Vec2Encoder,
    samples: Tensor,
    statistics: Statistics,
    device: torch.device,
    after: Callable[[Tensor], Tensor],
) -> Tensor:
    lengths = torch.tensor([len(samples)], device=device)
    return after(encoder.feature_encoder(samples[None].to(device), lengths, statistics.features))[0]


@dataclass(frozen=True)
class Window:
    """Frames that the Transformer sees together."""

    inputs: Tensor
    """(W, D), context included."""
    first: int
    """The first frame that it gives emissions for."""
    last: int
    """The frame after the last."""


def windows(pieces: Iterable[Tensor], core: float, context: int) -> Iterator[Window]:
    """Cuts a stream of inputs (t, D) into windows whose cores follow one another.

    All windows of a recording have the same length, so that they can go in one batch: the first and the last have more
    context on their one side. A recording no longer than that is a single window.

    Args:
        core: frames that a window gives emissions for; may be infinite.
        context: frames beyond on either side.
    """
    full = core + 2 * context
    held = torch.zeros(0)
    dropped = done = 0  # frames of the stream that are gone from `held`, and that windows were given for
    for piece in pieces if full < math.inf else [torch.cat(list(pieces))]:
        held = torch.cat([held, piece]) if len(held) else piece
        while dropped + len(held) > (begin := max(0, done - context)) + full:  # so it is not the last
            end = begin + int(full)
            yield Window(held[begin - dropped : end - dropped], done - begin, end - context - begin)
            done = end - context
            keep = max(dropped, done - int(full))  # the last window reaches back no further
            held, dropped = held[keep - dropped :], keep
    if len(held):
        end = dropped + len(held)
        begin = max(0, end - int(full)) if full < math.inf else 0
        yield Window(held[begin - dropped :], done - begin, end - begin)


@torch.inference_mode()
def window_outputs(
    compute: Callable[[Tensor, Tensor], Tensor], inputs: Iterable[Window], batch_frames: int
) -> Iterator[Tensor]:
    """What the network makes of the cores (t, V), on the CPU, window after window.

    Args:
        compute: inputs (B, W, D) and lengths (B,) to outputs (B, W, V).
        inputs: windows; several of equal length go in one batch.
        batch_frames: most frames in one batch.
    """
    batch: list[Window] = []

    def flush() -> Iterator[Tensor]:
        stacked = torch.stack([window.inputs for window in batch])
        lengths = torch.full((len(batch),), stacked.shape[1], device=stacked.device)
        outputs = compute(stacked, lengths).cpu()
        for row, window in zip(outputs, batch, strict=True):
            yield row[window.first : window.last]

    for window in inputs:
        if batch and (
            len(window.inputs) != len(batch[0].inputs) or (len(batch) + 1) * len(window.inputs) > batch_frames
        ):
            yield from flush()
            batch = []
        batch.append(window)
    if batch:
        yield from flush()


def emissions(
    model: CTCModel,
    blocks: Callable[[], Iterable[Tensor]],
    config: WindowConfig,
    batch_seconds: float,
    device: torch.device,
) -> Iterator[Tensor]:
    """Logits (t, V) of a recording, part by part, on the CPU.

    Args:
        model: in evaluation mode.
        blocks: gives the recording's samples (n,) at 16 kHz from the start each time it is called.
        config: windows.
        batch_seconds: most audio in one batch of windows.
        device: where the model is.
    """

    def logits(inputs: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = model.output(model.encoder.contextualize(inputs, lengths).features)
        return found

    yield from _outputs(model.encoder, logits, blocks, config, batch_seconds, device)


def layer_features(
    encoder: Wav2Vec2Encoder,
    layers: Sequence[int | None],
    mix: Callable[[list[Tensor]], Tensor],
    blocks: Callable[[], Iterable[Tensor]],
    config: WindowConfig,
    batch_seconds: float,
    device: torch.device,
) -> Iterator[Tensor]:
    """What `mix` makes of some layers (B, T, D) of a recording: (t, D), part by part, on the CPU.

    Args:
        encoder: in evaluation mode.
        layers: as `firstwords.encoder.Encoder.forward` numbers them.
        mix: those layers to one.
        blocks, config, batch_seconds, device: see `emissions`.
    """
    last = None if None in layers else max(layer for layer in layers if layer is not None)

    def features(inputs: Tensor, lengths: Tensor) -> Tensor:
        states: list[Tensor] = []
        output = encoder.contextualize(inputs, lengths, layer=last, states=states).features
        return mix([output if layer is None else states[layer] for layer in layers])

    yield from _outputs(encoder, features, blocks, config, batch_seconds, device)


def _outputs(
    encoder: Wav2Vec2Encoder,
    compute: Callable[[Tensor, Tensor], Tensor],
    blocks: Callable[[], Iterable[Tensor]],
    config: WindowConfig,
    batch_seconds: float,
    device: torch.device,
) -> Iterator[Tensor]:
    per_second = SAMPLE_RATE / encoder.feature_encoder.hop
    inputs = latents(encoder, blocks(), gather_statistics(encoder, blocks), device)
    cut = windows(inputs, config.seconds * per_second // 1, round(config.context * per_second))
    yield from window_outputs(compute, cut, round(batch_seconds * per_second))
