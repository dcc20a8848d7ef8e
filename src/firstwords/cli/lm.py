"""firstwords lm TEXT... --order 4 --out lm.arpa"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.checkpoints.models import load_alphabet
from firstwords.cli.options import option, parse, several
from firstwords.decoding.arpa import check_place
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.transformer import TransformerScorer
from firstwords.errors import LanguageModelError
from firstwords.language import Reading, evaluate, learnt, train_transformer, unspeakable
from firstwords.recipes import load_recipe
from firstwords.report.language import print_orders, print_perplexities
from firstwords.training.language import LanguageConfig

DEFAULT_RECIPE = "characters-small"


@dataclass
class Arguments:
    """A language model of texts: n-grams with interpolated modified Kneser-Ney smoothing, as an ARPA file.

    Texts have a sentence a line. With --transformer a small neural model is trained instead; its settings:
    firstwords lm --transformer --help. To evaluate a model that is there: --model lm.arpa --evaluate held-out.txt
    """

    text: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("TEXT")] = ()
    """Text files (.gz too), corpus folders or manifests (their transcripts)."""
    out: Path | None = None
    """ARPA file to write, compressed where it ends in .gz."""
    order: int = 4
    """Words (or characters) of the longest n-grams. Source: wav2vec 2.0 section 4.4."""
    prune: tuple[int, ...] = ()
    """For each order, leave out n-grams that occur so often or less: --prune 0 0 1 (the last holds for the rest)."""
    characters: bool = False
    """Foresee characters instead of words, with | between words."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)
    evaluate: tuple[Path, ...] = ()
    """Texts or corpora to print perplexity and out-of-vocabulary rate on."""
    evaluate_split: tuple[str, ...] = ("dev",)
    """Transcripts of corpora to evaluate on: these splits, and those in none; "all" takes every one."""
    model: Path | None = None
    """Evaluate this ARPA file, or run of --transformer, instead of making one."""
    device: str = "cpu"
    """Where a Transformer is evaluated."""


@dataclass
class TransformerArguments:
    """A small Transformer language model over characters or word pieces, for rescoring and shallow fusion.

    Texts have a sentence a line. Every field of the recipe can be set here too. The same command goes on with a run
    that was stopped or killed.
    """

    text: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("TEXT")]
    """Text files (.gz too), corpus folders or manifests (their transcripts)."""
    out: Path
    """Folder of the run."""
    config: Annotated[LanguageConfig, tyro.conf.arg(name="")]
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)
    recipe: str = DEFAULT_RECIPE
    """A recipe that comes with Firstwords (characters-small) or a YAML file."""


def run(arguments: list[str]) -> int:
    if "--transformer" in arguments:
        return _transformer([word for word in arguments if word != "--transformer"])
    chosen = parse(Arguments, arguments, "lm", flags=True)
    console = Console(highlight=False)
    if (chosen.model is None) != bool(chosen.text):
        raise LanguageModelError("name texts to learn from, or a --model to --evaluate: one of the two")
    if chosen.model is None:
        _evaluate(_estimate(chosen, console), chosen, console)
    elif not chosen.evaluate:
        raise LanguageModelError("--model is only read: say with --evaluate TEXT what to evaluate it on")
    elif chosen.model.is_dir() or chosen.model.suffix == ".safetensors":
        _evaluate(TransformerScorer.load(chosen.model, chosen.device), chosen, console)
    else:
        _evaluate(NgramModel.load(chosen.model), chosen, console)
    return 0


def _estimate(chosen: Arguments, console: Console) -> NgramModel:
    if chosen.out is None and not chosen.evaluate:
        raise LanguageModelError("say where to write the model: --out lm.arpa")
    if chosen.out is not None:
        check_place(chosen.out)
    spelling = chosen.reading.spelling()
    sentences = learnt(chosen.text, chosen.reading, spelling, chosen.characters)
    model, summaries = estimate(sentences, chosen.order, chosen.prune)
    print_orders(summaries, model, console)
    if chosen.reading.normalize_like is not None and (
        lost := unspeakable(model, load_alphabet(chosen.reading.normalize_like))
    ):
        print(f"{len(lost):,} words the alphabet cannot spell, such as {', '.join(lost[:5])}", file=sys.stderr)
    if chosen.out is not None:
        model.save(chosen.out)
        print(f"written: {chosen.out}", file=sys.stderr)
    return model


def _evaluate(model: NgramModel | TransformerScorer, chosen: Arguments, console: Console) -> None:
    if not chosen.evaluate:
        return
    spelling = model.spelling if isinstance(model, TransformerScorer) else chosen.reading.spelling()
    results = {
        str(place): evaluate(model, place, chosen.evaluate_split, spelling, chosen.characters)
        for place in chosen.evaluate
    }
    if isinstance(model, TransformerScorer):
        unit = model.unit
    else:
        unit = "phonemes" if spelling.units == "phonemes" else "characters" if chosen.characters else "words"
    print_perplexities(results, unit, console)


def _transformer(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", DEFAULT_RECIPE)
    config = load_recipe(recipe, "language", LanguageConfig)
    default = TransformerArguments(tyro.MISSING, tyro.MISSING, config, recipe=recipe)
    chosen = parse(TransformerArguments, arguments, "lm --transformer", default)
    return train_transformer(chosen.text, chosen.reading, chosen.out, chosen.config)
