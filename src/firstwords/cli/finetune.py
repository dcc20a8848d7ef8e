"""firstwords finetune CORPUS --from RUN --out RUN2"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from firstwords.cli.options import option, parse, several
from firstwords.commands import finetune, train_acoustic
from firstwords.recipes import load_recipe, recipe_kind
from firstwords.training.acoustic_config import AcousticRecipe
from firstwords.training.finetune_config import FinetuneConfig

DEFAULT_RECIPE = "ctc-small"


@dataclass
class Arguments:
    """First words: learn to transcribe from few transcripts, with CTC.

    Every field of the recipe can be set here too. The same command goes on with a run that was stopped or killed.
    Recipes asg-timit, asg-wsj and asg-small leave the model as it is and train an acoustic model on its features, which
    has other fields: firstwords finetune --recipe asg-small --help
    """

    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests with transcripts."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """A run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt; or a recipe, for random weights."""
    out: Path
    """Folder of the run."""
    config: Annotated[FinetuneConfig, tyro.conf.arg(name="")]
    recipe: str = DEFAULT_RECIPE
    """A recipe that comes with Firstwords (ctc-small, ctc-base-10m, ctc-vox-100h, ...) or a YAML file."""


@dataclass
class AcousticArguments:
    """First words on features that stay as they are: an acoustic model of convolutions, with ASG or CTC.

    Every field of the recipe can be set here too. The same command goes on with a run that was stopped or killed.
    """

    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests with transcripts."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """Whose features: a run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt; or log-mel, for 80 log-mel
    bands."""
    out: Path
    """Folder of the run."""
    config: Annotated[AcousticRecipe, tyro.conf.arg(name="")]
    recipe: str = "asg-small"
    """A recipe that comes with Firstwords (asg-small, asg-timit, asg-wsj) or a YAML file."""


def run(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", DEFAULT_RECIPE)
    if recipe_kind(recipe) == "acoustic":
        acoustic = load_recipe(recipe, "acoustic", AcousticRecipe)
        wanted = AcousticArguments(tyro.MISSING, tyro.MISSING, tyro.MISSING, acoustic, recipe)
        given = parse(AcousticArguments, arguments, "finetune", wanted)
        return train_acoustic(given.corpus, given.source, given.out, given.config)
    config = load_recipe(recipe, "finetune", FinetuneConfig)
    default = Arguments(tyro.MISSING, tyro.MISSING, tyro.MISSING, config, recipe)
    chosen = parse(Arguments, arguments, "finetune", default)
    return finetune(chosen.corpus, chosen.source, chosen.out, chosen.config)
