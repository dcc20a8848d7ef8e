"""Audio in, text out, at any length."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.batching import by_length, padded
from firstwords.checkpoints.models import load_ctc
from firstwords.corpus.parallel import map_in_order
from firstwords.decoding.aligned_text import Alignment, align_text
from firstwords.decoding.alignment import AlignmentConfig, align_labels
from firstwords.decoding.confidence import label_probabilities
from firstwords.decoding.greedy import GreedyDecoder
from firstwords.decoding.hypothesis import Decoder, Hypothesis
from firstwords.decoding.options import DecoderConfig
from firstwords.decoding.tuned import decoder_for, temperature_for
from firstwords.decoding.words import FrameClock, Label, separator, spans, timed_word
from firstwords.decoding.workers import DecoderPool, Pending
from firstwords.encoder import choose_device
from firstwords.errors import AudioError, CheckpointError
from firstwords.live import LiveConfig, LiveTranscript, listen
from firstwords.models.heads import CTCModel
from firstwords.models.inference import Precision, for_inference
from firstwords.nn.lengths import normalize_waveform
from firstwords.pauses import VoiceDetector, vad_installed
from firstwords.pieces import Piece, PieceConfig, cut_pieces
from firstwords.recording import Recording, Source, name_of
from firstwords.text.alphabet import Alphabet
from firstwords.transcript import Transcript
from firstwords.windows import WindowConfig, emissions

__all__ = ["Recognizer", "Settings", "Source", "Transcript"]

READ_AHEAD = 64
"""Recordings that are read and sorted by length at a time, so that batches need little padding."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How recordings are heard and read, beyond the network."""

    windows: WindowConfig = dataclasses.field(default_factory=WindowConfig)
    """How long recordings pass through the network."""
    pieces: PieceConfig = dataclasses.field(default_factory=PieceConfig)
    """How their emissions are cut for the decoder."""
    pauses: Literal["auto", "voice", "blanks"] = "auto"
    """Where those cuts lie: in pauses that Silero's voice detector finds ("voice"), in runs of blanks ("blanks"), or
    by the detector where it is installed ("auto")."""
    times: Literal["alignment", "peaks"] = "alignment"
    """Whether a word's time comes from forced alignment of the text found, or from the peaks of its labels alone."""
    temperature: float = 1.0
    """By which emissions are flattened for word confidences; `firstwords tune` fits it."""
    batch_seconds: float = 60.0
    """Most audio, padding included, that the network sees at once."""


class Recognizer:
    """A fine-tuned network, its alphabet, and a decoder.

    An utterance gets the same text alone and in a batch.
    """

    def __init__(
        self,
        model: CTCModel,
        alphabet: Alphabet,
        device: str = "cpu",
        decoder: Decoder | None = None,
        settings: Settings | None = None,
        precision: Precision = "auto",
    ) -> None:
        """
        Args:
            model: made ready for inference on `device`, in place.
            alphabet: what its outputs stand for.
            device: as torch names it.
            decoder: from emissions to labels; None decodes greedily.
            settings: None: the defaults.
            precision: of the network; "auto" takes bfloat16 where the hardware is fast at it.
        """
        self.model = for_inference(model, precision, device)
        self.alphabet = alphabet
        self.device = torch.device(device)
        self.decoder: Decoder = decoder or GreedyDecoder()
        self.settings = settings or Settings()
        self.settings.windows.check()
        self.settings.pieces.check()

    @classmethod
    def load(
        cls,
        place: str | Path,
        device: str = "auto",
        decoder: Decoder | None = None,
        settings: Settings | None = None,
        lm: str | Path | DecoderConfig | None = None,
        precision: Precision = "auto",
        adapter: str | None = None,
    ) -> Recognizer:
        """Reads a fine-tuning run (its best checkpoint), or a recogniser that others trained.

        Args:
            place: folder or file of ours, a Hugging Face folder, a fairseq `.pt`, or a name on the hub.
            device: "cpu", "cuda", or "auto" for a GPU if there is one.
            decoder: None decodes greedily, or with `lm`.
            settings: None: the defaults.
            lm: a language model, with the weights that `firstwords tune` found for it in this place if it did; or all
                that can be said of a decoder.
            precision: of the network; "auto" takes bfloat16 where the hardware is fast at it.
            adapter: which language, of a model with adapters for several.

        Raises:
            CheckpointError: nothing there, cut short, or no recogniser.
            LanguageModelError, TextError, ConfigError: the decoder cannot be made.
        """
        model, checkpoint = load_ctc(place, adapter)
        if "alphabet" not in checkpoint.state:
            imported = "imported" in checkpoint.state
            mend = "put the vocab.json that belongs to it beside it" if imported else "fine-tune again"
            raise CheckpointError(f"{place}: the checkpoint holds no alphabet; {mend}")
        alphabet = Alphabet.from_dict(checkpoint.state["alphabet"], f"{place}: alphabet")
        if decoder is None and lm is not None:
            decoder = decoder_for(lm, Path(place), alphabet)
            if settings is None:
                settings = Settings(temperature=temperature_for(lm, Path(place)))
        return cls(model, alphabet, choose_device(device), decoder, settings, precision)

    @property
    def clock(self) -> FrameClock:
        """When the network's frames are."""
        front = self.model.encoder.feature_encoder
        return FrameClock(front.hop / SAMPLE_RATE, (front.receptive_field - front.hop) / 2 / SAMPLE_RATE)

    @overload
    def transcribe(self, source: Source, sample_rate: int = ...) -> Transcript: ...

    @overload
    def transcribe(self, source: list[Any], sample_rate: int = ...) -> list[Transcript]: ...

    def transcribe(self, source: Source | list[Any], sample_rate: int = SAMPLE_RATE) -> Transcript | list[Transcript]:
        """The text of a recording of any length, or of each in a list.

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
        batch_seconds: float | None = None,
        skip: Callable[[str, AudioError], None] | None = None,
        heard: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript]:
        """Transcripts in the order of `sources`: short recordings batched by length, long ones in windows.

        Memory does not grow with the length of a recording, nor with their number.

        Args:
            sources: any number of recordings.
            sample_rate: of samples given as arrays.
            batch_seconds: in place of the settings'.
            skip: called with the name and the error of a recording that cannot be read, which is then left out;
                None raises the error.
            heard: called with seconds of audio as they are done, for a progress bar.
        """
        seconds = self.settings.batch_seconds if batch_seconds is None else batch_seconds
        whole = self.settings.windows.whole_seconds

        def read(item: tuple[int, Source]) -> tuple[str, Recording | Tensor | AudioError]:
            number, source = item
            try:
                recording = Recording.open(source, number, sample_rate)
                return recording.name, recording if recording.seconds > whole else recording.read()
            except AudioError as error:
                return name_of(source, number), error

        arriving = map_in_order(read, enumerate(sources))
        with self._decoding() as decode:
            while part := list(islice(arriving, READ_AHEAD)):
                short = {number: samples for number, (_, samples) in enumerate(part) if isinstance(samples, Tensor)}
                found = self._together(short, round(seconds * SAMPLE_RATE), decode, heard)
                for number, (name, recording) in enumerate(part):
                    try:
                        if isinstance(recording, AudioError):
                            raise recording
                        if isinstance(recording, Recording):
                            yield self._long(recording, seconds, decode, heard)
                        else:
                            yield dataclasses.replace(found.pop(number), id=name)
                    except AudioError as error:
                        if skip is None:
                            raise
                        skip(name, error)

    def _together(
        self,
        recordings: dict[int, Tensor],
        batch_samples: int,
        decode: _Decode,
        heard: Callable[[float], None] | None,
    ) -> dict[int, Transcript]:
        """Transcripts of recordings that are in memory."""

        def batches() -> Iterator[tuple[list[int], list[Tensor]]]:
            lengths = {number: len(samples) for number, samples in recordings.items()}
            for batch in by_length(lengths, batch_samples, self.device):
                logits, frames = self.emissions([recordings[number] for number in batch])
                valid = zip(logits.float().cpu(), frames.tolist(), strict=True)
                yield batch, [row[:length].log_softmax(-1) for row, length in valid]

        found = {}
        for batch, log_probabilities, hypotheses in decode(batches()):
            for number, row, readings in zip(batch, log_probabilities, hypotheses, strict=True):
                duration = len(recordings[number]) / SAMPLE_RATE
                found[number] = self._transcript(self._labels(row, readings[0], 0), readings[0].words, duration)
                if heard is not None:
                    heard(duration)
        return found

    def _long(
        self, recording: Recording, batch_seconds: float, decode: _Decode, heard: Callable[[float], None] | None
    ) -> Transcript:
        """The transcript of a recording that is never in memory as a whole."""

        def batches() -> Iterator[tuple[list[Piece], list[Tensor]]]:
            for piece in self.pieces(recording, batch_seconds):
                yield [piece], [piece.log_probabilities]

        labels: list[Label] = []
        words: list[str] | None = []
        frames, boundary = 0, self.alphabet.boundary
        for (piece,), (row,), (readings,) in decode(batches()):
            found = self._labels(row, readings[0], piece.first)
            if not isinstance(self.decoder, GreedyDecoder) and labels and labels[-1].index != boundary:
                labels.append(Label(boundary, piece.first, piece.first, 1.0))  # such decoders end on whole words
            labels += found
            words = None if words is None or readings[0].words is None else [*words, *readings[0].words]
            frames = piece.first + len(row)
            if heard is not None:
                heard(len(row) * self.clock.hop)
        seconds = max(recording.seconds, self.clock.seconds(frames)) if words or labels else recording.seconds
        return self._transcript(labels, words, seconds, recording.name)

    def pieces(self, recording: Recording, batch_seconds: float | None = None) -> Iterator[Piece]:
        """Log probabilities of a recording of any length, cut for a decoder.

        Raises:
            AudioError: the recording turns out to be broken.
        """
        hop, settings = self.clock.hop, self.settings
        silence, counts = None, deque[int]()
        if settings.pauses == "voice" or (settings.pauses == "auto" and vad_installed()):
            samples = self.model.encoder.feature_encoder.hop
            silence = VoiceDetector().silence(recording.blocks(), samples, iter(counts.popleft, None))

        def parts() -> Iterator[Tensor]:
            for part in self.log_probabilities(recording, batch_seconds):
                counts.append(len(part))
                yield part

        longest, shortest = (round(value / hop) for value in (settings.pieces.seconds, settings.pieces.min_seconds))
        return cut_pieces(parts(), longest, shortest, silence)

    def log_probabilities(self, recording: Recording, batch_seconds: float | None = None) -> Iterator[Tensor]:
        """Log probabilities (t, V) of a recording of any length, part by part, on the CPU. Raises AudioError."""
        seconds = self.settings.batch_seconds if batch_seconds is None else batch_seconds
        for logits in emissions(self.model, recording.blocks, self.settings.windows, seconds, self.device):
            yield logits.float().log_softmax(-1)

    def align(
        self, source: Source, text: str, config: AlignmentConfig | None = None, sample_rate: int = SAMPLE_RATE
    ) -> Alignment:
        """When every word of a text was said in a recording of any length.

        Args:
            source: a file, samples (samples,), an utterance.
            text: what was said, in any spelling; line breaks and full stops end sentences.
            config: None: the defaults.
            sample_rate: of samples given as an array.

        Raises:
            AudioError: the recording cannot be read.
            AlignmentError: the text is empty, or does not fit the recording.
        """
        recording = Recording.open(source, 0, sample_rate)
        found = torch.cat(list(self.log_probabilities(recording)))
        return align_text(found.numpy(), text, self.alphabet, self.clock, recording.seconds, config)

    def listen(
        self, chunks: Iterable[Any], sample_rate: int = SAMPLE_RATE, config: LiveConfig | None = None
    ) -> Iterator[LiveTranscript]:
        """Growing transcripts of sound that is still arriving.

        What is stable never changes: greedily, whole words that the network has heard beyond; with a beam search, what
        lies before the last long pause. Norms over time take their statistics over what was heard so far, so the first
        seconds are read less well than in `transcribe`.

        Args:
            chunks: samples (n,) each, of any lengths, as a microphone gives them.
            sample_rate: of the chunks.
            config: None: the defaults.

        Raises:
            AudioError: samples that are not numbers, or not one channel.
        """
        return listen(self.model, self.alphabet, self.decoder, self.device, chunks, sample_rate, config or LiveConfig())

    @torch.inference_mode()
    def emissions(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, T, labels) of waveforms (samples,) each, heard whole, and their valid frames (B,)."""
        shortest = self.model.encoder.feature_encoder.receptive_field
        config = self.model.encoder.config
        if config.normalize_waveform:
            waveforms = [normalize_waveform(one[None], epsilon=config.normalize_epsilon)[0] for one in waveforms]
        together, lengths = padded(waveforms, shortest)
        return self.model(together.to(self.device), lengths.to(self.device))

    def _labels(self, log_probabilities: Tensor, hypothesis: Hypothesis, first: int) -> list[Label]:
        """The labels of a reading with their frames, `first` frames into the recording."""
        if not hypothesis.labels:
            return []
        starts, ends = hypothesis.frames, tuple(frame + 1 for frame in hypothesis.frames)
        if self.settings.times == "alignment":
            path = align_labels(log_probabilities.numpy(), hypothesis.labels)
            starts, ends = tuple(path.starts.tolist()), tuple(path.ends.tolist())
        sure = label_probabilities(log_probabilities, hypothesis, self.settings.temperature)
        parts = zip(hypothesis.labels, starts, ends, sure, strict=True)
        return [Label(index, first + start, first + end, one) for index, start, end, one in parts]

    def _transcript(
        self, labels: list[Label], texts: Sequence[str] | None, duration: float, name: str = ""
    ) -> Transcript:
        """`texts` are the words as a lexicon has them; None where the labels say them."""
        found = spans(labels, self.alphabet)
        shown: Sequence[str | None] = texts if texts is not None and len(texts) == len(found) else [None] * len(found)
        pairs = zip(found, shown, strict=True)
        words = tuple(timed_word(span, self.alphabet, self.clock, duration, text) for span, text in pairs)
        between = " " if texts is not None else separator(self.alphabet)
        text = between.join(texts if texts is not None else (word.text for word in words))
        return Transcript(text, duration, name, words)

    @contextmanager
    def _decoding(self) -> Iterator[_Decode]:
        """A function that passes batches to the decoder and goes on with the network: to its processes, or a thread."""
        pool = ThreadPoolExecutor(1)
        many = self.decoder if isinstance(self.decoder, DecoderPool) else None
        ahead = 2 * (many.config.processes or 1) if many else 2

        def decode(batches: Iterable[tuple[Any, list[Tensor]]]) -> Iterator[tuple[Any, list[Tensor], Any]]:
            waiting: deque[tuple[Any, list[Tensor], Future[Any] | Pending]] = deque()
            for key, rows in batches:
                waiting.append((key, rows, many.start(rows) if many else pool.submit(self.decoder, rows)))
                if len(waiting) > ahead:
                    first, given, future = waiting.popleft()
                    yield first, given, future.result()
            while waiting:
                first, given, future = waiting.popleft()
                yield first, given, future.result()

        try:
            yield decode
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_Decode = Callable[[Iterable[tuple[Any, list[Tensor]]]], Iterator[tuple[Any, list[Tensor], list[list[Hypothesis]]]]]
