"""A text laid over a recording: when each of its words was said."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firstwords.decoding.alignment import WILDCARD, AlignmentConfig, Path, align_labels
from firstwords.decoding.words import FrameClock, Label, Word, separator, spans, timed_word
from firstwords.errors import AlignmentError
from firstwords.text.alphabet import BOUNDARY, Alphabet

SPOKEN_SYMBOLS = frozenset("&%@#§*/°№‰†")
"""Punctuation to Unicode, but words to a reader."""

POOR = 0.1
"""Score of a word below which it was hardly said as written."""


@dataclass(frozen=True)
class Token:
    """A word of a text and how it is spelt."""

    text: str
    """As it stands in the text, punctuation included."""
    labels: tuple[int, ...]
    """Indices into the alphabet, boundaries where it reads as several words; a WILDCARD for every run of what the
    alphabet lacks. Empty for punctuation alone."""
    symbols: tuple[str, ...]
    """What each label stands for."""


@dataclass(frozen=True)
class Alignment:
    """The words of a text with their times."""

    words: tuple[Word, ...]
    """One for each word of the text, in order, as it stands there. `confidence` is the mean probability of its labels,
    None for a word that no label spells."""
    sentences: tuple[int, ...]
    """For each word the number of the line or sentence that it belongs to."""
    score: float
    """Mean log probability of the path over all frames, nats; 0 is perfect."""
    duration: float
    """Seconds of the recording."""

    def remarks(self) -> list[str]:
        """Sentences on what a person should look at: words that fit badly, words that no label spells."""
        said = []
        unspelt = [word for word in self.words if word.confidence is None]
        if unspelt:
            said.append(
                f"{len(unspelt)} of {len(self.words)} words have no letter that the alphabet knows, such as "
                f"{unspelt[0].text!r} at {unspelt[0].start:.2f} s; their times come from their neighbours"
            )
        poor = [word for word in self.words if word.confidence is not None and word.confidence < POOR]
        if poor:
            share = len(poor) / len(self.words)
            advice = "; is it the right text?" if share > 0.5 else ""
            said.append(
                f"{len(poor)} of {len(self.words)} words fit badly (score below {POOR}), the first {poor[0].text!r} "
                f"at {poor[0].start:.2f} s{advice}"
            )
        return said


def spell(word: str, alphabet: Alphabet) -> Token:
    """How a word of a text is spelt with an alphabet that may lack some of it: "3rd" is a wildcard, r and d."""
    normal = alphabet.normalize(word)
    if not normal:
        spoken = any(c in SPOKEN_SYMBOLS or unicodedata.category(c)[0] in "SN" for c in word)
        return Token(word, (WILDCARD,) if spoken else (), (word,) if spoken else ())
    known = alphabet.letters
    labels: list[int] = []
    symbols: list[str] = []
    pieces = normal.replace(" ", BOUNDARY) if alphabet.units == "characters" else normal.split()
    for symbol in pieces:
        index = known.get(symbol, WILDCARD)
        if index == WILDCARD and labels and labels[-1] == WILDCARD:
            symbols[-1] += symbol
            continue
        labels.append(index)
        symbols.append(symbol)
    packed = alphabet.pack(labels)
    if len(packed) < len(labels):
        wild = iter([symbol for symbol, label in zip(symbols, labels, strict=True) if label == WILDCARD])
        shown = zip(packed, alphabet.texts(packed), strict=True)
        symbols = [next(wild) if label == WILDCARD else text for label, text in shown]
    return Token(word, tuple(packed), tuple(symbols))


def tokens_of(text: str, alphabet: Alphabet) -> list[list[Token]]:
    """The sentences of a text, each a list of its words; see `ends_sentence` for what ends one, beside line breaks.

    With a phoneme alphabet words are what `|` separates. Punctuation that stands alone goes to the word before it, or
    at the start of a text to the one after.
    """
    sentences: list[list[Token]] = []
    for line in text.splitlines():
        words = line.split() if alphabet.units == "characters" else [w.strip() for w in line.split(BOUNDARY)]
        sentence: list[Token] = []
        opening = ""
        for word in filter(None, words):
            token = spell(word, alphabet)
            if not token.labels:
                if sentence:
                    before = sentence[-1]
                    sentence[-1] = dataclasses.replace(before, text=f"{before.text} {word}")
                else:
                    opening = f"{opening}{word} "
                continue
            sentence.append(dataclasses.replace(token, text=opening + token.text))
            opening = ""
            if ends_sentence(sentence[-1].text) and alphabet.units == "characters":
                sentences.append(sentence)
                sentence = []
        if sentence:
            sentences.append(sentence)
    return sentences


def ends_sentence(word: str) -> bool:
    """Whether a sentence ends with this word: . ! ? … or their likes in other scripts, quotes and brackets after it.

    An initial ("J.") or a common title does not end one.
    """
    bare = word.rstrip("\"'”’»)]")
    if not bare or bare[-1] not in ".!?…。！？।؟۔":
        return False
    stem = bare.rstrip(".").lstrip("\"'“‘«([")
    return bare[-1] != "." or (len(stem) > 1 and stem.lower() not in _TITLES)


_TITLES = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "no", "vol", "fig", "bzw", "ca", "nr", "mme", "mlle")
)


def align_text(
    log_probabilities: np.ndarray,
    text: str,
    alphabet: Alphabet,
    clock: FrameClock,
    duration: float,
    config: AlignmentConfig | None = None,
    transitions: np.ndarray | None = None,
) -> Alignment:
    """When every word of `text` was said.

    Args:
        log_probabilities: (T, V) of the recording.
        text: any spelling, any length; line breaks end sentences.
        alphabet: of the recogniser.
        clock: of its frames.
        duration: seconds of the recording.
        config: None: the defaults, extra speech at either end allowed.
        transitions: (V, V) of a recogniser trained with ASG.

    Raises:
        AlignmentError: the text has no words, or more than the recording can hold.
    """
    sentences = tokens_of(text, alphabet)
    tokens = [token for sentence in sentences for token in sentence]
    if not tokens:
        raise AlignmentError("the text is empty: there is no word to align")
    boundary = alphabet.boundary
    labels: list[int] = [boundary] * alphabet.first_boundary
    for number, token in enumerate(tokens):
        labels += [boundary, *token.labels] if number else token.labels
    if alphabet.final_boundary:
        labels.append(boundary)
    try:
        path = align_labels(log_probabilities, labels, config or AlignmentConfig(), transitions)
    except AlignmentError as error:
        raise AlignmentError(f"{error} (text of {len(tokens)} words, recording of {duration:.1f} s)") from error
    words = _words(tokens, path, labels, alphabet, clock, duration)
    numbers = [number for number, sentence in enumerate(sentences) for _ in sentence]
    return Alignment(tuple(words), tuple(numbers), path.score / len(log_probabilities), duration)


def _words(
    tokens: Sequence[Token], path: Path, labels: Sequence[int], alphabet: Alphabet, clock: FrameClock, duration: float
) -> list[Word]:
    """One word for each token, though a token may hold boundaries of its own ("well-known")."""
    parts = list(zip(labels, path.starts.tolist(), path.ends.tolist(), path.scores.tolist(), strict=True))
    place = int(alphabet.first_boundary)
    words: list[Word] = []
    gap: Label | None = None
    if place:
        index, start, end, score = parts[0]
        gap = Label(index, start, end, math.exp(score))
    for token in tokens:
        taken = parts[place : place + len(token.labels)]
        spelt = [
            Label(index, start, end, None if index == WILDCARD else math.exp(score), symbol)
            for (index, start, end, score), symbol in zip(taken, token.symbols, strict=True)
        ]
        place += len(token.labels)
        following = None
        if place < len(parts):
            index, start, end, score = parts[place]
            following = Label(index, start, end, math.exp(score))
            place += 1
        around = [label for label in (gap, *spelt, following) if label is not None]
        timed = [timed_word(span, alphabet, clock, duration) for span in spans(around, alphabet)]
        known = [math.log(max(label.probability, 1e-30)) for label in spelt if label.probability is not None]
        mean = math.exp(sum(known) / len(known)) if known else None
        characters = tuple(character for word in timed for character in word.characters)
        words.append(Word(token.text, timed[0].start, timed[-1].end, mean, characters))
        gap = following
    return words


def joined_text(words: Sequence[Word], alphabet: Alphabet) -> str:
    """Words of an alignment as a text again."""
    return separator(alphabet).join(word.text for word in words)
