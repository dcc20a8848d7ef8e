"""Which decoder comes of which options, what contradicts, and what is tuned and remembered."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from beams import letters, letters_arpa, spoken, words_arpa

from firstwords.decoding import beam
from firstwords.decoding.greedy import GreedyDecoder
from firstwords.decoding.options import DecoderConfig, make_beam_decoder, make_decoder
from firstwords.decoding.tuned import NAME, read_tuned, remember, with_tuned
from firstwords.decoding.workers import DecoderPool
from firstwords.errors import CheckpointError, ConfigError, FirstwordsError, LanguageModelError


def test_nothing_asked_is_greedy() -> None:
    assert isinstance(make_decoder(DecoderConfig(), letters()), GreedyDecoder)
    for options in ({"beam": 5}, {"nbest": 3}, {"hot_words": ("dab",)}):
        assert not isinstance(make_decoder(DecoderConfig(**options), letters()), GreedyDecoder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"beam": 0}, "--beam 0: 1 is the least"),
        ({"nbest": 0}, "--nbest"),
        ({"lm_weight": -1.0, "beam": 3}, "--lm-weight"),
        ({"beam": 3, "beam_threshold": 0.0}, "--beam-threshold"),
        ({"open_vocabulary": True, "beam": 3}, "--open-vocabulary"),
        ({"hot_words": ("zorro",)}, "'z'"),
    ],
)
def test_contradictions(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FirstwordsError, match=complaint):
        make_decoder(DecoderConfig(**options), letters())


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    binary = tmp_path / "lm.bin"
    binary.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(LanguageModelError, match="--lexicon"):
        make_decoder(DecoderConfig(lm=binary), letters())
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("bad\n")
    with pytest.raises(LanguageModelError, match="flashlight-text alone"):
        make_decoder(DecoderConfig(lm=binary, lexicon=lexicon, search="own"), letters())
    cut = tmp_path / "cut.arpa"
    whole = words_arpa(tmp_path).read_text()
    cut.write_text(whole[: len(whole) * 2 // 3])
    for search in ("own", "auto"):
        with pytest.raises(LanguageModelError, match=r"cut\.arpa"):
            make_decoder(DecoderConfig(lm=cut, search=search), letters())  # type: ignore[arg-type]


def test_without_flashlight_our_own_search_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstwords.decoding.options.flashlight_is_there", lambda: False)
    made = make_beam_decoder(DecoderConfig(lm=words_arpa(tmp_path)), letters())
    assert isinstance(made.engine, beam.OwnSearch)
    with pytest.raises(ConfigError, match="pip install flashlight-text"):
        make_beam_decoder(DecoderConfig(lm=words_arpa(tmp_path), search="flashlight"), letters())


def test_hot_words_without_a_lexicon(tmp_path: Path) -> None:
    """A letter that was heard badly comes right, with a model over letters and with none."""
    alphabet = letters()
    emissions = spoken("a dab cab", alphabet)
    emissions[3 * 3 + 1] = torch.tensor([-9.0, -9, -0.5, -9, -0.9, -9])  # "a" of dab: rather "a" than "c"
    emissions[3 * 3 + 1] = torch.tensor([-9.0, -9, -0.9, -9, -0.5, -9])  # now rather "c"
    for options in ({"beam": 50}, {"lm": letters_arpa(tmp_path), "lm_weight": 0.01}):
        plain = make_decoder(DecoderConfig(**options), alphabet)([emissions])[0][0]  # type: ignore[arg-type]
        hot = make_decoder(DecoderConfig(hot_words=("dab",), **options), alphabet)([emissions])[0][0]  # type: ignore[arg-type]
        assert alphabet.decode(plain.labels) == "a dcb cab"
        assert alphabet.decode(hot.labels) == "a dab cab"


def test_emissions_of_another_alphabet_and_broken_ones(tmp_path: Path) -> None:
    decoder = make_decoder(DecoderConfig(lm=words_arpa(tmp_path)), letters())
    with pytest.raises(FirstwordsError, match="6 labels"):
        decoder([torch.zeros(3, 9)])
    with pytest.raises(FirstwordsError, match="NaN"):
        decoder([torch.full((3, 6), float("nan"))])


class TestPool:
    def test_same_results_in_order_and_processes_end(self, tmp_path: Path) -> None:
        alphabet = letters()
        config = DecoderConfig(lm=words_arpa(tmp_path), nbest=2)
        emissions = [spoken(text, alphabet) for text in ("a bad cab", "abba", "a", "dad a cab", "")]
        expected = make_decoder(config, alphabet)(emissions)
        with DecoderPool(replace(config, processes=2), alphabet) as pool:
            waiting = pool.start(emissions)
            assert pool(emissions) == expected == waiting.result()
            processes = list(pool._pool._processes.values())
            assert pool.settings.beam == 50
        assert not any(process.is_alive() for process in processes)

    def test_errors_come_out_here(self, tmp_path: Path) -> None:
        config = DecoderConfig(lm=tmp_path / "none.arpa", processes=1)
        with DecoderPool(config, letters()) as pool, pytest.raises(LanguageModelError, match=r"none\.arpa"):
            pool([torch.zeros(2, 6)])

    def test_a_process_that_dies(self, tmp_path: Path) -> None:
        with DecoderPool(DecoderConfig(lm=words_arpa(tmp_path), processes=1), letters()) as pool:
            pool([torch.zeros(2, 6)])
            (process,) = pool._pool._processes.values()
            process.kill()
            with pytest.raises(FirstwordsError, match="died"):
                for _ in range(100):
                    pool([torch.zeros(2, 6)])
                    time.sleep(0.05)


class TestTuned:
    def test_used_with_the_same_model_wherever_it_lies(self, tmp_path: Path) -> None:
        arpa = words_arpa(tmp_path)
        config = DecoderConfig(lm=arpa)
        alphabet = letters()
        first = make_beam_decoder(config, alphabet).settings
        remember(tmp_path, config, replace(first, lm_weight=0.7, word_score=1.5, beam=33), 0.1, 5)
        moved = tmp_path / "elsewhere.arpa"
        moved.write_bytes(arpa.read_bytes())
        found = with_tuned(DecoderConfig(lm=moved), tmp_path)
        assert (found.lm_weight, found.word_score, found.beam) == (0.7, 1.5, 33)
        explicit = with_tuned(DecoderConfig(lm=moved, lm_weight=3.0), tmp_path / "best.safetensors")
        assert (explicit.lm_weight, explicit.word_score) == (3.0, 1.5)

    def test_not_with_another_model_or_search(self, tmp_path: Path) -> None:
        config = DecoderConfig(lm=words_arpa(tmp_path))
        settings = make_beam_decoder(config, letters()).settings
        remember(tmp_path, config, settings, 0.1, 5)
        other = DecoderConfig(lm=letters_arpa(tmp_path))
        assert with_tuned(other, tmp_path) == other
        assert with_tuned(replace(config, open_vocabulary=True), tmp_path).lm_weight is None

    def test_a_second_time_replaces(self, tmp_path: Path) -> None:
        config = DecoderConfig(lm=words_arpa(tmp_path))
        settings = make_beam_decoder(config, letters()).settings
        for weight in (1.0, 2.0):
            remember(tmp_path, config, replace(settings, lm_weight=weight), 0.1, 5)
        assert [one.lm_weight for one in read_tuned(tmp_path)] == [2.0]
        (tmp_path / NAME).write_text("{")
        with pytest.raises(CheckpointError, match="tune again"):
            read_tuned(tmp_path)
