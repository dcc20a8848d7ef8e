"""The Transformer language model in rescoring and in a beam: one probability, whichever way it is asked for."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch

from firstwords.decoding.transformer import TransformerScorer
from firstwords.errors import LanguageModelError
from firstwords.models.transformer_lm import TransformerLM, TransformerLMConfig
from firstwords.text.pieces import Pieces
from firstwords.text.sentences import Spelling

TEXT = ["so it was", "it was so", "a b", "was it", "so"]


@pytest.fixture(scope="module", params=["characters", "pieces"])
def scorer(request: pytest.FixtureRequest) -> TransformerScorer:
    pieces = Pieces.characters(TEXT) if request.param == "characters" else Pieces.learn(TEXT, 14)
    torch.manual_seed(1)
    model = TransformerLM(TransformerLMConfig(2, 16, 32, 2, 6), len(pieces))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return TransformerScorer(model, pieces, Spelling())


def symbol_by_symbol(scorer: TransformerScorer, sentence: str) -> float:
    total, state = 0.0, scorer.start
    for symbol in scorer.pieces.encode(sentence):
        score, state = scorer.score(state, symbol)
        total += score
    return total + scorer.finish(state)


def test_sentences_alone_in_batches_and_symbol_by_symbol(
    scorer: TransformerScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXT, "", "x y so", "it was so it was so it was"]
    together = scorer.score_sentences(texts)
    assert together == pytest.approx([scorer.score_sentences([text])[0] for text in texts], abs=1e-4)
    assert together == pytest.approx([symbol_by_symbol(scorer, text) for text in texts], abs=1e-4)
    monkeypatch.setattr("firstwords.decoding.transformer.BATCH_SYMBOLS", 12)
    assert scorer.score_sentences(texts) == pytest.approx(together, abs=1e-4)
    assert scorer.score_sentences([]) == []


def test_a_beams_states_at_once(scorer: TransformerScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`score_next` computes all that is asked for in as many steps of the network as the longest is behind."""
    start = scorer.start
    states = [start]
    for text in TEXT:
        state = start
        for symbol in scorer.pieces.encode(text):
            state = state.after(symbol)
        states.append(state)
    step, steps = TransformerScorer._step, []
    monkeypatch.setattr(TransformerScorer, "_step", lambda self, ready: steps.append(len(ready)) or step(self, ready))
    rows = scorer.score_next(states)
    assert rows.shape == (len(states), len(scorer.pieces)) and rows.dtype == np.float32
    assert len(steps) == 1 + max(len(scorer.pieces.encode(text)) for text in TEXT)
    assert np.logaddexp.reduce(rows * math.log(10), axis=1) == pytest.approx(0, abs=1e-5)
    for state, row in zip(states, rows, strict=True):
        assert scorer.finish(state) == row[0] and scorer.score(state, 3)[0] == row[3]
    assert len(steps) == 1 + max(len(scorer.pieces.encode(text)) for text in TEXT)  # looked up, not computed
    for text in TEXT:
        assert symbol_by_symbol(scorer, text) == pytest.approx(scorer.score_sentences([text])[0], abs=1e-4)


def test_the_same_symbols_lead_to_the_same_state(scorer: TransformerScorer) -> None:
    start = scorer.start
    assert start.after(3).after(4) is start.after(3).after(4)
    one = start.after(3)
    assert len({one, start.after(3), start.after(4)}) == 2


def test_memory_is_that_of_the_states_held(scorer: TransformerScorer) -> None:
    """A narrow beam over a long utterance reuses the places of what it has dropped."""
    random = np.random.default_rng(1)
    states = [scorer.start]
    memory = states[0].memory
    for _ in range(40):
        children = [state.after(int(symbol)) for state in states for symbol in random.integers(2, 8, 3)]
        scorer.score_next(children)
        states = children[:4]
        children.clear()
    gc.collect()
    assert len(memory.free) >= memory.keys.shape[1] - 40 * 4
    assert memory.keys.shape[1] <= 256


def test_perplexity(scorer: TransformerScorer) -> None:
    found = scorer.perplexity(iter(["so it was", "x so"]))
    assert found.log10 == pytest.approx(sum(scorer.score_sentences(["so it was", "x so"])), abs=1e-4)
    assert (found.sentences, found.unknown) == (2, 1)
    assert found.characters == len("so it was.") + len("x so.")
    assert found.log10_known > found.log10
    with pytest.raises(LanguageModelError, match="no sentence"):
        scorer.perplexity([])
