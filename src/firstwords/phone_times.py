"""When phones were said: out of files, out of a manifest, or by forced alignment with a recogniser."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.intervals import FIELD, Alignments, Interval, manifest_alignment
from firstwords.corpus.phonemes import with_phones
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.aligned_text import align_text
from firstwords.decoding.alignment import AlignmentConfig
from firstwords.errors import AlignmentError, ConfigError
from firstwords.recognizer import Recognizer
from firstwords.recording import Recording
from firstwords.text.alphabet import transcript_of

Times = Callable[[Sequence[Utterance], Sequence[Tensor]], list[list[Interval] | None]]
"""Who knows when phones were said: utterances and their samples (samples,) to intervals, None where not known."""


class FileTimes:
    """Phone times from files."""

    def __init__(self, alignments: Alignments) -> None:
        self.alignments = alignments

    def __call__(self, utterances: Sequence[Utterance], waveforms: Sequence[Tensor]) -> list[list[Interval] | None]:
        return [self.alignments.of(utterance) for utterance in utterances]


class ManifestTimes:
    """Phone times from a key of the manifest's lines."""

    def __init__(self, key: str = FIELD) -> None:
        self.key = key

    def __call__(self, utterances: Sequence[Utterance], waveforms: Sequence[Tensor]) -> list[list[Interval] | None]:
        return [manifest_alignment(utterance, self.key) for utterance in utterances]


class RecognizerTimes:
    """Phone times by forced alignment: of phones with a recogniser of phones, else of characters.

    Phones are the manifest's `phones`; where an utterance has none, espeak-ng tells them from its text, if asked to.
    """

    def __init__(
        self, recognizer: Recognizer, espeak: str | None = None, config: AlignmentConfig | None = None
    ) -> None:
        """
        Args:
            recognizer: of phones (fine-tuned with --text.units phonemes) or characters.
            espeak: espeak-ng's language code for utterances without phones; "manifest" takes each utterance's own.
            config: None: the defaults.

        Raises:
            ConfigError: espeak-ng is asked for phones that the recogniser does not spell with.
        """
        self.recognizer, self.espeak, self.config = recognizer, espeak, config
        if espeak is not None and recognizer.alphabet.units != "phonemes":
            raise ConfigError("the recogniser spells with characters, so that phones by espeak are of no use to it")

    def __call__(self, utterances: Sequence[Utterance], waveforms: Sequence[Tensor]) -> list[list[Interval] | None]:
        who = self.recognizer
        if self.espeak is not None:
            language = None if self.espeak == "manifest" else self.espeak
            utterances = list(with_phones(utterances, language))
        texts = [transcript_of(utterance, who.alphabet.units) for utterance in utterances]
        longest = max(map(len, waveforms)) / SAMPLE_RATE
        if longest > who.settings.windows.whole_seconds:
            rows = [torch.cat(list(who.log_probabilities(Recording.open(samples)))) for samples in waveforms]
        else:
            logits, lengths = who.emissions(list(waveforms))
            valid = zip(logits.float().cpu(), lengths.tolist(), strict=True)
            rows = [row[:length].log_softmax(-1) for row, length in valid]
        found: list[list[Interval] | None] = []
        for text, row, samples in zip(texts, rows, waveforms, strict=True):
            if not text or not who.alphabet.normalize(text):
                found.append(None)
                continue
            seconds = len(samples) / SAMPLE_RATE
            try:
                alignment = align_text(row.numpy(), text, who.alphabet, who.clock, seconds, self.config)
            except AlignmentError:
                found.append(None)
                continue
            parts = [part for word in alignment.words for part in word.characters]
            found.append([Interval(None if p.confidence is None else p.text, p.start, p.end) for p in parts])
        return found


def nothing_aligned(times: Times, count: int) -> str:
    """Why no utterance of `count` got phone times, and the mend."""
    if isinstance(times, FileTimes):
        name = next(iter(times.alignments.entries))
        return (
            f"{times.alignments.place}: alignments of {len(times.alignments.entries)} recordings (such as {name!r}), "
            f"none of them among the corpus's {count} utterances; files are named by the utterance's id"
        )
    if isinstance(times, ManifestTimes):
        return f'none of {count} utterances has "{times.key}": [[label, start, end], ...] in its manifest line'
    key = "phones" if isinstance(times, RecognizerTimes) and times.recognizer.alphabet.units == "phonemes" else "text"
    return f'none of {count} utterances has a transcript ("{key}") that can be aligned'
