"""Training a language model: it learns, goes on exactly, and does not depend on how updates are split."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import assert_bitwise_equal, status, tensors

import firstwords.training.loop as loop
from firstwords.cli import main
from firstwords.config import from_dict
from firstwords.decoding.transformer import TransformerScorer
from firstwords.recipes import load_recipe, recipe_names
from firstwords.text.sentences import Spelling
from firstwords.training.language import IGNORED, LanguageConfig, LanguageModelling, check_language, hold_out
from firstwords.training.processes import Processes
from firstwords.training.run import read_log

WORDS = ["banana", "robot", "kilo", "menu", "tsunami"]
SETTINGS: dict[str, Any] = {
    "kind": "language", "steps": 20, "seed": 3,
    "model": {"layers": 2, "dim": 24, "feed_forward_dim": 48, "heads": 2, "context": 32, "dropout": 0.1},
    "data": {"held_out": 0.1},
    "training": {
        "batch_symbols": 1000, "bucket_symbols": 500, "micro_batch_symbols": 1000, "device": "cpu",
        "precision": "float32", "log_every": 5, "validate_every": 10, "save_every": 7,
        "schedule": {"peak": 1e-2, "warmup": 0.1},
    },
}  # fmt: skip


def sentences(count: int = 200, seed: int = 1) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 8))) for _ in range(count)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(sentences()))
    return path


def train(text: Path, out: Path, *more: object, steps: int = 20) -> int:
    recipe = text.parent / "language.yaml"
    recipe.write_text(json.dumps(SETTINGS | {"steps": steps}))
    words = ["lm", "--transformer", str(text), "--recipe", str(recipe), "--out", str(out), *map(str, more)]
    return main(words)


def task(**training: Any) -> LanguageModelling:
    settings = {name: value for name, value in SETTINGS.items() if name != "kind"}
    settings |= {"training": SETTINGS["training"] | training, "model": SETTINGS["model"] | {"dropout": 0.0}}
    return LanguageModelling(from_dict(LanguageConfig, settings, "test"), sentences(), Spelling(), Processes("cpu"))


def test_it_learns_to_spell(text: Path, tmp_path: Path) -> None:
    """After 100 updates whole words are foreseen: about log2(5) bits a word, where single letters cost 3 bits each."""
    assert train(text, tmp_path / "run", steps=100) == 0
    spoken = "|".join(sentences())
    entropy = -sum(n / len(spoken) * math.log2(n / len(spoken)) for n in Counter(spoken).values())
    figures = [
        record["valid_bits_per_character"] for record in read_log(tmp_path / "run") if "valid_perplexity" in record
    ]
    assert figures[-1] < 0.4 * entropy
    scorer = TransformerScorer.load(tmp_path / "run")
    good, bad = scorer.score_sentences(["robot banana", "robto bnaana"])
    assert good > bad + 3
    found = scorer.perplexity(sentences(50, 2))
    assert found.bits_per_character < 0.4 * entropy and found.unknown == 0


def test_what_is_learnt_of_a_batch() -> None:
    """Every symbol and every end is foreseen once, also of sentences longer than the context."""
    found = task()
    foreseen = []
    for buckets in found.loader.plan.epoch(0):
        for bucket in buckets:
            batch = found.training.batch(bucket.members)
            assert torch.equal(
                batch.inputs[:, 1:][batch.targets[:, 1:] != IGNORED],
                batch.targets[:, :-1][batch.targets[:, 1:] != IGNORED],
            )
            foreseen += batch.targets[batch.targets != IGNORED].tolist()
    learnt, _ = hold_out(sentences(), 0.1)
    assert any(len(one) > 32 for one in learnt)
    expected = [symbol for one in learnt for symbol in [*found.pieces.encode(one), 0]]
    assert sorted(foreseen) == sorted(expected)


def test_gradients_do_not_depend_on_how_an_update_is_split() -> None:
    gradients = []
    for most in (1000, 150):
        one = task(micro_batch_symbols=most)
        batches, _ = next(one.loader.updates(0, loop.Progress().position, 1))
        counts = one.count(batches)
        for batch in batches:
            one.loss(one.model, batch, 0, counts, None)[0].backward()
        gradients.append((len(batches), [parameter.grad for parameter in one.model.parameters()]))
    assert gradients[1][0] > gradients[0][0]
    for whole, split in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(whole, split, atol=1e-6, rtol=1e-4)


def test_a_stopped_run_goes_on_exactly(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text, tmp_path / "unbroken") == 0
    mix = loop._mix

    def signalling(*numbers: int) -> int:
        if numbers[1] == 9:
            signal.raise_signal(signal.SIGTERM)
        return mix(*numbers)

    monkeypatch.setattr(loop, "_mix", signalling)
    assert train(text, tmp_path / "broken") == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert status(tmp_path / "broken")["state"] == "stopped"
    capsys.readouterr()
    assert train(text, tmp_path / "broken") == 0
    assert "after update 10" in capsys.readouterr().out
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
    text.write_text(text.read_text() + "\nrobot")
    assert train(text, tmp_path / "broken") == 2
    assert "holds another run (data.sentences" in capsys.readouterr().err


def test_word_pieces_and_phonemes(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "pieces", "--data.units", "pieces", "--data.pieces", 40, steps=4) == 0
    scorer = TransformerScorer.load(tmp_path / "pieces")
    assert scorer.unit == "pieces" and len(scorer.pieces.encode("tsunami robot")) == 2
    characters = tensors(tmp_path / "pieces" / "last.safetensors")["weights/embedding.weight"]
    assert len(characters) == len(scorer.pieces)
    phones = LanguageModelling(
        from_dict(LanguageConfig, {}, "test"), ["W IY0 | K AO0 L", "K"], Spelling("phonemes"), Processes("cpu")
    )
    assert "IY0" in phones.pieces.symbols


def test_held_out_sentences_stay_so() -> None:
    """Equal sentences are on one side, and a text that grows moves none."""
    learnt, held = hold_out(sentences(300), 0.1)
    assert not set(learnt) & set(held) and 0 < len(held) < 90
    more_learnt, more_held = hold_out(sentences(300) + sentences(100, 5), 0.1)
    assert set(held) <= set(more_held) and set(learnt) <= set(more_learnt)
    for few in (["a"], ["a", "a"], ["a", "b"], ["a", "b", "c"]):
        learnt, held = hold_out(few, 0.01)
        assert learnt and sorted(learnt + held) == few and bool(held) == (len(set(few)) > 1)


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        ("", [], "the text is empty"),
        ("...\n--\n", [], "the text is empty"),
        ("a b c\n", ["--steps", "0"], "steps must be at least 1"),
        ("a b c\n", ["--training.batch-symbols", "0"], "batch_symbols must be at least 1"),
        ("a b c\n", ["--data.held-out", "1"], "held_out is 1"),
        ("a b c\n", ["--model.heads", "7"], "even multiple of heads"),
        ("a b c\n", ["--data.units", "pieces", "--data.pieces", "3"], "3 word pieces are too few"),
    ],
)
def test_what_cannot_be_learnt(
    content: str, more: list[str], says: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text.write_text(content)
    assert train(text, tmp_path / "run", *more) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_single_sentence_can_be_learnt(text: Path, tmp_path: Path) -> None:
    text.write_text("so it was\n")
    assert train(text, tmp_path / "run", steps=3) == 0
    assert math.isfinite(TransformerScorer.load(tmp_path / "run").score_sentences(["so it was"])[0])


@pytest.mark.parametrize("name", recipe_names("language"))
def test_recipes_are_those_that_a_run_can_have(name: str) -> None:
    check_language(load_recipe(name, "language", LanguageConfig))
