"""Searches for emissions in which no word boundary is heard: phones and pauses of wav2vec-U and of phone HMMs.

A phone takes one step or more; the same phone may follow itself without anything between (kiss Sue), which CTC could
not tell from one long phone. Two readings: phones weighed by an n-gram model, pauses being one of its phones; and words
of a lexicon that follow one another directly, a pause being possible anywhere, like CTC's blank. Source: fairseq's
decoding graphs for wav2vec-U, whose silence is the blank too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from firstwords.decoding.lexicon import Lexicon, read_lexicon
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.scorers import WordScorer, WordState
from firstwords.decoding.search import NEVER, BeamSearch
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.word_model import word_id
from firstwords.errors import LanguageModelError
from firstwords.text.alphabet import BLANK, BOUNDARY, Alphabet

FIRST = 2
"""The first phone's label; before it are the blank and the boundary."""
REMEMBERED = 200_000
"""Histories whose probabilities are kept at hand."""
HOMOPHONES = 4
"""Words of one pronunciation that are tried, the likeliest."""


@dataclass(frozen=True)
class Reading:
    """What an utterance was read as."""

    phones: tuple[str, ...]
    """Without pauses."""
    words: tuple[str, ...] | None
    """None where phones alone were looked for."""
    emission_score: float
    """Natural logarithm of the path's probability over the emissions."""
    language_score: float
    """log10 of the language model's probability, unweighted."""
    tokens: int
    """Words, or phones and pauses, that the language model foresaw, without the end."""


class PhoneState(NamedTuple):
    """What is remembered of a sequence of phones."""

    history: Any
    language: float
    last: int
    """The last label; 0 before the first."""


class PhoneScorer:
    """Any sequence of phones, weighed by an n-gram model over them.

    Args:
        labels: how many there are, blank and boundary included.
        model: over phones.
        phones: those of labels FIRST and on.
        weight, score: of log10 p(phone), and of each phone.
    """

    def __init__(
        self, labels: int, model: NgramModel, phones: Sequence[str], weight: float, score: float = 0.0
    ) -> None:
        self.model, self.weight, self.score, self.labels = model, weight, score, labels
        self.columns = np.concatenate([np.arange(labels), np.arange(labels)])  # the second time: the same phone again
        self.ids = [word_id(model, phone) for phone in phones]
        self._rows: dict[Any, np.ndarray] = {}

    def start(self) -> PhoneState:
        return PhoneState(self.model.start, 0.0, 0)

    def idle(self, state: PhoneState) -> bool:
        return False

    def extend(self, states: Sequence[PhoneState], columns: Sequence[int]) -> list[PhoneState]:
        after = []
        for state, column in zip(states, columns, strict=True):
            label = column % self.labels
            log10, history = self.model.score(state.history, self.ids[label - FIRST])
            after.append(PhoneState(history, state.language + log10, label))
        return after

    def gains(self, states: Sequence[PhoneState]) -> np.ndarray:
        gains = np.full((len(states), 2 * self.labels), NEVER)
        for row, state in zip(gains, states, strict=True):
            known = self._rows.get(state.history)
            if known is None:
                if len(self._rows) >= REMEMBERED:
                    self._rows.clear()
                known = self.weight * self.model.scores(state.history)[self.ids] + self.score
                self._rows[state.history] = known
            row[FIRST : self.labels] = known
            if state.last:
                row[self.labels + state.last] = row[state.last]
                row[state.last] = NEVER
        return gains

    def endings(self, state: PhoneState) -> list[tuple[int | None, float, Any]]:
        return [(None, self.weight * self.model.finish(state.history), state)]

    def language(self, state: PhoneState) -> float:
        return state.language + self.model.finish(state.history)

    def words(self, state: PhoneState) -> None:
        return None


class RunningWordScorer(WordScorer):
    """Words of a lexicon, the next one beginning as the last one ends.

    A column beyond the labels ends the word (its first, second, ... homophone) and begins the next with a phone.
    """

    def __init__(
        self, lexicon: Lexicon, alphabet: Alphabet, model: NgramModel, weight: float, word_score: float
    ) -> None:
        super().__init__(lexicon, alphabet, model, weight, word_score)
        first = self._first_values()
        self.entries = {node: sorted(found, key=lambda entry: -first[entry])[:HOMOPHONES]
                        for node, found in self.tree.words.items()}  # fmt: skip
        alike = max(map(len, self.entries.values()), default=1)
        self.columns = np.tile(np.arange(self.labels), 1 + alike)
        children = self.children[0]
        self.begin = np.where(children >= 0, self.best[children], NEVER)

    def idle(self, state: WordState) -> bool:
        return False

    def extend(self, states: Sequence[WordState], columns: Sequence[int]) -> list[WordState]:
        after = []
        for state, column in zip(states, columns, strict=True):
            which, label = divmod(column, self.labels)
            if which:
                state = self._after(state, self.entries[state.node][which - 1])
            after.append(self._inside(state, label))
        return after

    def _after(self, state: WordState, entry: int) -> WordState:
        log10, history = self._word(state.history, entry)
        return WordState(0, history, state.language + log10, (state.words, entry))

    def _end(self, state: WordState, entry: int) -> float:
        return self.weight * self._word(state.history, entry)[0] + self.word_score - float(self.best[state.node])

    def gains(self, states: Sequence[WordState]) -> np.ndarray:
        nodes = np.array([state.node for state in states])
        children = self.children[nodes]
        gains = np.full((len(states), len(self.columns)), NEVER)
        gains[:, : self.labels] = np.where(children >= 0, self.best[children] - self.best[nodes][:, None], NEVER)
        for row, state in zip(gains, states, strict=True):
            for number, entry in enumerate(self.entries.get(state.node, ()), 1):
                row[number * self.labels : (number + 1) * self.labels] = self._end(state, entry) + self.begin
        return gains

    def endings(self, state: WordState) -> list[tuple[int | None, float, Any]]:
        if state.node == 0:
            return [(None, self._finish(state), state)]
        ends: list[tuple[int | None, float, Any]] = []
        for entry in self.entries.get(state.node, ()):
            after = self._after(state, entry)
            ends.append((None, self._end(state, entry) + self._finish(after), after))
        return ends


class UnspacedDecoder:
    """Reads log probabilities of phones, pauses among them.

    Args:
        phones: of the emissions, the pause last.
        model: an n-gram model over phones (the pause among them), or over words where there is a lexicon.
        lexicon: words and their phones; None looks for phones alone.
        settings: weights and limits. Pruning by `beam_threshold` counts in nats of the emissions.

    Raises:
        TextError: a lexicon that is not of these phones.
        LanguageModelError: a model that cannot be read, or that is not over these phones.
    """

    def __init__(
        self, phones: Sequence[str], model: Path, lexicon: Path | None = None, settings: SearchSettings | None = None
    ) -> None:
        self.phones, self.silence = tuple(phones), phones[-1]
        heard = self.phones if lexicon is None else self.phones[:-1]
        self.alphabet = Alphabet((BLANK, BOUNDARY, *heard), "phonemes", final_boundary=False)
        self.model = NgramModel.load(model)
        self.lexicon = None if lexicon is None else read_lexicon(lexicon, self.alphabet, "few")
        if self.lexicon is None and (lacking := [phone for phone in heard if phone not in self.model.vocabulary]):
            raise LanguageModelError(f"{model}: a model over other phones; it lacks {' '.join(lacking[:20])}")
        self.settings = settings or SearchSettings()
        self._search: tuple[SearchSettings, BeamSearch] | None = None

    def __call__(self, log_probabilities: np.ndarray, settings: SearchSettings | None = None) -> Reading:
        """The best reading of (T, P)."""
        settings = settings or self.settings
        if self._search is None or self._search[0] != settings:
            self._search = settings, BeamSearch(self._scorer(settings), settings, boundary=1)
        search = self._search[1]
        emissions = np.full((len(log_probabilities), len(self.alphabet)), NEVER)
        heard = len(self.alphabet) - FIRST
        emissions[:, FIRST:] = log_probabilities[:, :heard]
        if self.lexicon is not None:
            emissions[:, 0] = log_probabilities[:, -1]
        found = search(emissions)[0]
        spoken = [self.phones[label - FIRST] for label in found.labels]
        words = search.scorer.words(found.state)
        return Reading(
            tuple(phone for phone in spoken if phone != self.silence),
            words,
            found.emission,
            search.scorer.language(found.state),
            len(spoken if words is None else words),
        )

    def _scorer(self, settings: SearchSettings) -> PhoneScorer | RunningWordScorer:
        if self.lexicon is not None:
            return RunningWordScorer(self.lexicon, self.alphabet, self.model, settings.lm_weight, settings.word_score)
        labels = len(self.alphabet)
        return PhoneScorer(labels, self.model, self.phones, settings.lm_weight, settings.word_score)

    def with_settings(self, **changes: Any) -> SearchSettings:
        """This decoder's settings with some of them changed."""
        return replace(self.settings, **changes)
