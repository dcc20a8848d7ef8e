"""n-best lists ranked anew."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from firstwords.decoding.huggingface import HuggingFaceScorer
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.rescoring import rescore
from firstwords.errors import ConfigError, LanguageModelError

TEXTS = {(1,): "so it was", (2,): "so was it", (3,): "sew it was"}


def text_of(reading: Hypothesis) -> str:
    return TEXTS[reading.labels]


def readings() -> list[list[Hypothesis]]:
    """Sounds best: "sew it was"; the search's own language model had no opinion."""
    first = [Hypothesis((3,), (0,), -1.0, -2.0), Hypothesis((1,), (0,), -1.5, -2.0), Hypothesis((2,), (0,), -9.0, -2.0)]
    return [first, [Hypothesis((2,), (0,), -1.0, -3.0)]]


def test_the_language_model_decides_as_far_as_it_weighs() -> None:
    model, _ = estimate(["so it was"] * 5 + ["sew a dress", "it was so"], 3)
    heavy = rescore(readings(), text_of, model, language_weight=2.0, word_score=0.5)
    assert [text_of(one) for one in heavy[0]] == ["so it was", "sew it was", "so was it"]
    best = heavy[0][0]
    assert best.language_score == pytest.approx(model.score_sentence(["so", "it", "was"]))
    assert best.score == pytest.approx(-1.5 + 2.0 * best.language_score + 0.5 * 3)
    assert (best.labels, best.frames, best.emission_score) == ((1,), (0,), -1.5)
    light = rescore(readings(), text_of, model, language_weight=0.0)
    assert [text_of(one) for one in light[0]] == ["sew it was", "so it was", "so was it"]
    assert len(light[1]) == 1


def test_the_searchs_own_language_score_may_keep_a_share() -> None:
    model, _ = estimate(["so it was"] * 5 + ["sew a dress"], 3)
    none = rescore(readings(), text_of, model, 2.0, share=0.0)
    assert [one.language_score for one in none[0]] == [-2.0] * 3
    half = rescore(readings(), text_of, model, 2.0, share=0.5)
    whole = rescore(readings(), text_of, model, 2.0)
    by_labels = {one.labels: one.language_score for one in whole[0]}
    assert all(one.language_score == pytest.approx(0.5 * by_labels[one.labels] - 1.0) for one in half[0])
    with pytest.raises(ConfigError, match="share"):
        rescore(readings(), text_of, model, 2.0, share=1.5)


def test_each_text_is_asked_for_once() -> None:
    asked: list[str] = []

    class Model:
        def score_sentences(self, sentences: list[str]) -> list[float]:
            asked.extend(sentences)
            return [-1.0] * len(sentences)

    rescore(readings() + readings(), text_of, Model(), 1.0)
    assert sorted(asked) == sorted(TEXTS.values())


def test_words_of_phonemes_are_what_boundaries_part() -> None:
    class Model:
        def score_sentences(self, sentences: list[str]) -> list[float]:
            return [0.0] * len(sentences)

    one = [[Hypothesis((1,), (0,), -1.0)]]
    assert rescore(one, lambda _: "W IY0 | K AO0 L", Model(), 1.0, 1.0)[0][0].score == pytest.approx(-1.0 + 2)
    assert rescore(one, lambda _: "", Model(), 1.0, 1.0)[0][0].score == pytest.approx(-1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with random weights over whole words."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("gpt2")
    words = {word: number for number, word in enumerate(["<|endoftext|>", "so", "it", "was", "sew", "<unk>"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=6, n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


class TestHuggingFace:
    def test_scores_are_those_of_the_model_alone(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import transformers

        scorer = HuggingFaceScorer.load(folder)
        texts = ["so it was", "sew", "", "it was so it was so"]
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        words = ["<|endoftext|>", "so", "it", "was", "sew"]
        expected = []
        for text in texts:
            ids = torch.tensor([[0, *(words.index(word) for word in text.split()), 0]])
            with torch.no_grad():
                logs = model(ids).logits[0, :-1].log_softmax(-1)
            expected.append(float(logs.gather(1, ids[0, 1:, None]).sum()) / math.log(10))
        assert scorer.score_sentences(texts) == pytest.approx(expected, abs=1e-4)
        monkeypatch.setattr("firstwords.decoding.huggingface.BATCH_TOKENS", 9)
        assert scorer.score_sentences(texts) == pytest.approx(expected, abs=1e-4)

    def test_what_does_not_fit_or_open(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(LanguageModelError, match="22 tokens, above the model's 16"):
            HuggingFaceScorer.load(folder).score_sentences(["so " * 20])
        (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
        with pytest.raises(LanguageModelError, match="not a causal language model"):
            HuggingFaceScorer.load(tmp_path)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(LanguageModelError, match=r"no config\.json"):
            HuggingFaceScorer.load(tmp_path)
