"""firstwords pretrain CORPUS --recipe NAME --out RUN"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from firstwords.cli.options import option, parse, several
from firstwords.commands import pretrain
from firstwords.training.objectives import pretraining_recipe

Config = TypeVar("Config")


@dataclass
class Arguments(Generic[Config]):
    """Listen: learn speech representations from audio alone.

    Every field of the recipe can be set here too. The same command goes on with a run that was stopped or killed.
    Several machines: torchrun --nnodes M --nproc-per-node N ... -m firstwords pretrain ...
    """

    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests."""
    out: Path
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """A model to go on from, ours, Hugging Face's or fairseq's; its architecture replaces the recipe's."""
    recipe: str = "wav2vec2-base"
    """A recipe that comes with Firstwords (wav2vec2-tiny, -small, -base, ...; wav2vec-tiny, ...) or a YAML file."""


def run(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", "wav2vec2-base")
    config = pretraining_recipe(recipe)
    default: Any = Arguments(corpus=tyro.MISSING, out=tyro.MISSING, config=config, recipe=recipe)
    kind: Any = Arguments[type(config)]  # type: ignore[misc]
    chosen = parse(kind, arguments, "pretrain", default)
    return pretrain(chosen.corpus, chosen.out, chosen.config, chosen.source)
