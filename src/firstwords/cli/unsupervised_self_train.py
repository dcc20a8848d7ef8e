"""firstwords unsupervised self-train RUN CORPUS --out FOLDER"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.cli.options import option, parse, several
from firstwords.recipes import load_recipe
from firstwords.report.preparation import print_stages
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.unsupervised.decode import PhoneModel
from firstwords.unsupervised.report import Places, leave_report
from firstwords.unsupervised.self_training import SelfTrainConfig, self_train

DEFAULT_RECIPE = "ctc-small"


@dataclass
class Arguments:
    """HMMs learn from the phones of a sweep's chosen member, and the encoder, with CTC, from the words of the HMMs.

    No step sees a label; each is judged without. The recogniser is in the folder's ctc/. Its recipe's fields are set as
    --recognizer.steps and so on. The same command goes on where it was stopped.
    """

    model: tyro.conf.Positional[Path]
    """A run of `firstwords unsupervised train`."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """The corpora that were prepared."""
    out: Path
    """A folder for labels, HMMs and the recogniser."""
    recognizer: FinetuneConfig
    config: Annotated[SelfTrainConfig, tyro.conf.arg(name="")] = field(default_factory=SelfTrainConfig)
    recipe: str = DEFAULT_RECIPE
    """How the encoder is fine-tuned: a recipe that comes with Firstwords (ctc-small, ...) or a YAML file."""
    prepared: Path | None = None
    """The prepared folder, where it is no longer where training found it."""
    device: str = "auto"
    """"auto", "cpu" or "cuda", for decoding; training has --recognizer.training.device."""


def run(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", DEFAULT_RECIPE)
    recognizer = load_recipe(recipe, "finetune", FinetuneConfig)
    default = Arguments(tyro.MISSING, tyro.MISSING, tyro.MISSING, recognizer, SelfTrainConfig(), recipe)
    chosen = parse(Arguments, arguments, "unsupervised self-train", default)
    ctc = chosen.recognizer
    if chosen.config.ctc == "phones":
        ctc = replace(ctc, text=replace(ctc.text, units="phonemes"))
    data = replace(ctc.data, train=("train",), valid=("valid",))
    stages, code = self_train(
        chosen.model, chosen.corpus, chosen.out, chosen.config, replace(ctc, data=data), chosen.prepared, chosen.device
    )
    print_stages(stages, Console(highlight=False, soft_wrap=True))
    prepared = chosen.prepared or PhoneModel(chosen.model, device="cpu").prepared.folder
    leave_report(chosen.out, Places(prepared, chosen.model, chosen.out))
    return code
