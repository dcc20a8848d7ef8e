"""Every word of a text gets a time, whatever it is made of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from firstwords.decoding.aligned_text import align_text, ends_sentence, spell, tokens_of
from firstwords.decoding.alignment import WILDCARD, AlignmentConfig
from firstwords.decoding.words import FrameClock
from firstwords.errors import AlignmentError
from firstwords.text.alphabet import Alphabet

ALPHABET = Alphabet(("<blank>", "|", *"abcdefghijklmnopqrstuvwxyz'"))


def say(text: str, gap: int = 2, lead: int = 4) -> tuple[np.ndarray, list[int]]:
    """Emissions in which each character of `text` peaks every `gap` frames, and those frames."""
    labels = ALPHABET.encode(text)
    frames = [lead + gap * place for place in range(len(labels))]
    given = np.full((lead + gap * len(labels) + 4, len(ALPHABET)), -8.0)
    given[:, 0] = -0.01
    given[frames, 0] = -5.0
    given[frames, labels] = -0.01
    return given, frames


def found(given: np.ndarray, text: str, **how: float) -> list[tuple[str, float, float]]:
    result = align_text(given, text, ALPHABET, FrameClock(), 0.02 * len(given), AlignmentConfig(**how))
    return [(word.text, word.start, word.end) for word in result.words]


def test_words_keep_their_spelling_and_meet_at_boundaries() -> None:
    given, frames = say("well said mr fox")
    words = found(given, "“Well said,” Mr. Fox!")
    assert [text for text, _, _ in words] == ["“Well", "said,”", "Mr.", "Fox!"]
    assert words[0][1] == pytest.approx(0.02 * (frames[0] - 2))
    # The boundary's frame lies between both words; each reaches two frames towards it.
    assert words[0][2] == pytest.approx(0.02 * (frames[4] + 0.5)) == pytest.approx(words[1][1])


def test_what_cannot_be_spelt_has_a_time_all_the_same() -> None:
    given, frames = say("in nineteen eighty four they ran")
    words = found(given, "In 1984 they & ran —")
    assert [text for text, _, _ in words] == ["In", "1984", "they", "&", "ran —"]
    assert words[1][1] == pytest.approx(0.02 * frames[3], abs=0.1)
    assert words[1][2] == pytest.approx(0.02 * frames[22], abs=0.1)
    assert all(end >= start for _, start, end in words)
    assert all(left[2] <= right[1] + 1e-9 for left, right in pairwise(words))


def test_words_within_a_word() -> None:
    """ "well-known" reads as two words to the alphabet and is one in the text; "3rd" is partly spelt."""
    assert spell("well-known", ALPHABET).labels == tuple(ALPHABET.encode("well known")[:-1])
    assert spell("3rd", ALPHABET).labels == (WILDCARD, *ALPHABET.encode("rd")[:-1])
    assert spell("1984", ALPHABET).labels == (WILDCARD,)
    assert spell("—", ALPHABET).labels == () and spell("%", ALPHABET).labels == (WILDCARD,)
    given, frames = say("a well known fox")
    words = found(given, "a well-known fox")
    assert [text for text, _, _ in words] == ["a", "well-known", "fox"]
    assert words[1][1] < 0.02 * frames[2] and words[1][2] > 0.02 * frames[11]


def test_sentences() -> None:
    text = "Mr. Fox came. He left!\n\nCHAPTER TWO\n“Really?” asked J. Smith"
    sentences = [" ".join(token.text for token in sentence) for sentence in tokens_of(text, ALPHABET)]
    assert sentences == ["Mr. Fox came.", "He left!", "CHAPTER TWO", "“Really?”", "asked J. Smith"]
    assert ends_sentence("done.”") and not ends_sentence("Dr.") and not ends_sentence("but,")


def test_speech_around_the_text() -> None:
    given, frames = say("this was said before now the text begins and here it ends then more was said")
    words = found(given, "the text begins and here it ends")
    assert words[0][1] == pytest.approx(0.02 * frames[25], abs=0.05)


def test_scores_tell_wrong_words() -> None:
    given, _ = say("the fox ran home")
    result = align_text(given, "the cat ran home 7", ALPHABET, FrameClock(), 0.02 * len(given))
    scores = [word.confidence for word in result.words]
    assert scores[0] is not None and scores[1] is not None and scores[0] > 0.9 > 0.1 > scores[1] and scores[4] is None
    said = " ".join(result.remarks())
    assert "'cat'" in said and "'7'" in said


def test_empty_and_too_long() -> None:
    given, _ = say("fox")
    with pytest.raises(AlignmentError, match="empty"):
        found(given, " \n—\n")
    with pytest.raises(AlignmentError, match=r"does not fit the recording.*400 words, recording of 0.3 s"):
        found(given, "fox " * 400)
