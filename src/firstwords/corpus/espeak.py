"""espeak-ng through the `espeakng_loader` wheel: a text in a voice, with the time of every word; phones of texts.

espeak-ng (GPL-3.0, loaded at run time only where the extra "synthetic" is installed) keeps its state in global
variables: pitch flutter, noise and filters run on from one text to the next, and initialising it again does not reset
them. So every call here loads the library afresh and unloads it (a quarter of a millisecond), which makes the samples
depend on the text and the voice alone. It is not thread safe: calls take turns under a lock, and nothing else in the
process may use the same copy of espeak-ng meanwhile.
"""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import difflib
import functools
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from firstwords.audio import SAMPLE_RATE
from firstwords.errors import ConfigError, FirstwordsError, MissingExtraError, TextError

try:
    import espeakng_loader
except ImportError:
    espeakng_loader = None

# Constants of espeak-ng's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _IPA_NAMES, _DONT_EXIT, _UTF8, _BY_CHARACTER = 2, 0x0001, 0x0002, 0x8000, 1, 1
_IPA = 0x02
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_END_OF_EVENTS, _WORD, _CLAUSE_END, _PHONEME = 0, 1, 5, 7
_KEEP_APART = " \u200b"
"""Between words, so that espeak-ng does not run "of the" and the like into one word without a time of its own."""
_lock = threading.Lock()


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker."""

    name: str
    """The speaker's name in a manifest."""
    language: str = "en-us"
    """espeak-ng's code of the language or accent: en-us, en-gb, en-gb-scotland, de, ..."""
    variant: str = "m3"
    """espeak-ng's voice variant, which shapes the vocal tract: m1 to m8, f1 to f5, Annie, ..."""
    pitch: int = 50
    """0 to 100; 50 is the variant's own."""
    pitch_range: int = 50
    """0 (monotone) to 100; 50 is the variant's own."""
    rate: int = 175
    """Words a minute, 80 to 450."""
    word_gap: float = 0.0
    """Seconds of silence added between words (multiples of 0.01 s)."""


@dataclass(frozen=True)
class SpokenWord:
    """A word, when it is heard, and how."""

    text: str
    """As it stands in the text, with its punctuation. Several words where espeak-ng tells no time for the later ones,
    once in 1,500 sentences (the accent of New York drops the h of "human", and with it the word's time)."""
    start: float
    """Seconds."""
    end: float
    """Seconds; a pause before the next word belongs to neither."""
    phones: tuple[str, ...]
    """In the International Phonetic Alphabet, without stress marks."""


@dataclass(frozen=True)
class Speech:
    """What `synthesize` returns."""

    samples: np.ndarray
    """(samples,) float32, 16 kHz, within [-1, 1]."""
    words: tuple[SpokenWord, ...]


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("name", _Name),
    ]


class _Heard(NamedTuple):
    """An event of espeak-ng: a word, a phone, or the end of a clause."""

    kind: int
    position: int
    """Character of the text, from 1."""
    length: int
    """Characters, for a word."""
    sample: int
    phone: str


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def synthesize(text: str, voice: Voice) -> Speech:
    """`text` spoken by `voice`, with the true time of every word. The same arguments give the same samples, always.

    Raises:
        MissingExtraError: espeakng_loader is not installed.
        ConfigError: a language, variant or number that espeak-ng does not know.
        TextError: there is nothing to say.
    """
    tokens = re.sub(r"[\x00-\x1f\u200b]", " ", text).split()
    if not any(character.isalnum() for token in tokens for character in token):
        raise TextError(f"nothing to say in {text!r}")
    identifier = _identifier(voice)
    with _lock:
        rate, pcm, events = _speak(_KEEP_APART.join(tokens), voice, identifier, _PHONEME_EVENTS)
        # Only espeak-ng's own names tell pauses apart, only IPA names an accent's phones: the same speech twice.
        _, _, renamed = _speak(_KEEP_APART.join(tokens), voice, identifier, _PHONEME_EVENTS | _IPA_NAMES)
    samples = soxr.resample(pcm.astype(np.float32) / 32768, rate, SAMPLE_RATE, quality="HQ")
    if len(samples) == 0:
        raise TextError(f"espeak-ng says nothing for {text!r} in {voice.language}")
    phones = [event.phone.lstrip("ˈˌ") for event in renamed]
    words = _words(tokens, events, phones, rate, len(samples) / SAMPLE_RATE)
    return Speech(np.clip(samples, -1, 1), words)


def transcribe(texts: Sequence[Sequence[str]], language: str) -> list[list[str]]:
    """How espeak-ng would say texts of words: for each its words in IPA, phones joined by "_", stress marks left in.

    Words are kept apart ("of the" are two), but pronounced as they are in the sentence. Where espeak-ng says several
    words for one (numbers), a text has more words than it was given.

    Raises:
        MissingExtraError: espeakng_loader is not installed.
        ConfigError: a language that espeak-ng does not know.
    """
    file = language_file(language)
    found = []
    with _lock, _loaded() as (library, _):
        if library.espeak_SetVoiceByName(file.encode()) != 0:
            raise ConfigError(f"espeak-ng refuses the voice {file}")
        call = library.espeak_TextToPhonemes
        call.restype, call.argtypes = ctypes.c_char_p, [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        for words in texts:
            buffer = ctypes.create_string_buffer(_KEEP_APART.join(words).encode())
            place = ctypes.c_void_p(ctypes.addressof(buffer))
            said: list[str] = []
            while place.value:  # a clause at a time
                said += (
                    (call(ctypes.byref(place), _UTF8, _IPA | ord("_") << 8) or b"").decode("utf-8", "ignore").split()
                )
            found.append(said)
    return found


def language_file(language: str) -> str:
    """espeak-ng's own name for a language. Raises ConfigError: it would fall back to another without a word."""
    codes = _languages()
    if language.lower() not in codes:
        raise ConfigError(f"no language {language!r}{_nearest(language, list(codes))}")
    return codes[language.lower()]


def languages() -> list[str]:
    """The codes that `Voice.language` may take. Raises MissingExtraError."""
    return sorted(_languages())


def variants() -> list[str]:
    """The names that `Voice.variant` may take. Raises MissingExtraError."""
    return sorted(path.name for path in (_data() / "voices" / "!v").iterdir())


@contextlib.contextmanager
def _loaded(options: int = 0) -> Iterator[tuple[Any, int]]:
    """The library, fresh, and its samples a second. One at a time."""
    data = _data()
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), options | _DONT_EXIT)
        if rate <= 0:
            raise FirstwordsError(
                f"espeak-ng cannot start with its data in {data}; where that path is longer than 150 characters, "
                "install into an environment with a shorter one, else install espeakng-loader again"
            )
        yield library, rate
    finally:
        library.espeak_Terminate()
        unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
        unload(library._handle)


def _speak(text: str, voice: Voice, identifier: str, options: int) -> tuple[int, np.ndarray, list[_Heard]]:
    """Samples a second, int16 samples, and what happens in them. One call at a time."""
    pieces: list[bytes] = []
    events: list[_Heard] = []

    def receive(pcm: Any, count: int, heard: Any) -> int:
        if pcm and count > 0:
            pieces.append(ctypes.string_at(pcm, 2 * count))
        index = 0
        while (event := heard[index]).type != _END_OF_EVENTS:
            phone = event.name.string.decode("utf-8", "ignore") if event.type == _PHONEME else ""
            events.append(_Heard(event.type, event.position, event.length, event.sample, phone))
            index += 1
        return 0

    callback = _Callback(receive)
    with _loaded(options) as (library, rate):
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if library.espeak_SetVoiceByName(identifier.encode()) != 0:
            raise ConfigError(f"espeak-ng refuses the voice {identifier}")
        gap = round(voice.word_gap * 100)
        settings = {_RATE: voice.rate, _VOLUME: 100, _PITCH: voice.pitch, _RANGE: voice.pitch_range, _WORD_GAP: gap}
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode() + b"\0"
        size = ctypes.c_size_t(len(encoded))
        if library.espeak_Synth(encoded, size, 0, _BY_CHARACTER, 0, _UTF8, None, None) != 0:
            raise FirstwordsError(f"espeak-ng failed to speak {text[:60]!r}")
    return rate, np.frombuffer(b"".join(pieces), dtype=np.int16), events


def _words(
    tokens: list[str], events: list[_Heard], names: list[str], rate: int, duration: float
) -> tuple[SpokenWord, ...]:
    """Word times from espeak-ng's events: a word lasts from its event to the next word, or to the pause before that."""
    firsts = np.cumsum([0] + [len(token) + len(_KEEP_APART) for token in tokens[:-1]])
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    phones: dict[int, list[str]] = {}
    current = -1
    voiced = False
    for (kind, position, length, sample, phone), name in zip(events, names, strict=True):
        if kind == _WORD:
            middle = position - 1 + max(length - 1, 0) / 2
            token = int(np.searchsorted(firsts, middle, side="right")) - 1
            if token > current:  # a second event within a token ("well-known") changes nothing
                if voiced:
                    ends[current] = sample
                current = token
                starts[current], phones[current] = sample, []
            voiced = True
        elif kind == _PHONEME and current >= 0:
            pause = phone.startswith("_")
            if pause and voiced:
                ends[current] = sample
            voiced = not pause
            if not pause and name and name[0] != "(":  # glides have no name, "(en)" tells of a foreign word
                phones[current].append(name)
        elif kind == _CLAUSE_END and voiced:
            ends[current], voiced = sample, False
    words = []
    heard = sorted(starts)
    for token, following in zip(heard, [*heard[1:], len(tokens)], strict=True):
        members = [word for word in tokens[token:following] if any(character.isalnum() for character in word)]
        end = min(ends.get(token, duration * rate) / rate, duration)
        words.append(SpokenWord(" ".join(members), starts[token] / rate, end, tuple(phones[token])))
    return tuple(words)


def _identifier(voice: Voice) -> str:
    """espeak-ng's own name for the voice. Raises ConfigError: it would fall back to another without a word."""
    for what, value, low, high in (
        ("pitch", voice.pitch, 0, 100),
        ("pitch_range", voice.pitch_range, 0, 100),
        ("rate", voice.rate, 80, 450),
        ("word_gap", voice.word_gap, 0, 10),
    ):
        if not low <= value <= high:
            raise ConfigError(f"voice {voice.name}: {what} is {value}, expected {low} to {high}")
    try:
        language = language_file(voice.language)
    except ConfigError as error:
        raise ConfigError(f"voice {voice.name}: {error}") from error
    if voice.variant not in variants():
        raise ConfigError(f"voice {voice.name}: no variant {voice.variant!r}{_nearest(voice.variant, variants())}")
    return f"{language}+{voice.variant}"


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.4)
    return f" in espeak-ng; near: {', '.join(near)}" if near else " in espeak-ng"


@functools.cache
def _languages() -> dict[str, str]:
    """Language codes, lower case, and the voice file that speaks each best (the lowest priority number)."""
    best: dict[str, tuple[int, str]] = {}
    folder = _data() / "lang"
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        for match in re.finditer(r"(?m)^language\s+(\S+)(?:\s+(\d+))?", path.read_text("utf-8", "ignore")):
            entry = (int(match[2] or 5), path.relative_to(folder).as_posix())
            code = match[1].lower()
            best[code] = min(best.get(code, entry), entry)
    return {code: path for code, (_, path) in best.items()}


def _data() -> Path:
    if espeakng_loader is None:
        raise MissingExtraError("synthetic speech", "espeakng_loader", "synthetic")
    return Path(espeakng_loader.get_data_path())
