"""Beam search decoders: lexicon, language model and search put together."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from firstwords.decoding.asg_search import AsgSearch
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.lexicon import Lexicon
from firstwords.decoding.scorers import SumScorer, SymbolScorer, WordScorer
from firstwords.decoding.search import NEVER, BeamSearch, Scorer
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.word_model import WordModel
from firstwords.errors import FirstwordsError
from firstwords.text.alphabet import Alphabet

if TYPE_CHECKING:
    from torch import Tensor


class Engine(Protocol):
    """A search with its lexicon and model in memory, which settings may still change."""

    transitions: np.ndarray | None
    """(V, V) of a recogniser trained with ASG."""

    def decode(self, emissions: np.ndarray, settings: SearchSettings) -> list[Hypothesis]:
        """Readings of log probabilities (T, V) float32, contiguous, T at least 1; best first."""
        ...


def flashlight_is_there() -> bool:
    """Whether the package flashlight-text is installed."""
    return importlib.util.find_spec("flashlight") is not None


@dataclass
class OwnSearch:
    """Our own search."""

    alphabet: Alphabet
    kind: Literal["words", "symbols"]
    """What the model is over; with neither model nor lexicon, "symbols"."""
    model: WordModel | None = None
    lexicon: Lexicon | None = None
    """Of kind "words"."""
    open_vocabulary: bool = False
    """Words that the lexicon lacks may be written, too."""
    boosts: Mapping[str, float] = field(default_factory=dict)
    """Hot words and what they add to the score; in the lexicon where there is one."""
    hot: Lexicon | None = None
    """The hot words of kind "symbols"."""
    transitions: np.ndarray | None = None
    """(V, V) of a recogniser trained with ASG."""
    _last: tuple[SearchSettings, np.ndarray | None, BeamSearch] | None = None

    def decode(self, emissions: np.ndarray, settings: SearchSettings) -> list[Hypothesis]:
        if self._last is None or self._last[0] != settings or self._last[1] is not self.transitions:
            self._last = settings, self.transitions, self.search(settings)
        search = self._last[2]
        return [
            Hypothesis(
                tuple(one.labels),
                tuple(one.frames),
                one.emission,
                search.scorer.language(one.state),
                one.score,
                search.scorer.words(one.state),
            )
            for one in search(emissions, settings.nbest)
        ]

    def search(self, settings: SearchSettings) -> BeamSearch:
        """The search for the recogniser's criterion."""
        scorer, boundary = self.scorer(settings), self.alphabet.boundary
        if self.transitions is None:
            return BeamSearch(scorer, settings, boundary)
        repeats, heard_ends = self.kind == "words", self.alphabet.final_boundary
        return AsgSearch(scorer, settings, boundary, self.transitions, repeats, heard_ends)

    def scorer(self, settings: SearchSettings) -> Scorer:
        """What the search asks, with the weights of `settings`."""
        if self.kind == "words":
            assert self.lexicon is not None
            unknown = settings.unknown_score if self.open_vocabulary else NEVER
            weight, score = settings.lm_weight, settings.word_score
            return WordScorer(self.lexicon, self.alphabet, self.model, weight, score, unknown, self.boosts)
        symbols = SymbolScorer(self.alphabet, self.model, settings.lm_weight, settings.word_score)
        if self.hot is None:
            return symbols
        return SumScorer(symbols, WordScorer(self.hot, self.alphabet, None, 0.0, 0.0, 0.0, self.boosts, strict=False))


def flashlight_engine(
    kind: str,
    alphabet: Alphabet,
    path: Path | None,
    lexicon: Lexicon | None,
    boosts: Mapping[str, float],
    transitions: np.ndarray | None = None,
) -> Engine:
    """flashlight-text with what it needs in memory."""
    from firstwords.decoding.flashlight import FlashlightSymbols, FlashlightWords

    if kind == "symbols":
        return FlashlightSymbols(alphabet, path)
    assert lexicon is not None
    return FlashlightWords(lexicon, alphabet, path, boosts, transitions)


class BeamDecoder:
    """A `Decoder` in this process.

    Args:
        engine: the search.
        settings: weights and limits.
        labels: of the alphabet.
        note: what its user should know.
    """

    def __init__(self, engine: Engine, settings: SearchSettings, labels: int, note: str = "") -> None:
        self.engine, self.settings, self.labels, self.note = engine, settings, labels, note

    def change_transitions(self, transitions: np.ndarray | None) -> None:
        """Goes on with other transition scores, as a recogniser that is being trained has them."""
        self.engine.transitions = transitions

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """Readings of each utterance's log probabilities (T, V), best first.

        Raises:
            FirstwordsError: emissions of another alphabet, or with values that are not numbers.
        """
        return [self.decode(one.numpy()) for one in emissions]

    def decode(self, emissions: np.ndarray, settings: SearchSettings | None = None) -> list[Hypothesis]:
        """The same for one utterance, perhaps with other settings."""
        if emissions.ndim != 2 or emissions.shape[1] != self.labels:
            raise FirstwordsError(f"emissions of shape {emissions.shape}; the alphabet has {self.labels} labels")
        if len(emissions) == 0:
            return [Hypothesis((), (), 0.0, words=())]
        if np.isnan(emissions).any():
            raise FirstwordsError("the recogniser gave values that are not numbers (NaN); its weights are broken")
        return self.engine.decode(np.ascontiguousarray(emissions, dtype=np.float32), settings or self.settings)
