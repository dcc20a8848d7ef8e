"""The text side of wav2vec-U: sentences that nobody need have said, to phones with pauses, and language models.

Source: fairseq's prepare_text.sh and phonemize_with_sil.py. Ours are the phonemes of whole sentences, which are weak
where speech is weak, and thresholds that grow with the text, so that small texts can be used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstwords.corpus.feature_store import write_lines
from firstwords.corpus.parallel import track
from firstwords.corpus.prepared import SILENCE, Kind
from firstwords.decoding.kneser_ney import estimate
from firstwords.errors import ConfigError, TextError
from firstwords.text.normalization import normalize_text
from firstwords.text.phonemes import Pronounced, look_up, pronounce, read_pronunciations
from firstwords.text.scripts import scripts_of_language, scripts_of_text
from firstwords.text.sentences import read_sentences

SILENCE_PROBABILITY: dict[Kind, float] = {"1.0": 0.25, "2.0": 0.5}
"""Of a pause between two words. Source: wav2vec-U, and its second version."""
PHONE_ORDERS = (4, 6)
"""Source: prepare_text.sh."""
WORD_ORDER, WORD_PRUNE = 4, (0, 0, 0, 3)
"""Source: prepare_text.sh."""
MOST_PRONUNCIATIONS = 3
"""Of a word in the lexicon, those that make at least `LEAST_SHARE` of its occurrences."""
LEAST_SHARE = 0.1
OWN_SCRIPT = 0.8
"""Share of a sentence's letters that must be in the language's script."""
FEW_SENTENCES = 3000
"""Fewer than that is worth a warning: the discriminator learns the text by heart."""


@dataclass(frozen=True)
class TextConfig:
    """Which sentences are learnt from, and how they are spelt in phones."""

    language: str = "en-us"
    """espeak-ng's code of the language; with --lexicon it only names the script."""
    lexicon: Path | None = None
    """Pronunciations, a word and its phones a line, in place of espeak-ng's; sentences with other words are left
    out."""
    min_words: int = 3
    """Shorter sentences are left out (headlines, names). Ours."""
    max_words: int = 100
    """Longer ones are left out. Ours."""
    silence_probability: float | None = None
    """Probability of a pause between two words; without it 0.25 for 1.0 and 0.5 for 2.0. Source: wav2vec-U."""
    min_phone_count: int | None = None
    """Phones that occur less often, and the sentences that hold them, are left out; without it 3 in 10,000 phones,
    1000 at the most. Source of the 1000: wav2vec-U."""
    min_word_count: int = 1
    """Words that occur less often do not stand in the lexicon; fairseq takes 2, for text off the web."""
    keep_length: bool = False
    """Tell long vowels from short ones by their length alone (i from iː), too."""
    silence_seed: int = 0
    """Of the pauses."""

    def check(self) -> None:
        """Raises ConfigError."""
        probability = self.silence_probability
        if probability is not None and not 0 <= probability <= 1:
            raise ConfigError(f"--silence-probability {probability}: from 0 to 1")
        if not 1 <= self.min_words <= self.max_words:
            raise ConfigError(
                f"sentences of {self.min_words} to {self.max_words} words: expected 1 or more, and rising"
            )


@dataclass
class TextSummary:
    """What became of a text."""

    sentences: int = 0
    """Kept."""
    phones: int = 0
    """Of the kept sentences, pauses not counted."""
    words: int = 0
    """In the lexicon."""
    foreign: int = 0
    """Sentences left out: in another script."""
    short_or_long: int = 0
    unpronounced: int = 0
    """Without phones, or with a word that the lexicon lacks."""
    rare: int = 0
    """With a phone too rare to be learnt."""
    dropped_phones: tuple[str, ...] = ()
    inventory: tuple[str, ...] = ()
    """The phones, the most frequent first, SILENCE last."""


def prepare_text(texts: Sequence[Path], folder: Path, config: TextConfig, kind: Kind = "1.0") -> TextSummary:
    """Writes phones.txt, dict.txt, lexicon.txt, sentences.txt and the language models into `folder`.

    Args:
        texts: files with a sentence a line, or corpora (their transcripts).
        kind: decides how often there are pauses, where the configuration does not.

    Raises:
        TextError: in another script than the language's, or nothing left.
        ConfigError: a language that espeak-ng lacks, values out of range.
        LanguageModelError, CorpusError, MissingExtraError: as reading, writing and espeak-ng raise them.
    """
    config.check()
    silence = config.silence_probability if config.silence_probability is not None else SILENCE_PROBABILITY[kind]
    summary = TextSummary()
    kept, counts = _choose(_pronounced(texts, config, summary), config, summary)
    if not kept:
        raise TextError(
            f"{', '.join(map(str, texts))}: no sentence left of {summary.foreign + summary.short_or_long} with "
            f"{config.min_words} to {config.max_words} words in the script of {config.language}; "
            f"{summary.unpronounced} could not be pronounced, {summary.rare} had rare phones"
        )
    summary.sentences, summary.phones = len(kept), sum(counts.values())
    spelt = list(with_silence((tuple(phones for _, phones in one) for one in kept), silence, config.silence_seed))
    pauses = sum(line.count(SILENCE) for line in spelt)
    summary.inventory = (*sorted(counts, key=lambda p: (-counts[p], p)), SILENCE)
    write_lines(folder / "phones.txt", spelt)
    write_lines(folder / "sentences.txt", (" ".join(word for word, _ in one) for one in kept))
    write_lines(folder / "dict.txt", (f"{p} {counts[p] if p != SILENCE else pauses}" for p in summary.inventory))
    entries = pronunciations(kept, config.min_word_count)
    summary.words = len({word for word, _ in entries})
    write_lines(folder / "lexicon.txt", (f"{word} {' '.join(phones)}" for word, phones in entries))
    for order in PHONE_ORDERS:
        estimate(spelt, order)[0].save(folder / f"phones.{order}.arpa.gz")
    known = {word for word, _ in entries}
    estimate(_known_words(kept, known), WORD_ORDER, WORD_PRUNE)[0].save(folder / "words.arpa.gz")
    return summary


def _known_words(kept: Iterable[Pronounced], known: set[str]) -> Iterator[str]:
    """Sentences for the word model; rare words share one entry, which no lexicon has."""
    for sentence in kept:
        yield " ".join(word if word in known else "<other>" for word, _ in sentence)


def _pronounced(texts: Sequence[Path], config: TextConfig, summary: TextSummary) -> Iterator[Pronounced]:
    """The sentences that may stay, with their phones."""
    sentences = list(_sentences(texts, config, summary))
    if config.lexicon is not None:
        lexicon = read_pronunciations(config.lexicon)
        folded = {normalize_text(word): phones for word, phones in lexicon.items()}
        pronounced = look_up(sentences, folded)
    else:
        pronounced = pronounce(sentences, config.language, config.keep_length)
    for found in track(pronounced, len(sentences), "phones"):
        if found is None:
            summary.unpronounced += 1
        else:
            yield found


def _sentences(texts: Sequence[Path], config: TextConfig, summary: TextSummary) -> Iterator[str]:
    """Normalised sentences in the language's script, neither too short nor too long."""
    own = scripts_of_language(config.language)
    found: Counter[str] = Counter()
    kept = 0
    for line in read_sentences(texts, None):
        scripts = scripts_of_text(line)
        found += scripts
        if sum(scripts[one] for one in own) < OWN_SCRIPT * max(1, scripts.total()):
            summary.foreign += 1
            continue
        spelt = normalize_text(line)
        if not config.min_words <= len(spelt.split()) <= config.max_words:
            summary.short_or_long += 1
            continue
        kept += 1
        yield spelt
    if summary.foreign > kept:
        theirs = found.most_common(1)[0][0].capitalize()
        raise TextError(
            f"{', '.join(map(str, texts))}: written in {theirs} ({summary.foreign:,} of {summary.foreign + kept:,} "
            f"sentences), but {config.language} is written in {' or '.join(s.capitalize() for s in sorted(own))}; name "
            "the text's own language with --language"
        )


def _choose(
    sentences: Iterable[Pronounced], config: TextConfig, summary: TextSummary
) -> tuple[list[Pronounced], Counter[str]]:
    """Sentences without rare phones, and how often each phone occurs in them."""
    everything = list(sentences)
    counts: Counter[str] = Counter(p for one in everything for _, phones in one for p in phones)
    least = config.min_phone_count
    if least is None:
        least = min(1000, max(2, round(3e-4 * counts.total())))
    while rare := {phone for phone, count in counts.items() if count < least}:
        before = len(everything)
        everything = [one for one in everything if not any(p in rare for _, phones in one for p in phones)]
        summary.rare += before - len(everything)
        summary.dropped_phones += tuple(sorted(rare))
        counts = Counter(p for one in everything for _, phones in one for p in phones)
    return everything, counts


def with_silence(sentences: Iterable[Sequence[Sequence[str]]], probability: float, seed: int) -> Iterator[str]:
    """Phones of sentences, SILENCE at both ends always and between two words with `probability`, drawn for each.

    Args:
        sentences: for each word its phones.
    """
    random = np.random.default_rng(seed)
    for words in sentences:
        pauses = random.random(max(0, len(words) - 1)) < probability
        line = [SILENCE]
        for number, phones in enumerate(words):
            line += [SILENCE, *phones] if number and pauses[number - 1] else phones
        yield " ".join([*line, SILENCE])


def pronunciations(sentences: Iterable[Pronounced], min_count: int = 1) -> list[tuple[str, tuple[str, ...]]]:
    """Words and their phones, the commonest first; of a word at most MOST_PRONUNCIATIONS of some weight."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    for sentence in sentences:
        for word, phones in sentence:
            found.setdefault(word, Counter())[phones] += 1
    entries = []
    for word, ways in sorted(found.items()):
        if (total := ways.total()) >= min_count:
            common = [phones for phones, count in ways.most_common(MOST_PRONUNCIATIONS) if count >= LEAST_SHARE * total]
            entries += [(word, phones) for phones in common]
    return entries
