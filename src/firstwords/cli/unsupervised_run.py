"""firstwords unsupervised run --audio CORPUS --text TEXT --encoder MODEL --layer N --out FOLDER"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from firstwords.cli import unsupervised_prepare
from firstwords.cli.options import option, parse
from firstwords.cli.unsupervised_self_train import DEFAULT_RECIPE as RECOGNIZER_RECIPE
from firstwords.encoder import choose_device
from firstwords.recipes import load_recipe
from firstwords.training.adversarial_config import AdversarialConfig
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.unsupervised.decode import ReadingConfig
from firstwords.unsupervised.prepare import PrepareConfig
from firstwords.unsupervised.self_training import SelfTrainConfig
from firstwords.unsupervised.whole import WholeConfig, run_unsupervised


@dataclass(kw_only=True)
class Arguments(unsupervised_prepare.Arguments):
    """Recognition with no transcripts, from recordings to a recogniser: prepare, train, decode, self-train, a report.

    Settings of the first step are those of `firstwords unsupervised prepare`; those of the others are --gan.FIELD,
    --decode.FIELD, --self-train.FIELD and --recognizer.FIELD. Steps that are done are skipped: the same command goes on
    where it was stopped. A sweep that says that it did not converge ends it, with a report.
    """

    out: Path
    """The folder: prepared/, gan/, decoded.jsonl, words/ (the recogniser is in words/ctc), report.html."""
    recipe: str
    """Of the adversarial training: wav2vec-u, wav2vec-u-small, wav2vec-u-deciphered, wav2vec-u2 or a YAML file. Unless
    it is named: the first with a GPU, the second without, the last for --kind 2.0."""
    gan: Annotated[AdversarialConfig, tyro.conf.FlagConversionOff]
    """The adversarial training, as --gan.steps and so on."""
    decode: ReadingConfig = field(default_factory=ReadingConfig)
    """How the chosen member's output is read into decoded.jsonl."""
    self_train: SelfTrainConfig = field(default_factory=SelfTrainConfig)
    """HMMs and what the recogniser learns from."""
    recognizer_recipe: str = RECOGNIZER_RECIPE
    """How the encoder is fine-tuned: a recipe that comes with Firstwords or a YAML file."""
    recognizer: Annotated[FinetuneConfig, tyro.conf.FlagConversionOff]
    """Fields of that recipe, as --recognizer.steps and so on."""
    anyway: bool = False
    """Decode and self-train even where the sweep says that it did not converge."""


def run(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", "") or _recipe(arguments)
    tuning = option(arguments, "recognizer-recipe", RECOGNIZER_RECIPE)
    missing = tyro.MISSING
    default = Arguments(
        audio=missing, text=missing, encoder=missing, layer=missing, out=missing, recipe=recipe,
        gan=load_recipe(recipe, "unsupervised", AdversarialConfig), recognizer_recipe=tuning,
        recognizer=load_recipe(tuning, "finetune", FinetuneConfig),
    )  # fmt: skip
    chosen = parse(Arguments, arguments, "unsupervised run", default, flags=True)
    prepare = PrepareConfig(
        chosen.encoder, chosen.layer, chosen.kind, chosen.text_config, chosen.audio_config, chosen.train, chosen.valid,
        chosen.held_out, chosen.keep_raw, chosen.device,
    )  # fmt: skip
    ctc = chosen.recognizer
    if chosen.self_train.ctc == "phones":
        ctc = replace(ctc, text=replace(ctc.text, units="phonemes"))
    ctc = replace(ctc, data=replace(ctc.data, train=("train",), valid=("valid",)))
    config = WholeConfig(prepare, chosen.gan, ctc, chosen.decode, chosen.self_train, chosen.anyway, chosen.device)
    outcome = run_unsupervised(chosen.audio, chosen.text, chosen.out, config)
    if outcome.verdict:
        print(outcome.verdict)
    if outcome.report is not None:
        print(f"report: {outcome.report}", file=sys.stderr)
    return outcome.code


def _recipe(arguments: list[str]) -> str:
    """The adversarial recipe where none is named."""
    if option(arguments, "kind", "1.0") == "2.0":
        return "wav2vec-u2"
    device = option(arguments, "gan.device", option(arguments, "device", "auto"))
    return "wav2vec-u-small" if choose_device(device) == "cpu" else "wav2vec-u"
