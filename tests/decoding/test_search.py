"""Our search: equal to going through all paths, and to flashlight-text where that is installed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from beams import SENTENCES, collapsed, letters, letters_arpa, noise, paths, spoken, words_arpa
from golden import cases

from firstwords.decoding.beam import flashlight_is_there
from firstwords.decoding.growing import Chains
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.options import DecoderConfig, make_beam_decoder
from firstwords.text.alphabet import Alphabet

WIDE = {"beam": 10_000, "beam_threshold": 1e6}
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


def decode(emissions: torch.Tensor, alphabet: Alphabet, **options: Any) -> list[Hypothesis]:
    return make_beam_decoder(DecoderConfig(**options), alphabet)([emissions])[0]


def texts(readings: list[Hypothesis], alphabet: Alphabet) -> list[str]:
    return [alphabet.decode(one.labels) for one in readings]


class TestAgainstAllPaths:
    """Few frames, every path by hand."""

    @pytest.mark.parametrize("log_add", [False, True])
    def test_no_model(self, log_add: bool) -> None:
        alphabet, emissions = letters("ab"), noise(5, 4, 3)
        best: dict[tuple[int, ...], float] = {}
        for path, score in paths(emissions):
            labels = collapsed(path, before=alphabet.boundary)
            known = best.get(labels, -math.inf)
            best[labels] = math.log(math.exp(known) + math.exp(score)) if log_add else max(known, score)
        expected = sorted(best.items(), key=lambda one: -one[1])[:20]
        found = decode(emissions, alphabet, nbest=20, log_add=log_add, search="own", **WIDE)
        assert [one.labels for one in found] == [labels for labels, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-5)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("silence", [0.0, -0.7])
    def test_words_of_a_lexicon(self, seed: int, silence: float, tmp_path: Path) -> None:
        """Boundaries between words are as free as blanks, and the last one need not be heard."""
        alphabet, emissions = letters("abd"), noise(6, 5, seed)
        arpa = words_arpa(tmp_path)
        lexicon = tmp_path / "lexicon.txt"
        lexicon.write_text("a\nbad\ndad\nab\n")
        model = NgramModel.load(arpa)
        allowed = {"a", "bad", "dad", "ab"}
        best: dict[tuple[str, ...], float] = {}
        for path, score in paths(emissions):
            words = tuple(alphabet.decode(collapsed(path)).split())
            if set(words) <= allowed:
                total = score + 1.3 * model.score_sentence(words) - 0.4 * len(words)
                total += silence * path.count(alphabet.boundary)
                best[words] = max(best.get(words, -math.inf), total)
        expected = sorted(best.items(), key=lambda one: -one[1])[:8]
        found = decode(
            emissions, alphabet, lm=arpa, lexicon=lexicon, lm_weight=1.3, word_score=-0.4, nbest=8, search="own",
            silence_score=silence, **WIDE,
        )  # fmt: skip
        assert [one.words for one in found] == [words for words, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-5)
        assert [one.language_score for one in found] == pytest.approx(
            [model.score_sentence(words) for words, _ in expected], abs=1e-5
        )

    @pytest.mark.parametrize("seed", [0, 1])
    def test_open_vocabulary(self, seed: int, tmp_path: Path) -> None:
        alphabet, emissions = letters("ad"), noise(6, 4, seed)
        arpa = words_arpa(tmp_path)
        lexicon = tmp_path / "lexicon.txt"
        lexicon.write_text("a\ndad\nadd\n")
        model = NgramModel.load(arpa)
        known = {"a", "dad", "add"}
        best: dict[str, float] = {}
        for path, score in paths(emissions):
            words = alphabet.decode(collapsed(path)).split()
            as_model = [word if word in known else "<unk>" for word in words]
            unknown = sum(word not in known for word in words)
            total = score + 0.8 * model.score_sentence(as_model) + 0.3 * len(words) - 2.0 * unknown
            best[" ".join(words)] = max(best.get(" ".join(words), -math.inf), total)
        expected = sorted(best.items(), key=lambda one: -one[1])[:10]
        found = decode(
            emissions, alphabet, lm=arpa, lexicon=lexicon, open_vocabulary=True, lm_weight=0.8, word_score=0.3,
            unknown_score=-2.0, nbest=10, **WIDE,
        )  # fmt: skip
        assert texts(found, alphabet) == [text for text, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-5)

    def test_frames_and_emission_score_are_the_best_paths(self) -> None:
        alphabet, emissions = letters("ab"), noise(6, 4, 8)
        for one in decode(emissions, alphabet, nbest=5, search="own", **WIDE):
            possible = [found for found in paths(emissions) if collapsed(found[0], before=1) == one.labels]
            path, score = max(possible, key=lambda found: found[1])
            assert one.emission_score == pytest.approx(score, abs=1e-5)
            places, before = [], 1
            for frame, label in enumerate(path):
                if label and label != before:
                    places.append([frame])
                elif label and places:
                    places[-1].append(frame)
                before = label
            rows = [(run, emissions[run, label]) for run, label in zip(places, one.labels, strict=True)]
            assert list(one.frames) == [run[int(heard.argmax())] for run, heard in rows]


@pytest.mark.skipif(not flashlight_is_there(), reason="flashlight-text is not installed")
class TestAgainstFlashlight:
    """The same readings, scores and frames at full beam."""

    def both(self, emissions: torch.Tensor, alphabet: Alphabet, **options: Any) -> tuple[list[Hypothesis], ...]:
        first, second = (decode(emissions, alphabet, search=s, **WIDE, **options) for s in ("own", "flashlight"))
        assert [one.labels for one in first] == [one.labels for one in second]
        assert [one.frames for one in first] == [one.frames for one in second]
        for name in ("score", "emission_score", "language_score"):
            mine, theirs = ([getattr(one, name) for one in found] for found in (first, second))
            assert mine == pytest.approx(theirs, abs=2e-3), name
        return first, second

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("extra", [{}, {"log_add": True}, {"silence_score": -0.5}, {"lm_weight": 0.0}], ids=str)
    def test_words(self, seed: int, extra: dict[str, Any], tmp_path: Path) -> None:
        alphabet = letters()
        options = {"lm": words_arpa(tmp_path), "lm_weight": 1.7, "word_score": 0.8, "nbest": 4} | extra
        if extra.get("log_add"):  # whose frames are those of some good path
            first, second = (decode(noise(10, 6, seed), alphabet, search=s, **WIDE, **options)
                             for s in ("own", "flashlight"))  # fmt: skip
            assert [one.words for one in first] == [one.words for one in second]
            assert [one.score for one in first] == pytest.approx([one.score for one in second], abs=2e-3)
        else:
            first, second = self.both(noise(10, 6, seed), alphabet, **options)
            assert [one.words for one in first] == [one.words for one in second]

    @pytest.mark.parametrize("seed", range(4))
    def test_letters(self, seed: int, tmp_path: Path) -> None:
        self.both(noise(7, 6, seed), letters(), lm=letters_arpa(tmp_path), lm_weight=0.9, nbest=4)

    @pytest.mark.parametrize("text", ["add a bad dad", "abba", "a"])
    def test_speech(self, text: str, tmp_path: Path) -> None:
        alphabet = letters()
        first, _ = self.both(spoken(text, alphabet), alphabet, lm=words_arpa(tmp_path), nbest=3)
        assert alphabet.decode(first[0].labels) == text

    def test_hot_words(self, tmp_path: Path) -> None:
        alphabet, emissions = letters(), noise(9, 6, 4)
        hot = {"hot_words": ("dab", "cc"), "hot_word_boost": 8.0}
        first, _ = self.both(emissions, alphabet, lm=words_arpa(tmp_path), nbest=3, **hot)
        plain, _ = self.both(emissions, alphabet, lm=words_arpa(tmp_path), nbest=3)
        assert first[0].words != plain[0].words
        assert {"dab", "cc"} & set(first[0].words or ())

    def test_homophones(self, tmp_path: Path) -> None:
        """Two words of one spelling: the one that the model expects."""
        lexicon = tmp_path / "lexicon.txt"
        lexicon.write_text("a a\nbad d a d |\ndad d a d\ncab c a b\n")
        arpa = words_arpa(tmp_path)
        emissions = spoken("a dad", letters())
        for search in ("own", "flashlight"):
            words = decode(emissions, letters(), lm=arpa, lexicon=lexicon, search=search, **WIDE)[0].words
            assert words == ("a", "dad")
        emissions = spoken("a dad cab", letters())
        for search in ("own", "flashlight"):
            words = decode(emissions, letters(), lm=arpa, lexicon=lexicon, search=search, **WIDE)[0].words
            assert words == ("a", "bad", "cab")


@pytest.mark.parametrize("case", cases("CTC by enumeration"), ids=str)
def test_all_paths_to_the_golden_targets_are_summed(case: Any) -> None:
    """The score of a target is minus its CTC loss by enumeration; a target that fits no path is never found."""
    alphabet = Alphabet(("<blank>", "a", "b", "c", "|"))  # a boundary that is never heard stands in no path
    for row, frames, target, length, loss in zip(
        case["logits"], case["input_lengths"].tolist(), case["targets"].tolist(), case["target_lengths"].tolist(),
        case["loss"].tolist(), strict=True,
    ):  # fmt: skip
        emissions = torch.cat([row[:frames].log_softmax(-1), torch.full((frames, 1), -math.inf)], 1)
        found = decode(emissions, alphabet, log_add=True, nbest=10_000, search="own", **WIDE)
        scores = {one.labels: one.score for one in found}
        if math.isinf(loss):
            assert tuple(target[:length]) not in scores or scores[tuple(target[:length])] < -1_000
        else:
            assert scores[tuple(target[:length])] == pytest.approx(-loss, abs=1e-5)


class TestNothingToHear:
    @pytest.mark.parametrize("search", ["own", "auto"])
    @pytest.mark.parametrize("model", [words_arpa, letters_arpa, None])
    def test_no_frames_one_frame_silence(self, search: str, model: Any, tmp_path: Path) -> None:
        alphabet = letters()
        silence = torch.full((50, 6), -20.0)
        silence[:, 0] = 0.0
        options: dict[str, Any] = {"lm": model(tmp_path)} if model else {"beam": 5}
        decoder = make_beam_decoder(DecoderConfig(search=search, **options), alphabet)
        for emissions in (torch.zeros(0, 6), silence[:1], silence):
            (readings,) = decoder([emissions])
            assert [one.labels for one in readings] == [()]
        (readings,) = decoder([torch.log_softmax(torch.tensor([[0.0, 0, 9, 0, 0, 0]]), -1)])
        assert alphabet.decode(readings[0].labels) == "a"

    @pytest.mark.parametrize("search", ["own", "auto"])
    def test_certain_frames(self, search: str, tmp_path: Path) -> None:
        """Probabilities of exactly 0 and a text that no lexicon allows still give a result."""
        alphabet = letters()
        certain = torch.full((4, 6), -math.inf)
        certain[torch.arange(4), torch.tensor([5, 4, 5, 5])] = 0.0
        readings = decode(certain, alphabet, lm=words_arpa(tmp_path), search=search)
        assert len(readings) == 1


@pytest.mark.parametrize("search", ["own", "auto"])
def test_narrow_beams_still_hear(search: str, tmp_path: Path) -> None:
    alphabet = letters()
    found = decode(spoken("add a bad dad", alphabet), alphabet, lm=words_arpa(tmp_path), beam=4, search=search,
                   token_beam=3, beam_threshold=20.0)  # fmt: skip
    assert texts(found, alphabet) == ["add a bad dad"]


def test_token_beam_keeps_labels_of_low_rank_out(tmp_path: Path) -> None:
    alphabet = letters()
    emissions = torch.log_softmax(torch.tensor([[2.0, 0.0, 3.0, 1.9, 0.0, 0.0]]), -1)
    found = decode(emissions, alphabet, beam=100, nbest=10, token_beam=2, search="own")
    assert {one.labels for one in found} == {(), (2,)}


def test_chains_that_nobody_needs_are_forgotten() -> None:
    import numpy as np

    chains = Chains()
    first = chains.find(np.array([0, 0]), np.array([7, 8]))
    second = chains.find(np.array([first[0], first[1]]), np.array([1, 2]))
    before = [chains.chain(int(one)) for one in second]
    (kept,) = chains.compact(second[1:])
    assert chains.chain(int(kept)) == before[1] == [8, 2]
    assert chains.count == 3
    assert chains.find(np.array([chains.parent[kept]]), np.array([2]))[0] == kept


def test_memory_is_bounded_and_the_result_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alphabet = letters()
    emissions = torch.cat([spoken("add a bad dad", alphabet, seed) for seed in range(8)])
    plain = decode(emissions, alphabet, lm=words_arpa(tmp_path), search="own", beam=20, nbest=3)
    monkeypatch.setattr("firstwords.decoding.growing.MOST", 50)
    assert decode(emissions, alphabet, lm=words_arpa(tmp_path), search="own", beam=20, nbest=3) == plain
