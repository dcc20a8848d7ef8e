"""What a recogniser hears in a corpus, kept: emissions beside references, for whatever decodes them more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError
from firstwords.recognizer import Recognizer
from firstwords.text.alphabet import Alphabet, transcript_of


@dataclass(frozen=True)
class Heard:
    """An utterance with what the network said about it."""

    id: str
    reference: str
    """As the alphabet spells."""
    emissions: Tensor
    """(T, V) log probabilities, on the CPU."""


def references_of(alphabet: Alphabet, utterances: Sequence[Utterance]) -> dict[str, str]:
    """The transcripts of those that have one, by id, as the alphabet spells."""
    references = {}
    for utterance in utterances:
        text = transcript_of(utterance, alphabet.units)
        if text and (normal := alphabet.normalize(text)):
            references[utterance.id] = normal
    return references


def listen(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    skip: Callable[[str, AudioError], None],
    batch_seconds: float = 60.0,
) -> list[Heard]:
    """Emissions of all utterances that have a reference, the shortest first.

    Args:
        recognizer: whose network listens.
        utterances: any.
        skip: told of recordings that cannot be read, which are left out.
        batch_seconds: most audio that the network sees at once.

    Raises:
        CorpusError: nothing is left.
    """
    references = references_of(recognizer.alphabet, utterances)
    wanted = sorted((u for u in utterances if u.id in references), key=lambda u: u.duration or 0.0)
    heard: list[Heard] = []
    batch: list[tuple[Utterance, Tensor]] = []

    def flush() -> None:
        if not batch:
            return
        logits, lengths = recognizer.emissions([samples for _, samples in batch])
        rows = logits.float().log_softmax(-1).cpu()
        for (utterance, _), row, length in zip(batch, rows, lengths.tolist(), strict=True):
            heard.append(Heard(utterance.id, references[utterance.id], row[:length].clone()))
        batch.clear()

    for utterance in track(wanted, len(wanted), "listening"):
        try:
            samples = torch.from_numpy(utterance.read())
        except AudioError as error:
            skip(utterance.id, error)
            continue
        longest = max([len(samples), *(len(other) for _, other in batch)])
        if longest * (len(batch) + 1) > batch_seconds * SAMPLE_RATE:
            flush()
        batch.append((utterance, samples))
    flush()
    if not heard:
        raise CorpusError(
            f"none of {len(utterances)} utterances has both a reference transcript and a readable recording"
        )
    return heard
