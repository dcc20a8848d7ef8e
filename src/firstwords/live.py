"""Transcripts that grow while somebody is still speaking."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.decoding.greedy import GreedyDecoder
from firstwords.decoding.hypothesis import Decoder
from firstwords.errors import AudioError, ConfigError, MissingExtraError
from firstwords.losses.ctc import BLANK
from firstwords.models.inference import RecognizerModel
from firstwords.models.wav2letter import AcousticModel
from firstwords.text.alphabet import Alphabet
from firstwords.windows import RunningStatistics


@dataclass(frozen=True)
class LiveConfig:
    """How often the network looks, and how far around each frame."""

    step: float = 0.5
    """Seconds of new audio before the network runs again: smaller answers sooner and computes more."""
    before: float = 6.0
    """Seconds of earlier audio that it hears along."""
    after: float = 1.0
    """Seconds of later audio that a frame needs to be stable."""
    longest: float = 20.0
    """Seconds after which a beam search starts afresh at a pause; what it read before is stable from then on."""

    def check(self) -> None:
        """Raises ConfigError."""
        if self.step < 0.1 or self.before < 0 or self.after < 0 or self.longest < 2:
            raise ConfigError(
                f"live transcription with step {self.step} s, {self.before} s before, {self.after} s after, pieces of "
                f"{self.longest} s: at least 0.1, 0, 0 and 2 s are needed"
            )


@dataclass(frozen=True)
class LiveTranscript:
    """What was understood so far."""

    stable: str
    """This will not change; every later transcript begins with it."""
    tentative: str
    """Heard so recently that it may."""
    seconds: float
    """Audio heard so far."""
    latency: float
    """Seconds from the newest sound of the stable part until now, the computing included."""
    compute: float
    """Seconds of computing for each second of audio, on average so far; above 1 the network cannot keep up."""
    final: bool = False
    """No more will come."""

    @property
    def text(self) -> str:
        """Stable and tentative together."""
        return f"{self.stable} {self.tentative}".strip()


def listen(
    model: RecognizerModel,
    alphabet: Alphabet,
    decoder: Decoder,
    device: torch.device,
    chunks: Iterable[Any],
    sample_rate: int,
    config: LiveConfig,
) -> Iterator[LiveTranscript]:
    """A transcript after every `config.step` seconds of audio, and a last one; see `Recognizer.listen`."""
    config.check()
    state = _Live(model, alphabet, decoder, device, config)
    for chunk in _at_16_khz(chunks, sample_rate):
        state.add(chunk)
        if state.due():
            yield state.look()
    yield state.look(final=True)


def microphone(device: str | int | None = None, block_seconds: float = 0.1) -> tuple[int, Iterator[np.ndarray]]:
    """The default microphone's sample rate, and its samples (n,) float32, a block at a time, without end.

    Args:
        device: another one, by name or number as sounddevice lists them.
        block_seconds: length of a block.

    Raises:
        MissingExtraError: sounddevice is not installed.
        AudioError: PortAudio or a microphone is missing.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("listening to a microphone", "sounddevice", "microphone") from error
    except OSError as error:  # the wheel for Linux expects the system's library
        raise AudioError(f"sounddevice cannot start ({error}); install PortAudio (Debian: libportaudio2)") from error
    try:
        rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(f"no microphone: {error}") from error
    return rate, _recorded(sounddevice, device, rate, block_seconds)


def _recorded(sounddevice: Any, device: str | int | None, rate: int, block_seconds: float) -> Iterator[np.ndarray]:
    arriving: queue.Queue[np.ndarray] = queue.Queue()

    def receive(block: np.ndarray, *_: Any) -> None:
        arriving.put(block[:, 0].copy())

    try:
        with sounddevice.InputStream(
            rate, round(block_seconds * rate), device, channels=1, dtype="float32", callback=receive
        ):
            while True:
                yield arriving.get()
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the microphone stopped: {error}") from error


def _at_16_khz(chunks: Iterable[Any], sample_rate: int) -> Iterator[Tensor]:
    if sample_rate < 1000:
        raise AudioError(f"samples at {sample_rate} Hz hold no speech")
    stream = None
    if sample_rate != SAMPLE_RATE:
        stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        samples = np.asarray(chunk, dtype=np.float32)
        if samples.ndim != 1:
            raise AudioError(f"expected chunks of samples as one-dimensional arrays, found shape {samples.shape}")
        if not np.isfinite(samples).all():
            raise AudioError("some samples are not numbers (NaN or infinite)")
        yield torch.from_numpy(samples.copy() if stream is None else stream.resample_chunk(samples))
    if stream is not None:
        yield torch.from_numpy(stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True))


class _Live:
    """What is kept between two looks: the last seconds of audio, and the emissions of the piece that is being read."""

    def __init__(
        self, model: RecognizerModel, alphabet: Alphabet, decoder: Decoder, device: torch.device, config: LiveConfig
    ) -> None:
        self.model, self.alphabet, self.decoder, self.device = model, alphabet, decoder, device
        self.front = model.front
        self.hop = self.front.hop
        self.before, self.after = (round(s * SAMPLE_RATE / self.hop) for s in (config.before, config.after))
        self.step, self.longest = round(config.step * SAMPLE_RATE), round(config.longest * SAMPLE_RATE / self.hop)
        self.statistics = None if isinstance(model, AcousticModel) else RunningStatistics(model.encoder)
        self.samples = torch.zeros(0)
        self.gone = 0  # samples before `samples`
        self.heard = 0
        self.looked = 0  # samples heard at the last look
        self.frames = 0  # frames that are stable
        self.piece: list[Tensor] = []  # log probabilities of stable frames since the last cut
        self.read: list[int] = []  # labels before that cut
        self.spent = 0.0
        self.incremental = isinstance(decoder, GreedyDecoder)

    def add(self, samples: Tensor) -> None:
        begun = time.perf_counter()
        if self.statistics is not None:
            self.statistics.add_waveform(samples)
            if self.statistics.features is not None:  # with what is known now: the past is not heard again
                self.statistics.add_normalized(self.statistics.waveform_statistics().normalized(samples))
        self.samples = torch.cat([self.samples, samples])
        self.heard += len(samples)
        self.spent += time.perf_counter() - begun

    def due(self) -> bool:
        return self.heard - self.looked >= self.step and len(self.samples) >= self.front.receptive_field

    def look(self, final: bool = False) -> LiveTranscript:
        begun = time.perf_counter()
        self.looked = self.heard
        new = self._emissions(final)
        count = len(new) if final else max(0, len(new) - self.after)
        if count:
            self.piece.append(new[:count])
            self.frames += count
        stable, tentative = self._texts(new[count:], final)
        keep = max(0, (self.frames - self.before) * self.hop - self.gone)
        self.samples, self.gone = self.samples[keep:], self.gone + keep
        self.spent += (took := time.perf_counter() - begun)
        latency = max(0.0, (self.heard - self.frames * self.hop) / SAMPLE_RATE) + took
        seconds = self.heard / SAMPLE_RATE
        return LiveTranscript(stable, tentative, seconds, latency, self.spent / max(seconds, 1e-9), final)

    @torch.inference_mode()
    def _emissions(self, final: bool) -> Tensor:
        """Log probabilities of the frames after the stable ones, (t, V)."""
        samples = self.samples if self.statistics is None else self.statistics.statistics().normalized(self.samples)
        if len(samples) < self.front.receptive_field:
            if not final or self.frames or not self.heard:
                return torch.zeros(0, len(self.alphabet))
            samples = torch.nn.functional.pad(samples, (0, self.front.receptive_field - len(samples)))
        if self.statistics is None or isinstance(self.model, AcousticModel):
            logits = self.model(samples[None].to(self.device)).logits[0].float().cpu()
            return logits[self.frames - self.gone // self.hop :].log_softmax(-1)
        lengths = torch.tensor([len(samples)], device=self.device)
        encoder = self.model.encoder
        found = self.front(samples[None].to(self.device), lengths, self.statistics.statistics().features)
        inputs = encoder.projection(encoder.latent_norm(found))
        features = encoder.contextualize(inputs, self.front.frames(lengths)).features
        logits = self.model.output(features)[0].float().cpu()
        return logits[self.frames - self.gone // self.hop :].log_softmax(-1)

    def _texts(self, rest: Tensor, final: bool) -> tuple[str, str]:
        """The stable text, and what may still change."""
        done = torch.cat(self.piece) if self.piece else torch.zeros(0, len(self.alphabet))
        boundary = self.alphabet.boundary
        if len(done) > self.longest and (cut := self._pause(done)):
            self.read += self._labels(done[:cut])
            if not self.incremental and self.read and self.read[-1] != boundary:
                self.read.append(boundary)  # such decoders end on whole words
            done = done[cut:]
            self.piece = [done]
        complete = self.alphabet.decode([*self.read, *self._labels(torch.cat([done, rest]))])
        if final:
            return complete, ""
        certain = [*self.read, *self._labels(done)] if self.incremental else list(self.read)
        while certain and certain[-1] != boundary:  # a word may go on
            certain.pop()
        stable = self.alphabet.decode(certain)
        return stable, complete[len(stable) :].strip() if complete.startswith(stable) else complete

    def _labels(self, log_probabilities: Tensor) -> list[int]:
        return list(self.decoder([log_probabilities])[0][0].labels) if len(log_probabilities) else []

    def _pause(self, done: Tensor) -> int:
        """A frame in the middle of the last long run of blanks; 0 where there is none."""
        best = done.argmax(-1)
        blanks = (best == BLANK).to(torch.int8)
        edges = torch.diff(torch.nn.functional.pad(blanks, (1, 1)))
        starts, ends = (torch.nonzero(edges == sign)[:, 0] for sign in (1, -1))
        long = torch.nonzero(ends - starts >= min(10, int((ends - starts).max()) if len(starts) else 0))[:, 0]
        if not len(long):
            return 0
        last = int(long[-1])
        return int((starts[last] + ends[last]) // 2)
