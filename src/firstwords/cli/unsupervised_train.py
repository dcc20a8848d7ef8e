"""firstwords unsupervised train PREPARED --out RUN"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from firstwords.cli.options import option, parse
from firstwords.recipes import load_recipe
from firstwords.training.adversarial_config import AdversarialConfig
from firstwords.unsupervised.report import Places, leave_report
from firstwords.unsupervised.train import train_unsupervised

DEFAULT_RECIPE = "wav2vec-u"


@dataclass
class Arguments:
    """The adversarial training of wav2vec-U: the whole grid of penalties and seeds at once, judged without labels.

    Every field of the recipe can be set here too. The same command goes on with a run that was stopped or killed.
    """

    prepared: tyro.conf.Positional[Path]
    """What `firstwords unsupervised prepare` wrote."""
    out: Path
    """Folder of the run."""
    config: Annotated[AdversarialConfig, tyro.conf.arg(name="")]
    recipe: str = DEFAULT_RECIPE
    """A recipe that comes with Firstwords (wav2vec-u, wav2vec-u-small, wav2vec-u-deciphered, wav2vec-u2) or a YAML
    file."""


def run(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", DEFAULT_RECIPE)
    config = load_recipe(recipe, "unsupervised", AdversarialConfig)
    default = Arguments(tyro.MISSING, tyro.MISSING, config, recipe)
    chosen = parse(Arguments, arguments, "unsupervised train", default)
    code = train_unsupervised(chosen.prepared, chosen.out, chosen.config)
    leave_report(chosen.out, Places(chosen.prepared, chosen.out))
    return code
