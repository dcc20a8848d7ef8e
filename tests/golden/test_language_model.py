"""n-gram models against KenLM's lmplz: the same n-grams, probabilities and held-out scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import golden_folder

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel

FOLDER = golden_folder() / "language_model"
MODELS: dict[str, Any] = json.loads((FOLDER / "case.json").read_text())["models"] if FOLDER.is_dir() else {}
THERE = [name for name in MODELS if (FOLDER / f"{name}.arpa.gz").is_file()]
TOLERANCE = 1e-4
"""log10."""


def test_there_is_a_model_to_compare_with() -> None:
    assert THERE


@pytest.fixture(scope="module", params=THERE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(name: str) -> NgramModel:
    return NgramModel.load(FOLDER / f"{name}.arpa.gz")


@pytest.fixture(scope="module")
def ours(name: str) -> NgramModel:
    info = MODELS[name]
    prune = [int(word) for word in info["options"] if word.isdigit()]
    with open(FOLDER / info["source"], encoding="utf-8") as lines:
        return estimate(lines.read().splitlines(), info["order"], prune)[0]


def entries(model: NgramModel) -> dict[tuple[str, ...], tuple[float, float]]:
    """Every n-gram with log10 of its probability and back-off weight."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    names: list[tuple[str, ...]] = [()]
    for part in model.orders:
        names = [(*names[c], model.words[w]) for c, w in zip(part.context.tolist(), part.word.tolist(), strict=True)]
        found |= zip(names, zip(part.log10.tolist(), part.backoff.tolist(), strict=True), strict=True)
    return found


def largest_difference(
    one: dict[tuple[str, ...], tuple[float, float]], other: dict[tuple[str, ...], tuple[float, float]]
) -> float:
    return max(abs(a - b) for ngram, values in one.items() for a, b in zip(values, other[ngram], strict=True))


def held_out(name: str) -> list[list[str]]:
    lines = (FOLDER / "held.txt").read_text(encoding="utf-8").splitlines()
    return [list(line.replace(" ", "|")) if name.startswith("characters") else line.split() for line in lines]


def test_the_same_ngrams_and_probabilities(ours: NgramModel, theirs: NgramModel) -> None:
    mine, kenlm = entries(ours), entries(theirs)
    assert mine.keys() == kenlm.keys()
    assert largest_difference(mine, kenlm) < TOLERANCE


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_the_same_held_out_scores(name: str, whose: str, request: pytest.FixtureRequest) -> None:
    model: NgramModel = request.getfixturevalue(whose)
    info, sentences = MODELS[name], held_out(name)
    for sentence, expected in zip(sentences, info["first_ten_log10"], strict=False):
        assert model.score_sentence(sentence) == pytest.approx(expected, abs=TOLERANCE * (len(sentence) + 1))
    found = model.perplexity(sentences)
    assert found.log10 == pytest.approx(info["total_log10"], rel=1e-6)
    assert found.including_unknown == pytest.approx(info["perplexity_including_unknown"], rel=1e-5)
    assert (found.unknown, found.words + found.sentences) == (
        info["unknown_tokens"],
        info["tokens_with_sentence_ends"],
    )


def test_writing_and_reading_changes_nothing(ours: NgramModel, tmp_path: Path) -> None:
    ours.save(tmp_path / "lm.arpa")
    again = entries(NgramModel.load(tmp_path / "lm.arpa"))
    mine = entries(ours)
    assert again.keys() == mine.keys()
    assert largest_difference(again, mine) < 2e-6
