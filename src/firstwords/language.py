"""What `firstwords lm` does, as functions: from texts to a language model, and from a model to its perplexity."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from firstwords.checkpoints.models import load_alphabet
from firstwords.commands import run_task
from firstwords.decoding.ngram import END, START, UNKNOWN, NgramModel, Perplexity
from firstwords.decoding.transformer import TransformerScorer
from firstwords.text.alphabet import BOUNDARY, Alphabet
from firstwords.text.normalization import NormalizationConfig
from firstwords.text.sentences import Spelling, Withheld, as_characters, read_sentences
from firstwords.training.data import Skipped
from firstwords.training.language import LanguageConfig, LanguageModelling, check_language
from firstwords.training.launch import in_processes
from firstwords.training.processes import Processes
from firstwords.training.run import Run


@dataclass(frozen=True)
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

    def spelling(self) -> Spelling:
        """Raises CheckpointError where the run to spell like has no alphabet."""
        if self.normalize_like is not None:
            return Spelling.like(load_alphabet(self.normalize_like))
        return Spelling(normalization=None if self.as_is else self.normalization)


def learnt(texts: Sequence[Path], reading: Reading, spelling: Spelling, characters: bool = False) -> Iterator[str]:
    """The sentences to learn from; says how many were withheld.

    Args:
        texts: text files, corpus folders or manifests.
        characters: characters, not words, are what a model foresees: they are separated by spaces.
    """
    sentences = read_sentences(texts, _splits(reading.split), spelling.units)
    withheld = Withheld(reading.without)
    sentences = spelling(withheld.keep_from(sentences) if reading.without else sentences)
    yield from map(as_characters, sentences) if characters and spelling.units == "characters" else sentences
    if reading.without:
        print(f"{withheld.left_out:,} sentences left out that share text with the test data", file=sys.stderr)


def evaluate(
    model: NgramModel | TransformerScorer,
    text: Path,
    split: Sequence[str],
    spelling: Spelling,
    characters: bool = False,
) -> Perplexity:
    """Perplexity and out-of-vocabulary rate of a model on a text, or on the transcripts of a corpus.

    Raises:
        LanguageModelError: no sentence in the text.
    """
    sentences = spelling(read_sentences([text], _splits(split), spelling.units))
    if isinstance(model, TransformerScorer):
        return model.perplexity(sentences)
    if not (characters or spelling.units == "phonemes"):
        return model.perplexity(sentence.split() for sentence in sentences)
    spelt = sentences if spelling.units == "phonemes" else map(as_characters, sentences)
    found = model.perplexity(sentence.split() for sentence in spelt)
    return replace(found, characters=found.words + found.sentences)


def train_transformer(texts: Sequence[Path], reading: Reading, out: Path, config: LanguageConfig) -> int:
    """Trains a Transformer language model, or goes on with the run in `out`.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_language(config)
    return in_processes(config.training.processes, _train_transformer, texts, reading, out, config)


def _train_transformer(texts: Sequence[Path], reading: Reading, out: Path, config: LanguageConfig) -> int:
    """`train_transformer` in one of its processes."""
    processes = Processes(config.training.device)
    spelling = reading.spelling()
    task = LanguageModelling(config, learnt(texts, reading, spelling), spelling, processes)
    facts = task.facts()
    run = Run(out, "language", config, facts, processes.main, config.training.tensorboard)
    return run_task(task, config, run, facts, len(task.validation), Skipped(), processes)


def _splits(names: Sequence[str]) -> Sequence[str] | None:
    return None if "all" in names else names


def unspeakable(model: NgramModel, alphabet: Alphabet) -> list[str]:
    """Words of a model that an alphabet has no symbols for: no search can find them."""
    marks = {START, END, UNKNOWN, BOUNDARY}
    return [word for word in model.words if word not in marks and alphabet.missing([word])]
