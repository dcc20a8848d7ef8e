"""Features of many recordings of any length: batched by length, long ones in windows, broken ones told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.batching import by_length, padded
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.coder import Coder
from firstwords.corpus.parallel import map_in_order
from firstwords.encoder import Encoder
from firstwords.errors import AudioError, CheckpointError, ConfigError
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.recording import Recording, Source, name_of
from firstwords.windows import WindowConfig, gather_statistics, latents, layer_features

READ_AHEAD = 32
"""Recordings that are read and sorted by length at a time. Where work goes on after a stop, it does so at such a part's
start, so that batches are the same."""


class Listener(Protocol):
    """A network that makes frames of waveforms; every row of its answer is one frame."""

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""

    @property
    def receptive_field(self) -> int:
        """Samples needed for one frame."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def together(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples) and (B,) to (B, T, D) and the valid frames (B,)."""

    def long(self, recording: Recording, windows: WindowConfig, batch_seconds: float) -> Iterator[Tensor]:
        """(t, D) of a recording, part by part, in memory that does not grow with its length where it can be had."""


class LayerFeatures:
    """One layer of an encoder, or a weighted sum of several."""

    def __init__(self, encoder: Encoder, layer: int | None = None, weights: Sequence[float] | None = None) -> None:
        """
        Args:
            encoder: in evaluation mode.
            layer: as `Encoder.forward` numbers them; None is the model's output.
            weights: of layers 0 to `encoder.layers`, used as they are; the last is the model's output.

        Raises:
            ConfigError: no such layer, another number of weights, or weights beside a layer.
        """
        if weights is None:
            self.layers, chosen = [layer], [1.0]
            if layer is not None and not 0 <= layer <= encoder.layers:
                raise ConfigError(f"layer {layer}: this encoder has 0 (the first block's input) to {encoder.layers}")
        else:
            if layer is not None:
                raise ConfigError("a layer or weights of layers, not both")
            self.layers, chosen = encoder.all_layers, list(weights)
            if len(chosen) != len(self.layers):
                raise ConfigError(
                    f"{len(chosen)} weights of layers: this encoder has {len(self.layers)}, the first block's input "
                    f"(0) and the outputs of {encoder.layers} blocks"
                )
            kept = [number for number, weight in enumerate(chosen) if weight]
            if not kept:
                raise ConfigError("weights of layers: all are 0")
            self.layers, chosen = [self.layers[number] for number in kept], [chosen[number] for number in kept]
        self.encoder, self.weights = encoder, chosen
        self.stride, self.receptive_field = encoder.stride, encoder.receptive_field

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.encoder.parameters()).device

    def mix(self, states: Sequence[Tensor]) -> Tensor:
        """The weighted sum of the chosen layers' states, in float32."""
        if self.weights == [1.0]:
            return states[0]
        total = self.weights[0] * states[0].float()
        for weight, state in zip(self.weights[1:], states[1:], strict=True):
            total = total + weight * state
        return total

    def together(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples) and (B,) to (B, T, D) and (B,)."""
        states, frames = self.encoder.hidden_states(waveforms, lengths, self.layers)
        return self.mix(states), frames

    def long(self, recording: Recording, windows: WindowConfig, batch_seconds: float) -> Iterator[Tensor]:
        """Features (t, D), part by part: in windows with wav2vec 2.0 and its kin, heard at once with other models."""
        if isinstance(self.encoder.encoder, Wav2Vec2Encoder):
            yield from layer_features(
                self.encoder.encoder, self.layers, self.mix, recording.blocks, windows, batch_seconds, self.device
            )
        else:
            yield from _at_once(self, recording)


def probe_weights(place: str | Path) -> list[float]:
    """The weights of layers 0 to `Encoder.layers` that a head on a weighted sum of them has learnt (after the softmax).

    Args:
        place: a run of `firstwords classify`, or any checkpoint with `layer_weights`.

    Raises:
        CheckpointError: nothing there, or no such weights.
    """
    checkpoint, where = open_checkpoint(place)
    for name, value in checkpoint.weights.items():
        if name.rpartition(".")[2] == "layer_weights":
            weights: list[float] = value.float().softmax(0).tolist()
            return weights
    raise CheckpointError(f"{where}: holds no weights of layers; a probe on a weighted sum of layers has them")


class OwnCodes:
    """The codes of a model's own quantiser, (T, G) int64."""

    def __init__(self, coder: Coder) -> None:
        self.coder = coder
        self.stride, self.receptive_field = coder.stride, coder.receptive_field

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.coder.parameters()).device

    def together(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples) and (B,) to (B, T, G) and (B,)."""
        return self.coder(waveforms, lengths), self.coder.frames(lengths)

    def long(self, recording: Recording, windows: WindowConfig, batch_seconds: float) -> Iterator[Tensor]:
        """Codes (t, G), part by part; the same as heard at once, since no attention is in front of them."""
        encoder = self.coder.encoder
        if isinstance(encoder, Wav2Vec2Encoder):
            statistics = gather_statistics(encoder, recording.blocks)
            for part in latents(encoder, recording.blocks(), statistics, self.device, self.coder.codes):
                yield part.cpu()
        else:
            yield from _at_once(self, recording)


def _at_once(listener: Listener, recording: Recording) -> Iterator[Tensor]:
    waveforms, lengths = padded([recording.read()], listener.receptive_field)
    found, frames = listener.together(waveforms.to(listener.device), lengths.to(listener.device))
    yield found[0, : int(frames)].cpu()


@dataclass(frozen=True)
class Heard:
    """A recording and its features, or why there are none."""

    number: int
    """Its place among the sources."""
    name: str
    """An utterance's id, or a file's path."""
    seconds: float = 0.0
    """Of audio."""
    parts: Iterable[Tensor] = ()
    """Its features (t, D) on the CPU, in order. Must be gone through before the next recording is asked for; a long
    recording may turn out broken on the way, which raises AudioError."""
    error: AudioError | None = None
    """Why it could not be read."""


def hear(
    listener: Listener,
    sources: Sequence[Source],
    batch_seconds: float = 60.0,
    windows: WindowConfig | None = None,
    done: Callable[[int], bool] | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> Iterator[Heard]:
    """Features of recordings in their order.

    The frames of an utterance are those that it gives alone, to rounding: on a CPU batches have little padding, and
    padding changes nothing anywhere. Memory holds some recordings at a time, of long ones a few windows.

    Args:
        listener: what makes features.
        sources: recordings, files, samples or utterances.
        batch_seconds: most audio that the network sees at once.
        windows: how recordings are heard that are longer than `windows.whole_seconds`; None: the defaults.
        done: whether a number is left out, because it was heard before.
        sample_rate: of samples given as arrays.
    """
    windows = windows or WindowConfig()
    windows.check()
    parts = [range(first, min(first + READ_AHEAD, len(sources))) for first in range(0, len(sources), READ_AHEAD)]
    if done is not None:
        parts = [part for part in parts if not all(map(done, part))]

    def read(number: int) -> Heard | tuple[Recording, Tensor | None]:
        try:
            recording = Recording.open(sources[number], number, sample_rate)
            return recording, None if recording.seconds > windows.whole_seconds else recording.read()
        except AudioError as error:
            return Heard(number, name_of(sources[number], number), error=error)

    arriving = map_in_order(read, (number for part in parts for number in part))
    for part in parts:
        read_ones = dict(zip(part, islice(arriving, len(part)), strict=True))
        yield from _part(listener, read_ones, batch_seconds, windows, done)


def _part(
    listener: Listener,
    found: dict[int, Heard | tuple[Recording, Tensor | None]],
    batch_seconds: float,
    windows: WindowConfig,
    done: Callable[[int], bool] | None,
) -> Iterator[Heard]:
    """What `hear` gives for the recordings of one part: the short ones in batches, then all in order."""
    short = {number: one[1] for number, one in found.items() if not isinstance(one, Heard) and one[1] is not None}
    rows: dict[int, Tensor] = {}
    lengths = {number: len(samples) for number, samples in short.items()}
    for batch in by_length(lengths, round(batch_seconds * SAMPLE_RATE), listener.device):
        if done is None or not all(map(done, batch)):
            rows |= zip(batch, _batch(listener, [short[number] for number in batch]), strict=True)
    short.clear()
    for number, one in found.items():
        if done is not None and done(number):
            continue
        if isinstance(one, Heard):
            yield one
            continue
        recording, samples = one
        if samples is None:
            yield Heard(number, recording.name, recording.seconds, _long(listener, recording, windows, batch_seconds))
        else:
            yield Heard(number, recording.name, lengths[number] / SAMPLE_RATE, [rows.pop(number)])


@torch.inference_mode()
def _batch(listener: Listener, waveforms: list[Tensor]) -> list[Tensor]:
    """(T, D) of each, without padding."""
    together, lengths = padded(waveforms, listener.receptive_field)
    found, frames = listener.together(together.to(listener.device), lengths.to(listener.device))
    found = found.cpu()
    return [row[:count].clone() for row, count in zip(found, frames.tolist(), strict=True)]


def _long(listener: Listener, recording: Recording, windows: WindowConfig, batch_seconds: float) -> Iterator[Tensor]:
    """Each part is computed without gradients, whoever asks for it."""
    with torch.inference_mode():
        parts = listener.long(recording, windows, batch_seconds)
    while True:
        with torch.inference_mode():
            part = next(parts, None)
        if part is None:
            return
        yield part
