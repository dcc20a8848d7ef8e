"""Audio in, text out; and features of any layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from firstwords.audio import SAMPLE_RATE, read_audio
from firstwords.checkpoints.models import load_ctc, load_encoder_weights
from firstwords.corpus.parallel import map_in_order
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.greedy import greedy
from firstwords.errors import AudioError, CheckpointError
from firstwords.models.heads import CTCModel
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.nn.lengths import normalize_waveform
from firstwords.text.alphabet import Alphabet

Source: TypeAlias = str | Path | np.ndarray | Tensor | Utterance
"""A recording: a file, samples (samples,) at 16 kHz, or an utterance of a corpus."""

READ_AHEAD = 64
"""Recordings that are read and sorted by length at a time, so that batches need little padding."""


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording."""

    text: str
    duration: float
    """Seconds."""
    id: str = ""
    """The utterance's id, or the file's path."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return {"id": self.id, "text": self.text, "duration": round(self.duration, 4)}


class Recognizer:
    """A fine-tuned network and its alphabet.

    An utterance gets the same text alone and in a batch.
    """

    def __init__(self, model: CTCModel, alphabet: Alphabet, device: str = "cpu") -> None:
        self.model = model.eval().to(device)
        self.alphabet = alphabet
        self.device = torch.device(device)

    @classmethod
    def load(cls, place: str | Path, device: str = "auto", adapter: str | None = None) -> Recognizer:
        """Reads a fine-tuning run (its best checkpoint), or a recogniser that others trained.

        Args:
            place: folder or file of ours, a Hugging Face folder, a fairseq `.pt`, or a name on the hub.
            device: "cpu", "cuda", or "auto" for a GPU if there is one.
            adapter: which language, of a model with adapters for several.

        Raises:
            CheckpointError: nothing there, cut short, or no recogniser.
        """
        model, checkpoint = load_ctc(place, adapter)
        if "alphabet" not in checkpoint.state:
            imported = "imported" in checkpoint.state
            mend = "put the vocab.json that belongs to it beside it" if imported else "fine-tune again"
            raise CheckpointError(f"{place}: the checkpoint holds no alphabet; {mend}")
        return cls(model, Alphabet.from_dict(checkpoint.state["alphabet"], f"{place}: alphabet"), _device(device))

    @overload
    def transcribe(self, source: Source, sample_rate: int = ...) -> Transcript: ...

    @overload
    def transcribe(self, source: list[Any], sample_rate: int = ...) -> list[Transcript]: ...

    def transcribe(self, source: Source | list[Any], sample_rate: int = SAMPLE_RATE) -> Transcript | list[Transcript]:
        """The text of a recording, or of each in a list.

        Args:
            source: a file, samples (samples,), an utterance; or a list of those.
            sample_rate: of samples given as arrays.

        Raises:
            AudioError: a recording cannot be read.
        """
        if isinstance(source, list):
            return list(self.stream(source, sample_rate))
        return next(iter(self.stream([source], sample_rate)))

    def stream(
        self,
        sources: Iterable[Source],
        sample_rate: int = SAMPLE_RATE,
        batch_seconds: float = 60.0,
        skip: Callable[[str, AudioError], None] | None = None,
    ) -> Iterator[Transcript]:
        """Transcripts in the order of `sources`, batched by length.

        Args:
            sources: any number of recordings.
            sample_rate: of samples given as arrays.
            batch_seconds: most audio, padding included, that the network sees at once (a longer recording goes alone).
            skip: called with the name and the error of a recording that cannot be read, which is then left out;
                None raises the error.
        """

        def read(item: tuple[int, Source]) -> tuple[str, Tensor | AudioError]:
            number, source = item
            try:
                return _name(source, number), _read(source, sample_rate)
            except AudioError as error:
                return _name(source, number), error

        arriving = map_in_order(read, enumerate(sources))
        while part := list(islice(arriving, READ_AHEAD)):
            readable = []
            for name, samples in part:
                if isinstance(samples, Tensor):
                    readable.append((name, samples))
                elif skip is None:
                    raise samples
                else:
                    skip(name, samples)
            yield from self._transcribe_together(readable, round(batch_seconds * SAMPLE_RATE))

    def _transcribe_together(self, read: list[tuple[str, Tensor]], batch_samples: int) -> list[Transcript]:
        """Transcripts of recordings that are in memory, in their order."""
        texts: dict[int, str] = {}
        batch: list[int] = []
        by_length = sorted(range(len(read)), key=lambda n: len(read[n][1]), reverse=True)
        for number in by_length:
            if batch and len(read[batch[0]][1]) * (len(batch) + 1) > batch_samples:
                texts |= zip(batch, self._decode([read[n][1] for n in batch]), strict=True)
                batch = []
            batch.append(number)
        if batch:
            texts |= zip(batch, self._decode([read[n][1] for n in batch]), strict=True)
        return [Transcript(texts[n], len(samples) / SAMPLE_RATE, name) for n, (name, samples) in enumerate(read)]

    def _decode(self, waveforms: list[Tensor]) -> list[str]:
        logits, lengths = self.emissions(waveforms)
        return [self.alphabet.decode(labels) for labels in greedy(logits, lengths)]

    @torch.inference_mode()
    def emissions(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, T, labels) of waveforms (samples,) each, and their valid frames (B,)."""
        shortest = self.model.encoder.feature_encoder.receptive_field
        config = self.model.encoder.config
        padded, lengths = _batch(waveforms, shortest, config.normalize_waveform, config.normalize_epsilon)
        return self.model(padded.to(self.device), lengths.to(self.device))


class Encoder(nn.Module):
    """A pre-trained encoder as a torch module: waveforms (B, samples) to features (B, T, D)."""

    def __init__(self, encoder: Wav2Vec2Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim
        self.layers = encoder.config.transformer.layers

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.encoder.frames(samples)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None, layer: int | None = None) -> Tensor:
        """Features (B, T, D).

        Args:
            waveforms: (B, samples) at 16 kHz, as recorded: the model's own normalisation is applied here.
            lengths: (B,) valid samples; None means all.
            layer: output of that block (1 to `layers`); 0 is the input of the first; None is the model's output, after
                its final norm where it has one. fairseq counts blocks from 0: its layer 14 is 15 here.
        """
        if layer is not None and not 0 <= layer <= self.layers:
            raise ValueError(f"layer {layer}: this encoder has 0 to {self.layers}")
        if self.encoder.config.normalize_waveform:
            waveforms = normalize_waveform(waveforms, lengths, self.encoder.config.normalize_epsilon)
        return self.encoder(waveforms, lengths, layer=layer).features


def load_encoder(place: str | Path, device: str = "auto", adapter: str | None = None) -> Encoder:
    """The encoder of a pre-training or fine-tuning run, or of a model that others trained, in evaluation mode.

    Raises:
        CheckpointError: nothing there, cut short, or without an encoder.
    """
    encoder, _ = load_encoder_weights(place, adapter)
    return Encoder(encoder).eval().to(_device(device))


def _batch(waveforms: list[Tensor], shortest: int, normalize: bool, epsilon: float = 1e-5) -> tuple[Tensor, Tensor]:
    """(B, samples) and (B,) lengths; normalised if asked, then padded, to at least one frame."""
    if normalize:
        waveforms = [normalize_waveform(waveform[None], epsilon=epsilon)[0] for waveform in waveforms]
    lengths = torch.tensor([max(len(waveform), shortest) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded, lengths


def _read(source: Source, sample_rate: int) -> Tensor:
    """Samples (samples,) at 16 kHz."""
    if isinstance(source, Utterance):
        return torch.from_numpy(source.read())
    if isinstance(source, str | Path):
        return torch.from_numpy(read_audio(Path(source)))
    samples = np.asarray(source, dtype=np.float32)
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioError(f"expected samples as a one-dimensional array, found shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise AudioError("some samples are not numbers (NaN or infinite)")
    return torch.from_numpy(soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32))


def _name(source: Source, number: int) -> str:
    if isinstance(source, Utterance):
        return source.id
    return str(source) if isinstance(source, str | Path) else f"array {number}"


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
