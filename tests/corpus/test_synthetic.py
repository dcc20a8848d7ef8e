"""Synthetic speech: the same every time, voices unlike each other, words where the manifest says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus import espeak
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.synthetic import Voice, demo_sentences, make_corpus, record, synthesize, voices
from firstwords.errors import ConfigError, MissingExtraError, TextError

needs_espeak = pytest.mark.skipif(espeak.espeakng_loader is None, reason="espeakng_loader is not installed")
TEXT = "many of the dogs ran in a garden"


def bands(samples: np.ndarray) -> np.ndarray:
    """Mean level of 24 bands in dB, the loudness taken out."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    edges = np.geomspace(100, 7000, 25) / SAMPLE_RATE * len(samples)
    levels = np.array([spectrum[int(low) : int(high)].mean() for low, high in pairwise(edges)])
    decibels = 10 * np.log10(levels + 1e-12)
    return decibels - decibels.mean()


@needs_espeak
def test_samples_depend_on_text_and_voice_alone() -> None:
    some = [*voices(4), Voice("echo", "en-gb", "f3"), Voice("noise", "en-us", "croak")]
    first = [synthesize(TEXT, voice).samples for voice in some]
    synthesize("something else, by someone else", Voice("other", "de", "m7", pitch=80, rate=300, word_gap=0.2))
    for voice, samples in reversed(list(zip(some, first, strict=True))):
        np.testing.assert_array_equal(synthesize(TEXT, voice).samples, samples)


@needs_espeak
def test_voices_are_distinct_and_repeatable() -> None:
    chosen = voices(16, seed=3)
    assert chosen == voices(16, seed=3) == voices(40, seed=3)[:16] != voices(16, seed=4)
    assert len({voice.name for voice in chosen}) == 16 == len({voice.variant for voice in chosen})
    many = voices(400)
    assert len({(voice.variant, voice.language, voice.pitch) for voice in many}) == 400
    sounds = [bands(synthesize(TEXT, voice).samples) for voice in chosen]
    again = [bands(record(TEXT, voice, np.random.default_rng(1))[0]) for voice in chosen]
    apart = np.array([[np.sqrt(np.mean((a - b) ** 2)) for b in sounds] for a in sounds])
    assert apart[~np.eye(16, dtype=bool)].min() > 1.5
    nearest = [int(np.argmin([np.mean((a - b) ** 2) for b in sounds])) for a in again]
    assert np.mean(np.array(nearest) == np.arange(16)) > 0.7  # a recording still sounds like its voice
    with pytest.raises(ConfigError, match="can be told apart"):
        voices(10_000)


@needs_espeak
def test_every_word_has_its_time_and_the_pauses_are_quiet() -> None:
    voice = Voice("v", "en-us", "m3", word_gap=0.1)
    speech = synthesize(TEXT, voice)
    assert [word.text for word in speech.words] == TEXT.split()
    assert speech.words[3].phones == ("d", "ɑː", "ɡ", "z")  # "ɒ" in British English
    level = np.sqrt(np.mean(speech.samples**2))
    heard = 0.0
    for word, following in zip(speech.words, [*speech.words[1:], None], strict=True):
        assert 0 <= word.start < word.end <= len(speech.samples) / SAMPLE_RATE
        inside = speech.samples[round(word.start * SAMPLE_RATE) : round(word.end * SAMPLE_RATE)]
        assert np.sqrt(np.mean(inside**2)) > 0.3 * level
        if following is not None:
            assert following.start >= word.end + 0.09
            pause = slice(round((word.end + 0.01) * SAMPLE_RATE), round((following.start - 0.01) * SAMPLE_RATE))
            assert np.abs(speech.samples[pause]).max() < 0.02 * level
        heard += word.end - word.start
    assert heard < len(speech.samples) / SAMPLE_RATE - 0.6


@needs_espeak
@pytest.mark.parametrize("language", ["en-gb", "de"])
def test_punctuation_and_accents_keep_words_and_times_together(language: str) -> None:
    text = "Well-known: “Frühstück”, isn’t it — über  größe… 42 times?"
    words = synthesize(text, Voice("v", language)).words
    assert [word.text for word in words] == [token for token in text.split() if token != "—"]
    assert not any("(" in phone for word in words for phone in word.phones)
    assert all(before.end <= after.start + 1e-6 for before, after in pairwise(words))


@needs_espeak
def test_bad_voices_and_texts_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no language 'en-gbb'.*en-gb"):
        synthesize("hello", Voice("v", "en-gbb"))
    with pytest.raises(ConfigError, match="no variant 'm33'"):
        synthesize("hello", Voice("v", "en-us", "m33"))
    with pytest.raises(ConfigError, match="rate is 20"):
        synthesize("hello", Voice("v", rate=20))
    for text in ("", " \n", "—"):
        with pytest.raises(TextError, match="nothing to say"):
            synthesize(text, Voice("v"))


def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "espeakng_loader", None)
    espeak._languages.cache_clear()
    with pytest.raises(MissingExtraError, match=r"firstwords\[synthetic\]"):
        synthesize("hello", Voice("v"))


@needs_espeak
def test_a_corpus_grows_by_splits_and_is_the_same_again(tmp_path: Path) -> None:
    people, sentences = voices(4), demo_sentences()[:6]
    made = {}
    for name in ("one", "two"):
        make_corpus(tmp_path / name, sentences[:4], people[:3], split="train", audio_format="flac")
        make_corpus(tmp_path / name, ["this line is read anew"], people[3:], split="test")
        make_corpus(tmp_path / name, sentences[4:], people[2:], split="test", readings=2)
        made[name] = read_manifest(tmp_path / name)
    assert [u.split for u in made["one"]] == ["train"] * 4 + ["test"] * 4
    assert [u.speaker for u in made["one"][4:]] == ["voice002", "voice003", "voice003", "voice002"]
    for first, second in zip(made["one"], made["two"], strict=True):
        assert first.id == second.id and first.extras == second.extras and first.language == "en"
        samples = first.read()
        np.testing.assert_array_equal(samples, second.read())
        assert first.duration == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-4)
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.2 and np.abs(samples).max() < 1
        words = first.extras["words"]
        assert first.text is not None and [word[0] for word in words] == first.text.split()
        assert len(first.extras["phones"]) == len(words)
        assert words[0][1] >= 0.1 and words[-1][2] <= first.duration - 0.09
        start, end = round(words[0][1] * SAMPLE_RATE), round(words[-1][2] * SAMPLE_RATE)
        outside = np.sqrt(np.mean(samples[: start - 160] ** 2))
        assert np.sqrt(np.mean(samples[start:end] ** 2)) > 5 * outside
    levels = [np.sqrt(np.mean(u.read() ** 2)) for u in made["one"]]
    assert max(levels) > 1.2 * min(levels)


@needs_espeak
def test_voices_of_one_vocal_tract_without_rooms(tmp_path: Path) -> None:
    people = voices(5, languages=("en-us",), variants=("m3", "f2"))
    assert [voice.variant for voice in people] == ["m3", "f2", "m3", "f2", "m3"]
    assert len({(voice.pitch, voice.rate, voice.pitch_range) for voice in people}) == 5
    assert people == voices(9, languages=("en-us",), variants=("m3", "f2"))[:5]
    dry, wet = (
        make_corpus(tmp_path / name, ["it was a quiet day"], people[:1], rooms=rooms)[0]
        for name, rooms in (("dry", False), ("wet", True))
    )
    assert dry.extras == wet.extras and dry.duration == wet.duration
    assert np.abs(dry.read()[:1500]).max() == 0 < np.abs(wet.read()[:1500]).max()
    with pytest.raises(ConfigError, match="at least one"):
        voices(3, variants=())


@pytest.mark.parametrize(("sentences", "people", "readings"), [([], 1, 1), (["a"], 0, 1), (["a"], 1, 2)])
def test_a_corpus_needs_sentences_and_voices(tmp_path: Path, sentences: list[str], people: int, readings: int) -> None:
    with pytest.raises(ConfigError):
        make_corpus(tmp_path, sentences, [Voice("v")] * people, readings=readings)
    assert list(tmp_path.iterdir()) == []


def test_demo_sentences_are_short_plain_and_many() -> None:
    sentences = demo_sentences()
    assert len(sentences) == len(set(sentences)) == 1500
    assert all(3 <= len(sentence.split()) <= 10 for sentence in sentences)
    assert set("".join(sentences)) == set("abcdefghijklmnopqrstuvwxyz' ")
    assert len({word for sentence in sentences for word in sentence.split()}) > 1500
