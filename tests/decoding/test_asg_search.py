"""Decoding with transition scores: our search against flashlight-text, the best path and enumeration; alignment."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from beams import letters_arpa, noise, paths, words_arpa

from firstwords.decoding.alignment import WILDCARD, AlignmentConfig, align_labels
from firstwords.decoding.beam import flashlight_is_there
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.options import DecoderConfig, make_beam_decoder, make_decoder
from firstwords.decoding.viterbi import ViterbiDecoder
from firstwords.decoding.workers import DecoderPool
from firstwords.errors import AlignmentError, ConfigError
from firstwords.losses.asg import forced_path
from firstwords.text.alphabet import Alphabet

ALPHABET = Alphabet(("|", *"abcd", "1"), first_boundary=True, repetitions=1)
BARE = Alphabet(("|", *"abcd"), final_boundary=False)
"""Without repetitions and boundaries around."""

needs_flashlight = pytest.mark.skipif(not flashlight_is_there(), reason="flashlight-text is not installed")


def transitions(labels: int, seed: int) -> np.ndarray:
    return 1.5 * np.random.default_rng(seed).standard_normal((labels, labels)).astype(np.float32)


def path_score(path: tuple[int, ...], emissions: torch.Tensor, steps: np.ndarray) -> float:
    heard = sum(float(emissions[t, label]) for t, label in enumerate(path))
    return heard + sum(float(steps[after, before]) for before, after in pairwise(path))


@needs_flashlight
@pytest.mark.parametrize(
    "options",
    [
        {}, {"nbest": 6}, {"silence_score": -0.7, "lm_weight": 1.3}, {"hot_words": ("abba", "dab")}, {"log_add": True},
    ],
    ids=str,
)  # fmt: skip
def test_own_search_finds_what_flashlight_finds(options: dict[str, object], tmp_path: Path) -> None:
    config = DecoderConfig(lm=words_arpa(tmp_path), beam=400, **options)  # type: ignore[arg-type]
    compared = 0
    for seed in range(12):
        steps = transitions(6, seed)
        emissions = noise(8 + 2 * seed, 6, seed)
        ours, theirs = (
            make_beam_decoder(replace(config, search=search), ALPHABET, steps)([emissions])[0]  # type: ignore[arg-type]
            for search in ("own", "flashlight")
        )
        if theirs[0].words is None:  # no word could end: what then is left over means little
            continue
        compared += 1
        assert [one.labels for one in ours] == [one.labels for one in theirs]
        assert ours[0].words == theirs[0].words and ours[0].frames == theirs[0].frames
        for one, other in zip(ours, theirs, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.language_score == pytest.approx(other.language_score, abs=1e-3)
        assert ours[0].emission_score == pytest.approx(theirs[0].emission_score, abs=1e-3)
    assert compared >= 9


@needs_flashlight
def test_flashlight_is_asked_only_what_it_does_rightly() -> None:
    """Without a lexicon it leaves transitions out of the score, so there our search is taken, or said to be needed."""
    with pytest.raises(ConfigError, match="leaves out of the score"):
        make_beam_decoder(DecoderConfig(beam=10, search="flashlight"), ALPHABET, transitions(6, 0))


def test_without_a_language_model_it_is_the_best_path() -> None:
    for seed in range(8):
        emissions, steps = noise(12, 6, seed), transitions(6, seed)
        best = ViterbiDecoder(steps)([emissions])[0][0]
        found = make_beam_decoder(DecoderConfig(beam=2000, beam_threshold=1e9), ALPHABET, steps)([emissions])[0][0]
        skipped = int(best.labels[0] == ALPHABET.boundary)  # what is before the first word the search does not write
        assert found.labels == best.labels[skipped:] and found.frames == best.frames[skipped:]
        assert found.score == pytest.approx(best.score, abs=1e-4)


def test_the_best_path_by_enumeration() -> None:
    emissions, steps = noise(6, 4, 1), transitions(4, 1)
    scored = [(path_score(path, emissions, steps), path) for path, _ in paths(emissions)]
    score, path = max(scored)
    found = make_decoder(DecoderConfig(), Alphabet(("|", *"abc")), steps)([emissions])[0][0]
    assert found.score == pytest.approx(score, abs=1e-4)
    assert found.labels == tuple(label for t, label in enumerate(path) if t == 0 or label != path[t - 1])
    assert make_decoder(DecoderConfig(), Alphabet(("|", *"abc")), steps)([emissions[:0]])[0][0].labels == ()


def test_words_by_enumeration(tmp_path: Path) -> None:
    """All paths that read as words of the model, one of them with a doubled letter: the best, with language."""
    lm = words_arpa(tmp_path)
    model = NgramModel.load(lm)
    small = Alphabet(("|", "a", "b", "1"), repetitions=1)  # of all words it can spell abba alone
    config = DecoderConfig(lm=lm, beam=3000, beam_threshold=1e9, search="own", unspellable="skip", word_score=-0.5)
    for seed in range(3):
        emissions, steps = noise(7, 4, seed), transitions(4, seed)
        best: dict[str, float] = {}
        for path, _ in paths(emissions):
            labels = [label for t, label in enumerate(path) if t == 0 or label != path[t - 1]]
            words = small.decode(labels).split()
            packed = [0] * (labels[0] == 0) + small.encode(" ".join(words)) if words else [0]
            if labels != packed or any(word not in ("a", "abba") for word in words):
                continue
            text = " ".join(words)
            value = path_score(path, emissions, steps) + 2 * model.score_sentence(words) - 0.5 * len(words)
            best[text] = max(best.get(text, -math.inf), value)
        text, score = max(best.items(), key=lambda item: item[1])
        found = make_beam_decoder(config, small, steps)([emissions])[0][0]
        assert small.decode(found.labels) == text and found.score == pytest.approx(score, abs=1e-3)


def test_a_model_over_symbols_reads_repetitions_as_letters(tmp_path: Path) -> None:
    model = letters_arpa(tmp_path)
    loaded = NgramModel.load(model)
    emissions, steps = noise(14, 6, 5), transitions(6, 5)
    emissions[6, 5] += 9
    found = make_beam_decoder(DecoderConfig(lm=model, beam=500, nbest=20), ALPHABET, steps)([emissions])[0]
    doubled = [one for one in found if 5 in one.labels]
    assert doubled
    for one in doubled:
        spelt = [symbol for text in ALPHABET.texts(one.labels) for symbol in text]
        assert one.language_score == pytest.approx(loaded.score_sentence(spelt), abs=1e-4)


def test_a_lexicon_without_repetitions_may_repeat_labels(tmp_path: Path) -> None:
    """ "abba" in an alphabet without symbols for repetitions: each of its labels takes a frame or more."""
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("abba\n")
    emissions = torch.full((5, 5), -9.0)
    emissions[torch.arange(5), torch.tensor([1, 2, 2, 1, 0])] = 0.0
    decoder = make_beam_decoder(DecoderConfig(lexicon=lexicon), BARE, np.zeros((5, 5), dtype=np.float32))
    assert decoder([emissions])[0][0].words == ("abba",)
    cut = decoder([emissions[:4]])[0][0]  # an utterance of such an alphabet need not end with a boundary
    assert cut.words == ("abba",)


def test_in_processes(tmp_path: Path) -> None:
    steps = transitions(6, 2)
    config = DecoderConfig(lm=words_arpa(tmp_path))
    emissions = [noise(20, 6, seed) for seed in range(3)]
    with DecoderPool(replace(config, processes=1), ALPHABET, steps) as pool:
        assert pool(emissions) == make_decoder(config, ALPHABET, steps)(emissions)


def test_alignment_is_the_forced_path() -> None:
    random = np.random.default_rng(1)
    for seed in range(20):
        frames, count = int(random.integers(4, 40)), int(random.integers(1, 5))
        emissions, steps, labels = noise(frames, 6, seed), transitions(6, seed), random.integers(0, 6, count).tolist()
        found = align_labels(emissions.numpy(), labels, None, steps)
        path = forced_path(
            emissions[None], torch.tensor([frames]), torch.tensor([labels]), torch.tensor([count]),
            torch.from_numpy(steps),
        )[0]  # fmt: skip
        spread = np.repeat(labels, found.ends - found.starts)
        assert spread.tolist() == path.tolist()
        assert found.score == pytest.approx(path_score(tuple(path.tolist()), emissions, steps), abs=1e-3)


def test_alignment_within_a_recording() -> None:
    """What is around the text and what no label spells are found as with CTC."""
    emissions = np.full((30, 6), -6.0, dtype=np.float32)
    said = [0] * 4 + [4] * 5 + [0] * 3 + [1] * 4 + [2] * 3 + [3] * 4 + [0] * 2 + [4] * 5
    emissions[np.arange(30), said] = 0.0
    steps = np.zeros((6, 6), dtype=np.float32)
    np.fill_diagonal(steps, 1.0)
    found = align_labels(emissions, [0, 1, 2, 3, 0], AlignmentConfig(), steps)
    assert found.starts[1:4].tolist() == [12, 16, 19] and found.ends[1:4].tolist() == [16, 19, 23]
    wild = align_labels(emissions, [0, 4, 0, 1, WILDCARD, 3, 0, 4], None, steps)
    assert (wild.starts[4], wild.ends[4]) == (16, 19)
    with pytest.raises(AlignmentError, match="3 labels need 3 frames"):
        align_labels(emissions[:2], [1, 2, 3], None, steps)
