"""Reading many utterances' emissions, and finding the decoder's weights without labels.

Source of the criterion: w2vu_generate.py: log perplexity of what was read x how far it is from what was heard greedily.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from firstwords.corpus.parallel import default_workers, track
from firstwords.corpus.prepared import Prepared
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.unspaced import Reading, UnspacedDecoder
from firstwords.scoring import ErrorCounts, word_errors

WEIGHTS, SCORES = (0.5, 1.0, 2.0, 3.0, 4.5), (-1.0, 0.0, 1.0)
"""Language-model weights and scores a word (or phone) that are tried."""
TUNED_ON = 24
"""Utterances that they are tried on."""
FARTHEST_FREE = 0.02
"""Distance to the greedy output below which being nearer is worth nothing. Ours."""
MANY = 200
"""Utterances from which on it pays to start processes."""


@dataclass(frozen=True)
class DecoderParts:
    """What an `UnspacedDecoder` is made of, so that processes can make their own."""

    phones: tuple[str, ...]
    """Silence last."""
    model: Path
    lexicon: Path | None
    settings: SearchSettings

    def make(self) -> UnspacedDecoder:
        """Raises as `UnspacedDecoder` does."""
        return UnspacedDecoder(self.phones, self.model, self.lexicon, self.settings)


def read_all(
    parts: DecoderParts, emissions: Iterable[np.ndarray], total: int, processes: int | None = None
) -> Iterator[Reading]:
    """The best reading of each utterance's log probabilities (T, P), in order, in several processes where it pays."""
    count = default_workers() if processes is None else processes
    if count < 2 or total < MANY:
        decoder = parts.make()
        yield from track((decoder(one) for one in emissions), total, "decoding")
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(parts,)) as pool:
        yield from track(pool.map(_read, _held(emissions), chunksize=8), total, "decoding")


def _held(emissions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return (np.asarray(one, dtype=np.float32) for one in emissions)


_decoder: UnspacedDecoder | None = None
"""Of this process, if it is one of a pool."""


def _begin(parts: DecoderParts) -> None:
    global _decoder
    _decoder = parts.make()


def _read(emissions: np.ndarray) -> Reading:
    assert _decoder is not None
    return _decoder(emissions)


def tuned(parts: DecoderParts, emissions: Sequence[np.ndarray], floor: float) -> tuple[SearchSettings, float]:
    """The weight and score that make readings likely without leaving what is heard, and their cost.

    The cost is log perplexity, but not below `floor`, times the phone error rate of the reading against the greedy
    output. Nothing but the emissions and the text's models is looked at.

    Args:
        emissions: of some utterances; `TUNED_ON` of them are enough.
        floor: log perplexity of real text, so that trivial readings do not win.
    """
    decoder = parts.make()
    greedy = [" ".join(greedy_phones(one, parts.phones)) for one in emissions]
    best: tuple[float, SearchSettings] | None = None
    tried = [replace(parts.settings, lm_weight=weight, word_score=score) for weight in WEIGHTS for score in SCORES]
    for settings in track(tried, len(tried), "weights"):
        readings = [decoder(one, settings) for one in emissions]
        distance = sum(
            (word_errors(a, " ".join(b.phones)) for a, b in zip(greedy, readings, strict=True)), ErrorCounts()
        )
        tokens = sum(reading.tokens + 1 for reading in readings)
        perplexity = -sum(reading.language_score for reading in readings) * math.log(10) / tokens
        cost = max(perplexity, floor) * max(distance.rate, FARTHEST_FREE)
        if best is None or cost < best[0]:
            best = cost, settings
    assert best is not None
    return best[1], best[0]


def text_floor(prepared: Prepared, decoder: UnspacedDecoder, sentences: int = 500) -> float:
    """Log perplexity of a symbol of real text: of sentences spread over it, to a model of all the others.

    The decoder's own model has seen them all; to it they are likelier than any speech, and so would be readings that
    only say what is likely.
    """
    if decoder.lexicon is None:
        lines = [" ".join(line) for line in prepared.sentences()]
    else:
        lines = (prepared.text / "sentences.txt").read_text(encoding="utf-8").splitlines()
    every = max(2, len(lines) // sentences)
    rest = [line for number, line in enumerate(lines) if number % every]
    found = estimate(rest, len(decoder.model.orders))[0].perplexity([line.split() for line in lines[::every]])
    return -found.log10 * math.log(10) / (found.words + found.sentences)


def greedy_phones(log_probabilities: np.ndarray, phones: Sequence[str]) -> list[str]:
    """The best phone of each step of (T, P), runs as one, silences (the last phone) left out."""
    best = log_probabilities.argmax(1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return [phones[k] for k in kept if k != len(phones) - 1]


def error_rate(truth: Mapping[str, Sequence[str]], said: Mapping[str, Sequence[str]]) -> float | None:
    """Phone (or word) error rate over utterances whose truth is known; None where there are none."""
    known = [name for name in said if name in truth]
    if not known:
        return None
    return sum((word_errors(" ".join(truth[name]), " ".join(said[name])) for name in known), ErrorCounts()).rate
