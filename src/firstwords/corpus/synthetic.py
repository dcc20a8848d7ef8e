"""Corpora of synthetic speech: many voices, known words, known times; for the demo, for tests, for teaching."""

from __future__ import annotations

import importlib.resources
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.espeak import SpokenWord, Voice, synthesize
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest, write_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.errors import ConfigError, CorpusError

__all__ = ["ENGLISH", "SpokenWord", "Voice", "demo_sentences", "make_corpus", "record", "synthesize", "voices"]

ENGLISH = (
    "en-us", "en-gb", "en-gb-scotland", "en-us-nyc", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd",
)  # fmt: skip
"""espeak-ng's accents of English."""

# Variants that sound like people and unlike each other: where mean spectrum and pitch nearly coincide (iven, iven3,
# iven4; steph, steph2, steph3; benjamin, edward2, adam; ...) one is kept; robots and whispers are left out.
_WOMEN = (
    "f1", "f2", "f3", "f5", "Annie", "linda", "aunty", "Andrea", "shelby", "grandma", "anika", "belinda", "steph",
    "Alicia",
)  # fmt: skip
_MEN = (
    "m3", "m1", "m7", "m8", "Andy", "Jacky", "david", "Nguyen", "Reed", "Marco", "boris", "ed", "quincy", "travis",
    "Lee", "ian", "pablo", "norbert", "marcelo", "Michael", "Denis", "Gene", "Alex", "m4", "edward", "sandro", "paul",
    "max", "antonio", "benjamin", "kaukovalta", "robert", "michel", "iven2",
)  # fmt: skip
_PITCH_STEPS = (0, -16, 16, -8, 8)


def voices(
    count: int, seed: int = 0, languages: Sequence[str] = ENGLISH, variants: Sequence[str] | None = None
) -> list[Voice]:
    """`count` different voices, women and men in turn, no two alike in both variant and accent or in pitch.

    Different seeds shuffle variants, accents and manners. A longer list begins with the shorter one.

    Args:
        variants: espeak-ng's only of these names, which are its vocal tracts: the voices then take turns in them, and
            differ in pitch, its range and rate only. None: all that sound like people and unlike each other.

    Raises:
        ConfigError: more voices than can be told apart.
    """
    if variants is not None:
        return _of_variants(count, seed, languages, variants)
    most = 2 * len(_WOMEN) * len(languages) * len(_PITCH_STEPS)
    if not 1 <= count <= most:
        raise ConfigError(
            f"{count} voices asked for; 1 to {most} can be told apart in {', '.join(languages) or 'no language'}"
        )
    random = np.random.default_rng(seed)
    accents = [languages[index] for index in random.permutation(len(languages))]
    women = [_WOMEN[index] for index in random.permutation(len(_WOMEN))]
    men = [_MEN[index] for index in random.permutation(len(_MEN))]
    chosen = []
    for index in range(count):
        variants = (women, men)[index % 2]
        lap, place = divmod(index // 2, len(variants))
        step, turn = divmod(lap, len(accents))
        chosen.append(
            Voice(
                name=f"voice{index:03d}",
                language=accents[(2 * place + index % 2 + turn) % len(accents)],
                variant=variants[place],
                pitch=50 + _PITCH_STEPS[step] + int(random.integers(-3, 4)),
                pitch_range=int(random.integers(35, 76)),
                rate=int(random.integers(145, 196)),
                word_gap=float(random.choice([0.0, 0.0, 0.01, 0.02])),
            )
        )
    return chosen


def _of_variants(count: int, seed: int, languages: Sequence[str], variants: Sequence[str]) -> list[Voice]:
    if count < 1 or not variants or not languages:
        raise ConfigError(
            f"{count} voices of {len(variants)} variants in {len(languages)} languages: at least one each"
        )
    random = np.random.default_rng(seed)
    return [
        Voice(
            name=f"voice{index:03d}",
            language=languages[index // len(variants) % len(languages)],
            variant=variants[index % len(variants)],
            pitch=int(random.integers(30, 71)),
            pitch_range=int(random.integers(35, 76)),
            rate=int(random.integers(145, 196)),
            word_gap=float(random.choice([0.0, 0.0, 0.01, 0.02])),
        )
        for index in range(count)
    ]


def demo_sentences() -> list[str]:
    """1,500 short English sentences from public-domain books, lower case, no punctuation but apostrophes."""
    text = importlib.resources.files("firstwords.corpus").joinpath("sentences_en.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def make_corpus(
    out: Path,
    sentences: Sequence[str],
    voices: Sequence[Voice],
    split: str = "train",
    readings: int = 1,
    audio_format: Literal["wav", "flac"] = "wav",
    seed: int = 0,
    rooms: bool = True,
) -> list[Utterance]:
    """Writes `sentences` as spoken by `voices` into the corpus folder `out` and its manifest.

    Sentence i is read by voice i modulo their number, and by the following ones for further `readings`. No two
    recordings are made alike: rate, pitch, level, silence around the words, noise and, per speaker, the room vary with
    `seed`. The manifest keeps the times of the words as `words`, [[word, start, end], ...] in seconds, and their
    phones as `phones`, ["w iː", "k ɔː l"] in the International Phonetic Alphabet. A manifest that is there already
    keeps its other splits, so several calls with different sentences and voices make up one corpus.

    Args:
        audio_format: 16-bit WAV, or FLAC at half the size.
        rooms: False: as espeak-ng says it, without room and noise.

    Returns:
        The utterances of this split.

    Raises:
        ConfigError: no sentences or voices, or more readings than voices.
        CorpusError: the folder cannot be written, or its manifest is broken.
    """
    if not sentences or not voices:
        raise ConfigError("a synthetic corpus needs at least one sentence and one voice")
    if not 1 <= readings <= len(voices):
        raise ConfigError(
            f"{readings} readings of each sentence by different voices, but there are {len(voices)} voices"
        )
    manifest = out / MANIFEST_NAME
    others = [u for u in read_manifest(manifest) if u.split != split] if manifest.is_file() else []
    made = []
    for number, sentence in enumerate(sentences):
        for reading in range(readings):
            voice = voices[(number + reading) % len(voices)]
            name = f"{split}-{voice.name}-{number:05d}"
            samples, words = record(sentence, voice, np.random.default_rng([seed, zlib.crc32(name.encode())]), rooms)
            path = out / "audio" / voice.name / f"{name}.{audio_format}"
            _write(path, samples)
            extras: dict[str, Any] = {
                "accent": voice.language,
                "words": [[word.text, round(word.start, 3), round(word.end, 3)] for word in words],
                "phones": [" ".join(word.phones) for word in words],
            }
            made.append(
                Utterance(
                    id=name,
                    audio=path,
                    duration=round(len(samples) / SAMPLE_RATE, 4),
                    text=sentence,
                    speaker=voice.name,
                    language=voice.language.split("-")[0],
                    split=split,
                    extras=extras,
                )
            )
    if clash := {u.id for u in others} & {u.id for u in made}:
        raise CorpusError(f"{manifest}: holds {min(clash)} in another split already; choose another folder")
    write_manifest([*others, *made], manifest)
    return made


def record(
    text: str, voice: Voice, random: np.random.Generator, rooms: bool = True
) -> tuple[np.ndarray, list[SpokenWord]]:
    """`text` as a microphone might hear it: the voice a little different each time, in its room, with noise.

    Args:
        rooms: False leaves out room and noise.

    Returns:
        samples (samples,) float32 at 16 kHz, between 0.1 and 0.3 s of them before the first word and after the last,
        and the words with their times in these samples.

    Raises:
        As `synthesize`.
    """
    speech = synthesize(
        text,
        Voice(
            voice.name,
            voice.language,
            voice.variant,
            pitch=int(np.clip(voice.pitch + random.integers(-4, 5), 0, 100)),
            pitch_range=int(np.clip(voice.pitch_range + random.integers(-8, 9), 0, 100)),
            rate=int(np.clip(round(voice.rate * random.uniform(0.92, 1.08)), 80, 450)),
            word_gap=voice.word_gap,
        ),
    )
    lead, tail = (round(seconds * SAMPLE_RATE) for seconds in random.uniform(0.1, 0.3, size=2))
    samples = np.pad(speech.samples, (lead, tail))
    if rooms:
        samples = _in_room(samples, zlib.crc32(voice.name.encode()))
    level = 10 ** (random.uniform(-30, -18) / 20)
    samples = samples * (level / (np.sqrt(np.mean(samples**2)) + 1e-9))
    if rooms:
        samples = samples + _noise(len(samples), random) * (level * 10 ** (-random.uniform(25, 45) / 20))
    samples = samples * min(1.0, 0.97 / np.abs(samples).max())
    shift = lead / SAMPLE_RATE
    words = [SpokenWord(word.text, word.start + shift, word.end + shift, word.phones) for word in speech.words]
    return samples.astype(np.float32), words


def _in_room(samples: np.ndarray, seed: int) -> np.ndarray:
    """Early, decaying reflections (60 dB in 0.1 to 0.3 s) behind the direct sound, the same for the same seed."""
    random = np.random.default_rng(seed)
    decay = random.uniform(0.1, 0.3)
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = random.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    response[: round(random.uniform(0.002, 0.006) * SAMPLE_RATE)] = 0
    response *= random.uniform(0.1, 0.4) / np.sqrt(np.sum(response**2))
    response[0] = 1
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]


def _noise(count: int, random: np.random.Generator) -> np.ndarray:
    """Noise of unit power that falls by 0 to 6 dB per octave."""
    size = 1 << (count - 1).bit_length()
    spectrum = np.fft.rfft(random.standard_normal(size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 20) ** -random.uniform(0, 1)
    noise = np.fft.irfft(spectrum, size)[:count]
    return noise / np.sqrt(np.mean(noise**2))


def _write(path: Path, samples: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    except (OSError, soundfile.LibsndfileError) as error:
        raise CorpusError(f"{path}: cannot be written ({error})") from error
