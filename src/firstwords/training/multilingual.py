"""What sampling of languages asks of a task that hears audio: repeated utterances, and how much of each was heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance


def again(utterance: Utterance, copy: int) -> Utterance:
    """An utterance that comes `copy` times before in the same epoch. Crops, masks and noise are drawn from its id: with
    one of its own, a repetition in the same update is another crop, not the same thing twice."""
    return dataclasses.replace(utterance, id=f"{utterance.id} (heard again, {copy})") if copy else utterance


def heard_by_language(names: Sequence[str], batches: Iterable[tuple[Sequence[str], Tensor]]) -> Tensor:
    """(L,) seconds of each of the languages `names`, float64, in batches of utterances' languages and samples (B,)."""
    seconds = torch.zeros(len(names), dtype=torch.double)
    for languages, lengths in batches:
        for name, samples in zip(languages, lengths.tolist(), strict=True):
            if name in names:
                seconds[list(names).index(name)] += samples / SAMPLE_RATE
    return seconds
