"""firstwords lm TEXT... --order 4 --out lm.arpa"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.checkpoints.models import load_alphabet
from firstwords.cli.options import parse, several
from firstwords.decoding.arpa import check_place
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.errors import LanguageModelError
from firstwords.report.language import print_orders, print_perplexities
from firstwords.text.alphabet import Units
from firstwords.text.normalization import NormalizationConfig, normalize_text
from firstwords.text.sentences import Withheld, read_sentences, spelt


@dataclass
class Reading:
    """Which text, and how it is spelt. The recogniser that will use the model must spell alike."""

    split: tuple[str, ...] = ("train",)
    """Transcripts of corpora: these splits, and those in none; "all" takes every one."""
    without: tuple[Path, ...] = ()
    """Corpora whose dev and test transcripts no text may hold: what is tested on must not be learnt from."""
    normalize_like: Path | None = None
    """Spell as the alphabet of this fine-tuning run (or alphabet.json) does."""
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    """Spelling where no run is given: the recipes' own."""
    as_is: bool = False
    """Take the text as it stands."""
    characters: bool = False
    """Learn characters instead of words, with | between words."""


@dataclass
class Arguments:
    """An n-gram language model of texts, smoothed by interpolated modified Kneser-Ney, as an ARPA file.

    Texts have a sentence a line. With --transformer a small neural language model is trained instead: see
    firstwords lm --transformer --help. With --evaluate alone, --model names the model to evaluate.
    """

    text: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("TEXT")] = ()
    """Text files (.gz too), corpus folders or manifests (their transcripts)."""
    out: Path | None = None
    """ARPA file to write, compressed where it ends in .gz."""
    order: int = 4
    """Words (or characters) of the longest n-grams. Source: wav2vec 2.0 section 4.4."""
    prune: tuple[int, ...] = ()
    """For each order, leave out n-grams that occur so often or less: --prune 0 0 1 (the last holds for the rest)."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)
    evaluate: tuple[Path, ...] = ()
    """Texts or corpora to print perplexity and out-of-vocabulary rate on."""
    evaluate_split: tuple[str, ...] = ("dev",)
    """Transcripts of corpora to evaluate on: these splits, and those in none; "all" takes every one."""
    model: Path | None = None
    """Evaluate this ARPA file instead of making one."""


def run(arguments: list[str]) -> int:
    chosen = parse(Arguments, arguments, "lm", flags=True)
    console = Console(highlight=False)
    spell, units = spelling(chosen.reading)
    if (chosen.model is None) != bool(chosen.text):
        raise LanguageModelError("name texts to learn from, or a --model to --evaluate: one of the two")
    if chosen.model is not None:
        if not chosen.evaluate:
            raise LanguageModelError("--model is only read: say with --evaluate TEXT what to evaluate it on")
        model = NgramModel.load(chosen.model)
    else:
        if chosen.out is None and not chosen.evaluate:
            raise LanguageModelError("say where to write the model: --out lm.arpa")
        if chosen.out is not None:
            check_place(chosen.out)
        model, summaries = estimate(learnt(chosen.text, chosen.reading, spell, units), chosen.order, chosen.prune)
        print_orders(summaries, model, console)
        if chosen.out is not None:
            model.save(chosen.out)
            print(f"written: {chosen.out}", file=sys.stderr)
    if chosen.evaluate:
        characters = chosen.reading.characters
        results = {
            str(place): model.perplexity(
                sentence.split()
                for sentence in spelt(read_sentences([place], splits(chosen.evaluate_split), units), spell, characters)
            )
            for place in chosen.evaluate
        }
        print_perplexities(results, characters, console)
    return 0


def learnt(texts: Sequence[Path], reading: Reading, spell: Callable[[str], str] | None, units: Units) -> Iterator[str]:
    """The sentences to learn from; says how many were withheld."""
    sentences = read_sentences(texts, splits(reading.split), units)
    withheld = Withheld(reading.without)
    if reading.without:
        sentences = withheld.keep_from(sentences)
    yield from spelt(sentences, spell, reading.characters)
    if reading.without:
        print(f"{withheld.left_out:,} sentences left out that share text with the test data", file=sys.stderr)


def splits(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return None if "all" in names else names


def spelling(reading: Reading) -> tuple[Callable[[str], str] | None, Units]:
    """How sentences are normalised, and what corpora are asked for."""
    if reading.normalize_like is not None:
        alphabet = load_alphabet(reading.normalize_like)
        if alphabet.units == "phonemes":
            reading.characters = False  # phones are words of their own already
        return alphabet.normalize, alphabet.units
    if reading.as_is:
        return None, "characters"
    return lambda sentence: normalize_text(sentence, reading.normalization), "characters"
