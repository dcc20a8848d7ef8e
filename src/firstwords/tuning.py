"""Which weights a language model gets: quasi-random search and then nearby, over emissions that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from firstwords.corpus.parallel import track
from firstwords.decoding.beam import BeamDecoder
from firstwords.decoding.confidence import Calibration, fit_temperature
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.options import DecoderConfig, make_beam_decoder
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.workers import DecoderPool
from firstwords.errors import ConfigError, CorpusError
from firstwords.listening import Heard
from firstwords.scoring import ErrorCounts, word_errors
from firstwords.text.alphabet import Alphabet

LOCAL_SHARE = 0.4
"""Of the trials, those that look near the best one so far."""
FIRST_STEP, LAST_STEP = 0.15, 0.02
"""How far from it, as a share of each range."""
EDGE = 0.05
"""The best weights lie at the edge of their range if they are this near, as a share of it."""


@dataclass(frozen=True)
class TuneConfig:
    """What is tried."""

    trials: int = 48
    """Weights that are tried; the papers try 128."""
    lm_weights: tuple[float, float] = (0.0, 5.0)
    """Range of the language model's weight. Source: wav2vec 2.0, appendix B."""
    word_scores: tuple[float, float] = (-5.0, 5.0)
    """Range of the word score. Source: wav2vec 2.0, appendix B."""
    unknown_scores: tuple[float, float] = (-20.0, 0.0)
    """Range of the score of words outside the lexicon, with an open vocabulary. Ours."""
    beams: tuple[int, ...] = ()
    """Beams to try with the best weights; the smallest of the best ones is kept."""
    seed: int = 0
    """Of the search."""

    def check(self) -> None:
        """Raises ConfigError where nothing can be tried."""
        if self.trials < 1:
            raise ConfigError(f"--trials {self.trials}: 1 is the least")
        for name, (low, high) in (("lm-weights", self.lm_weights), ("word-scores", self.word_scores)):
            if low > high:
                raise ConfigError(f"--{name} {low:g} {high:g}: the lower end comes first")
        if any(beam < 1 for beam in self.beams):
            raise ConfigError("--beams: 1 is the least")


@dataclass(frozen=True)
class Trial:
    """Settings, and how wrong the transcripts were."""

    settings: SearchSettings
    errors: ErrorCounts
    stage: Literal["default", "spread", "near", "beam"]


@dataclass(frozen=True)
class Tuning:
    """All trials in their order, the best, and how sure its words are."""

    trials: list[Trial] = field(default_factory=list)
    calibration: Calibration | None = None
    """Of word confidences with the best settings; None where no word was recognised."""

    @property
    def best(self) -> Trial:
        """The one of fewest errors; of several the one of the smallest beam, then the first."""
        return min(self.trials, key=lambda trial: (trial.errors.errors, trial.settings.beam))


def tune(
    heard: Sequence[Heard],
    alphabet: Alphabet,
    config: DecoderConfig,
    search: TuneConfig,
    transitions: np.ndarray | None = None,
) -> Tuning:
    """Tries weights on utterances.

    Weights that `config` names are tried first and the others around them are left free.

    Args:
        heard: emissions and references.
        alphabet: of the emissions.
        config: language model, lexicon, beam of the search.
        search: what is tried.
        transitions: (V, V) of a recogniser trained with ASG.

    Raises:
        ConfigError: nothing to tune, or ranges without inside.
        FirstwordsError: the decoder cannot be made.
    """
    search.check()
    if config.lm is None:
        raise ConfigError("nothing to tune without a language model; name one with --lm")
    decode, first, close = _decoder(replace(config, nbest=1), alphabet, transitions)
    emissions = [one.emissions for one in heard]

    def attempt(settings: SearchSettings, stage: Literal["default", "spread", "near", "beam"]) -> Trial:
        readings = decode(emissions, settings)
        texts = [alphabet.decode(best.labels) for best, *_ in readings]
        pairs = zip(heard, texts, strict=True)
        errors = sum((_errors(one.reference, text) for one, text in pairs), ErrorCounts())
        return Trial(settings, errors, stage)

    try:
        found = Tuning([attempt(first, "default")])
        ranges = np.array([search.lm_weights, search.word_scores, search.unknown_scores])
        if not config.open_vocabulary:
            ranges = ranges[:2]
        for number in track(range(1, search.trials), search.trials - 1, "tuning"):
            found.trials.append(attempt(*_proposal(number, search, ranges, found, first)))
        best = found.best.settings
        for beam in search.beams:
            if beam != best.beam:
                found.trials.append(attempt(replace(best, beam=beam), "beam"))
        readings = [best for best, *_ in decode(emissions, found.best.settings)]
        with suppress(CorpusError):  # not a single word was recognised
            references = [one.reference for one in heard]
            found = replace(found, calibration=fit_temperature(emissions, readings, references, alphabet))
        return found
    finally:
        close()


def at_edges(best: SearchSettings, search: TuneConfig) -> list[str]:
    """Advice where the best weights lie at the end of their range: beyond it there may be better ones."""
    advice = []
    for option, name, value, (low, high) in (
        ("lm-weights", "weight of the language model", best.lm_weight, search.lm_weights),
        ("word-scores", "word score", best.word_score, search.word_scores),
    ):
        room, more = EDGE * (high - low), (high - low) / 2
        least = 0.0 if option == "lm-weights" else -np.inf  # a model cannot count for less than nothing
        if not room:
            continue
        if value > high - room:
            wider = (low, high + more)
        elif value < low + room and low > least:
            wider = (max(low - more, least), high)
        else:
            continue
        advice.append(
            f"the best {name}, {value:g}, lies at the edge of --{option} {low:g} {high:g}; "
            f"try again with --{option} {wider[0]:g} {wider[1]:g}"
        )
    return advice


def _proposal(
    number: int, search: TuneConfig, ranges: np.ndarray, found: Tuning, first: SearchSettings
) -> tuple[SearchSettings, Literal["spread", "near"]]:
    """The next weights: spread evenly at first, then ever nearer to the best so far."""
    local = round(search.trials * LOCAL_SHARE)
    low, high = ranges[:, 0], ranges[:, 1]
    if number < search.trials - local:
        points = torch.quasirandom.SobolEngine(len(ranges), scramble=True, seed=search.seed).draw(number)
        values = low + points[-1].double().numpy() * (high - low)
        return _with(first, values), "spread"
    done = (number - (search.trials - local)) / max(1, local - 1)
    step = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** done
    best = found.best.settings
    centre = np.array([best.lm_weight, best.word_score, best.unknown_score])[: len(ranges)]
    noise = np.random.default_rng((search.seed, number)).standard_normal(len(ranges))
    return _with(first, np.clip(centre + step * (high - low) * noise, low, high)), "near"


def _with(settings: SearchSettings, values: np.ndarray) -> SearchSettings:
    weight, word, *unknown = (round(float(value), 3) for value in values)
    return replace(settings, lm_weight=weight, word_score=word, unknown_score=[*unknown, settings.unknown_score][0])


_Decode = Callable[[list[Tensor], SearchSettings], list[list[Hypothesis]]]


def _decoder(
    config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None
) -> tuple[_Decode, SearchSettings, Callable[[], None]]:
    """A function that decodes with given settings, the settings that `config` says, and what ends it."""
    if config.processes:
        pool = DecoderPool(config, alphabet, transitions)
        try:
            first = pool.settings
        except BaseException:
            pool.close()
            raise
        return lambda emissions, settings: pool.start(emissions, settings).result(), first, pool.close
    decoder: BeamDecoder = make_beam_decoder(config, alphabet, transitions)

    def decode(emissions: list[Tensor], settings: SearchSettings) -> list[list[Hypothesis]]:
        return [decoder.decode(one.numpy(), settings) for one in emissions]

    return decode, decoder.settings, lambda: None


def _errors(reference: str, text: str) -> ErrorCounts:
    """Word errors; the boundary that stands between words of phones is no token."""
    return word_errors(*(" ".join(one.replace("|", " ").split()) for one in (reference, text)))
