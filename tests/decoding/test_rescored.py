"""Rescoring inside a decoder, and a network inside the beam."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beams import letters, letters_arpa, noise, spoken, words_arpa

from firstwords.decoding.beam import OwnSearch
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.options import DecoderConfig, make_decoder
from firstwords.decoding.rescored import RescoringDecoder
from firstwords.decoding.settings import SearchSettings


class Wants:
    """A sentence model that likes one sentence."""

    def __init__(self, text: str) -> None:
        self.text = text

    def score_sentences(self, sentences: Sequence[str]) -> list[float]:
        return [0.0 if sentence == self.text else -50.0 for sentence in sentences]


def test_another_reading_comes_first(tmp_path: Path) -> None:
    alphabet = letters()
    search = make_decoder(DecoderConfig(lm=words_arpa(tmp_path), nbest=20), alphabet)
    emissions = [spoken("a bad cab", alphabet, loudness=3.0)]
    plain = [alphabet.decode(one.labels) for one in search(emissions)[0]]
    decoder = RescoringDecoder(search, Wants(plain[3]), alphabet, 2.0, -1.0, 1.0, 2)
    assert alphabet.decode(decoder(emissions)[0][0].labels) == plain[3]
    assert len(decoder(emissions)[0]) == 2
    unchanged = RescoringDecoder(search, Wants(plain[3]), alphabet, 2.0, -1.0, 0.0, 20)
    assert [alphabet.decode(one.labels) for one in unchanged(emissions)[0]] == plain


class Batched:
    """An n-gram model that answers like a network: all states of a frame at once."""

    def __init__(self, model: NgramModel) -> None:
        self.model, self.vocabulary, self.calls = model, model.vocabulary, 0

    @property
    def start(self) -> Any:
        return self.model.start

    def score(self, state: Any, symbol: int) -> tuple[float, Any]:
        return self.model.score(state, symbol)

    def finish(self, state: Any) -> float:
        return self.model.finish(state)

    def score_next(self, states: Sequence[Any]) -> np.ndarray:
        self.calls += 1
        words = range(len(self.vocabulary))
        return np.array([[self.model.score(state, word)[0] for word in words] for state in states], np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_in_the_beam_is_asked_once_a_frame_and_says_the_same(seed: int, tmp_path: Path) -> None:
    alphabet, model = letters(), NgramModel.load(letters_arpa(tmp_path))
    emissions = np.ascontiguousarray(noise(30, 6, seed).numpy())
    settings = SearchSettings(lm_weight=0.8, word_score=0.0, beam=20, nbest=3)
    network = Batched(model)
    found = OwnSearch(alphabet, "symbols", network).decode(emissions, settings)
    expected = OwnSearch(alphabet, "symbols", model).decode(emissions, settings)
    assert [one.labels for one in found] == [one.labels for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-4)
    assert network.calls <= 31
