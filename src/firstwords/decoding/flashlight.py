"""flashlight-text underneath: the search of wav2letter and fairseq in C++, with KenLM inside.

Imported only where the package is there (Python 3.12 and earlier); our own search finds the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flashlight.lib.text.decoder import (
    LM,
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    SmearingMode,
    Trie,
    ZeroLM,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

from firstwords.decoding.hypothesis import BLANK, Hypothesis, asg_hypothesis, hypothesis_of_path
from firstwords.decoding.lexicon import Lexicon
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.word_model import UNKNOWN
from firstwords.errors import LanguageModelError
from firstwords.text.alphabet import Alphabet

IMPOSSIBLE, UNFINISHED = -1e9, -1e5
"""Log probabilities of the frame behind the last one: of every label but the boundary, and of the blank, which is for
words that cannot end there."""
ALIKE = 6
"""Words of the same spelling that its trie holds."""


class FlashlightWords:
    """Words of a lexicon weighed by an n-gram model.

    Args:
        lexicon: words and spellings.
        alphabet: of the emissions.
        path: ARPA file or KenLM binary; None for no model.
        boosts: added to the score of some words.
        transitions: (V, V) of a recogniser trained with ASG.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        alphabet: Alphabet,
        path: Path | None,
        boosts: Mapping[str, float] | None = None,
        transitions: np.ndarray | None = None,
    ) -> None:
        self.transitions = transitions
        self.lexicon, self.boundary, self.boosts = lexicon, alphabet.boundary, dict(boosts or {})
        self.words = Dictionary()
        for word in dict.fromkeys(lexicon.words):
            self.words.add_entry(word)
        if not self.words.contains(UNKNOWN):
            self.words.add_entry(UNKNOWN)
        self.model = _kenlm(path, self.words) if path else ZeroLM()
        self.has_model = path is not None
        self._first: dict[int, float] = {}
        self._trie: tuple[float, Trie] | None = None

    def decode(self, emissions: np.ndarray, settings: SearchSettings) -> list[Hypothesis]:
        """Readings of log probabilities (T, V), best first."""
        weight = settings.lm_weight if self.has_model else 0.0
        boosted = bool(self.boosts)
        scale = weight or float(boosted)  # what flashlight multiplies the model's scores by, and with them the boosts
        model: LM = ZeroLM() if boosted and not weight else self.model
        if boosted:
            model = _Boosted(model, {self.words.get_index(w): b / scale for w, b in self.boosts.items()})
        options = LexiconDecoderOptions(
            settings.beam, _tokens(settings, emissions), settings.beam_threshold, scale, settings.word_score,
            -np.inf, settings.silence_score, settings.log_add, _criterion(self.transitions),
        )  # fmt: skip
        unknown = self.words.get_index(UNKNOWN)
        trie = self._smeared(weight, scale)
        steps = _flat(self.transitions)
        search = LexiconDecoder(options, trie, model, self.boundary, BLANK, unknown, steps, False)
        if self.transitions is None:
            results = _run(search, emissions, self.boundary, settings.silence_score)
        else:
            results = _run_asg(search, emissions, self.boundary)
        readings: dict[tuple[int, ...], Hypothesis] = {}
        for result, path, finished in results:
            found = self._heard(path, emissions)
            entries = [word for word in result.words if word >= 0]
            words = tuple(self.words.get_entry(word) for word in entries)
            boosts = sum(self.boosts.get(word, 0.0) for word in words)
            language = result.lmScore - (boosts / scale if boosted else 0.0)
            score = result.score - (0.0 if finished or self.transitions is not None else UNFINISHED)
            readings.setdefault(
                found.labels, replace(found, language_score=language, score=score, words=words if finished else None)
            )
            if len(readings) == settings.nbest:
                break
        return list(readings.values())

    def _heard(self, path: np.ndarray, emissions: np.ndarray) -> Hypothesis:
        """What a path says, without words."""
        if self.transitions is not None:
            return asg_hypothesis(path, emissions, self.transitions, self.boundary)
        return hypothesis_of_path(path.tolist(), emissions[np.arange(len(path)), path].tolist(), self.boundary)

    def _smeared(self, weight: float, scale: float) -> Trie:
        """The lexicon as a tree with the best score ahead at each node."""
        if self._trie is not None and (self._trie[0] == scale or not self.boosts):
            return self._trie[1]
        trie = Trie(len(self.lexicon.tree.children[0]), self.boundary)
        start = self.model.start(False)
        for word, spelling in zip(self.lexicon.words, self.lexicon.spellings, strict=True):
            index = self.words.get_index(word)
            if index not in self._first:
                self._first[index] = self.model.score(start, index)[1]
            ahead = self._first[index] if weight or not self.boosts else 0.0
            if word in self.boosts:
                ahead += self.boosts[word] / scale
            trie.insert([*spelling, self.boundary], index, ahead)
        trie.smear(SmearingMode.MAX)
        self._trie = scale, trie
        return trie


class FlashlightSymbols:
    """Any sequence of symbols, weighed by an n-gram model over them.

    Args:
        alphabet: of the emissions.
        path: ARPA file or KenLM binary; None for no model.
    """

    transitions: np.ndarray | None = None
    """Only CTC: with ASG flashlight-text 0.0.7 leaves them out of the score of a search without a lexicon."""

    def __init__(self, alphabet: Alphabet, path: Path | None) -> None:
        self.boundary, self.has_model = alphabet.boundary, path is not None
        symbols = Dictionary()
        for symbol in alphabet.symbols:
            symbols.add_entry(symbol)
        self.model = _kenlm(path, symbols) if path else ZeroLM()

    def decode(self, emissions: np.ndarray, settings: SearchSettings) -> list[Hypothesis]:
        """Readings of log probabilities (T, V), best first."""
        weight = settings.lm_weight if self.has_model else 0.0
        options = LexiconFreeDecoderOptions(
            settings.beam, _tokens(settings, emissions), settings.beam_threshold, weight,
            settings.silence_score, settings.log_add, CriterionType.CTC,
        )  # fmt: skip
        search = LexiconFreeDecoder(options, self.model, self.boundary, BLANK, [])
        readings: dict[tuple[int, ...], Hypothesis] = {}
        for result in search.decode(emissions.ctypes.data, *emissions.shape):
            path = np.array(result.tokens[1:-1], dtype=np.int64)
            heard = emissions[np.arange(len(path)), path]
            found = hypothesis_of_path(path.tolist(), heard.tolist(), first=self.boundary)
            readings.setdefault(found.labels, replace(found, language_score=result.lmScore, score=result.score))
            if len(readings) == settings.nbest:
                break
        return list(readings.values())


class _Boosted(LM):
    """A model with something added to the scores of some words."""

    def __init__(self, model: LM, boosts: dict[int, float]) -> None:
        super().__init__()
        self.model, self.boosts = model, boosts

    def start(self, start_with_nothing: bool) -> Any:
        return self.model.start(start_with_nothing)

    def score(self, state: Any, word: int) -> tuple[Any, float]:
        after, score = self.model.score(state, word)
        return after, score + self.boosts.get(word, 0.0)

    def finish(self, state: Any) -> Any:
        return self.model.finish(state)


def _run(
    search: LexiconDecoder, emissions: np.ndarray, boundary: int, silence_score: float
) -> Iterator[tuple[Any, np.ndarray, bool]]:
    """Results, their paths (T,) and whether the last word is finished: a boundary behind the last frame is free."""
    last = np.full((1, emissions.shape[1]), IMPOSSIBLE, dtype=np.float32)
    last[0, BLANK], last[0, boundary] = UNFINISHED, -silence_score
    longer = np.ascontiguousarray(np.concatenate([emissions, last]))
    for result in search.decode(longer.ctypes.data, *longer.shape):
        tokens = np.array(result.tokens[1:-1], dtype=np.int64)
        yield result, tokens[:-1], tokens[-1] == boundary


def _run_asg(search: LexiconDecoder, emissions: np.ndarray, boundary: int) -> Iterator[tuple[Any, np.ndarray, bool]]:
    """The same for ASG, where the last boundary has to be heard."""
    for result in search.decode(emissions.ctypes.data, *emissions.shape):
        path = np.array(result.tokens[1:-1], dtype=np.int64)
        yield result, path, path[-1] == boundary


def _criterion(transitions: np.ndarray | None) -> CriterionType:
    return CriterionType.CTC if transitions is None else CriterionType.ASG


def _flat(transitions: np.ndarray | None) -> list[float]:
    """As flashlight has them: to, then from."""
    return [] if transitions is None else transitions.astype(np.float32).reshape(-1).tolist()


def _tokens(settings: SearchSettings, emissions: np.ndarray) -> int:
    return settings.token_beam if 0 < settings.token_beam < emissions.shape[1] else emissions.shape[1]


def _kenlm(path: Path, words: Dictionary) -> KenLM:
    """Reads a model, without KenLM's own progress on stderr.

    Raises:
        LanguageModelError: it cannot be read.
    """
    try:
        with _quiet():
            return KenLM(str(path), words)
    except RuntimeError as error:
        reason = " ".join(str(error).split()[-30:])
        raise LanguageModelError(f"{path}: no language model that can be read: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What C++ writes to stderr goes nowhere."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
