"""`firstwords unsupervised train` as a function: from a prepared folder to a sweep's run."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any

from rich.console import Console

from firstwords.corpus.prepared import SILENCE, Prepared, read_prepared
from firstwords.errors import CheckpointError, ConfigError, CorpusError, FirstwordsError
from firstwords.models.wav2vec_u import SPECIALS, Wav2VecU, Wav2VecUConfig
from firstwords.report.sweep import plot_sweep
from firstwords.training.adversarial import Sweep
from firstwords.training.adversarial_config import AdversarialConfig, check_adversarial
from firstwords.training.matching import matched_start
from firstwords.training.phone_choice import PhoneJudge
from firstwords.training.processes import Processes
from firstwords.training.run import Run
from firstwords.training.sweep import SweepTraining
from firstwords.training.unpaired import FEW_SENTENCES, FEW_UTTERANCES, SHORTEST, Speech, Text, UnpairedBatches

MOST_UNITS = 4096
"""MFCC clusters above which a file of them is broken."""


def train_unsupervised(folder: Path, out: Path, config: AdversarialConfig) -> int:
    """Trains all members of a sweep on a prepared folder, or goes on with the run in `out`.

    Args:
        folder: what `firstwords unsupervised prepare` wrote.
        out: folder of the run.
        config: what a recipe describes.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the sweep from starting or going on.
    """
    check_adversarial(config)
    prepared = read_prepared(folder)
    shape = shape_of(prepared, config)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    units = prepared.train_units if shape.auxiliary else None
    speech = Speech(prepared.train.values, prepared.train.lengths, units)
    valid = Speech(prepared.valid.values, prepared.valid.lengths, ids=prepared.valid.ids)
    if not len(valid):
        raise CorpusError(f"{folder}: no valid utterance of {SHORTEST} segments or more to judge by; prepare again")
    if units is not None and not 0 <= int(units.min()) <= int(units.max()) < min(shape.auxiliary, MOST_UNITS):
        raise CorpusError(
            f"{folder}: MFCC units from {units.min()} to {units.max()}, but {shape.auxiliary} clusters; prepare again"
        )
    text = Text(prepared.sentences(), prepared.phones)
    facts = facts_of(prepared, text)
    run = Run(out, "unsupervised", config, facts)
    if run.status.get("state") == "finished":
        console.print(f"{out}: finished already after {run.status.get('update')} updates; {run.status.get('verdict')}")
        return 0
    for note in notes(speech, valid, text, config):
        console.print(note, style="yellow")
    judge = PhoneJudge(prepared.sentences(), prepared.phones, SILENCE)
    device = Processes(config.device).device
    speech.keep_on(device)
    batches = UnpairedBatches(speech, text, config.batch)

    def begin(seed: int, model: Wav2VecU) -> None:
        found = matched_start(model, speech, text, config.matching, seed, device)
        console.print(
            f"seed {seed}: clusters deciphered, {found.distance:.2f} from the statistics of text, at {found.stretch:g} "
            "segments a phone"
        )

    sweep = Sweep(config, shape, device, begin if config.matching.restarts and run.last() is None else None)
    known = {
        "phones": list(prepared.phones),
        "silence": SILENCE,
        "prepared": {"kind": prepared.kind, "place": str(folder.resolve()), **facts},
    }
    training = SweepTraining(config, sweep, batches, valid, judge, run, prepared.valid_phones, known)
    parameters = sum(value.numel() for value in sweep.model.parameters()) // max(1, len(sweep.running))
    console.print(
        f"{out}: {len(sweep.members)} members of {parameters:,} parameters; {len(speech):,} utterances "
        f"({int(speech.lengths.sum()):,} segments), {len(text):,} sentences, {len(valid):,} utterances to judge by, "
        f"on {device}"
    )
    try:
        outcome = training.train()
    except FirstwordsError:
        with contextlib.suppress(CheckpointError):
            run.mark(state="failed")
        raise
    finally:
        leave_plot(out)
    if outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    console.print(f"chosen: {outcome.chosen}", style="bold")
    if outcome.verdict is not None:
        console.print(outcome.verdict.text, style="bold green" if outcome.verdict.converged else "bold yellow")
    return 0


def shape_of(prepared: Prepared, config: AdversarialConfig) -> Wav2VecUConfig:
    """The networks' shape, which data and recipe decide together. Raises ConfigError where they do not fit."""
    check_kind(config, prepared.kind, str(prepared.folder))
    if any(config.grid.auxiliary) and not config.generator.residual:
        raise ConfigError("grid: auxiliary is above 0, which needs generator.residual (wav2vec-U 2.0)")
    auxiliary = prepared.mfcc_clusters if any(config.grid.auxiliary) else 0
    return Wav2VecUConfig(
        prepared.train.dim,
        len(SPECIALS) + len(prepared.phones),
        config.generator,
        config.discriminator,
        config.segmentation,
        auxiliary,
    )


def check_kind(config: AdversarialConfig, kind: str, where: str) -> None:
    """Raises ConfigError where a recipe is for the other version of the method than the data."""
    asked = "2.0" if config.generator.batch_norm or config.generator.stride > 1 else "1.0"
    if asked != kind:
        other = "wav2vec-u2" if kind == "2.0" else "wav2vec-u"
        raise ConfigError(
            f"{where}: prepared for wav2vec-U {kind}, the recipe is for {asked}; add --recipe {other}, or prepare with "
            f"--kind {asked}"
        )


def facts_of(prepared: Prepared, text: Text) -> dict[str, Any]:
    """What a continued run must find again."""
    digest = hashlib.sha256(text.ids.tobytes() + prepared.train.lengths.tobytes())
    digest.update(" ".join((*prepared.phones, *prepared.train.ids, *prepared.valid.ids)).encode("utf-8", "replace"))
    return {
        "utterances": len(prepared.train),
        "sentences": len(text),
        "phones": len(prepared.phones),
        "hash": digest.hexdigest()[:16],
    }


def notes(speech: Speech, valid: Speech, text: Text, config: AdversarialConfig) -> list[str]:
    """What a user should expect of these data."""
    said = []
    if speech.short + valid.short:
        said.append(
            f"{speech.short + valid.short:,} utterances shorter than {SHORTEST} segments are left out: too little to "
            "join phones in"
        )
    if len(speech) < FEW_UTTERANCES:
        said.append(
            f"only {len(speech):,} utterances: with fewer than some hundred, expect no member to converge, or a few of "
            "many seeds; published runs have 3,700 (TIMIT) and more. Longer, or more, recordings help most"
        )
    if len(speech) < config.batch:
        said.append(
            f"batches have {len(speech)} utterances, not {config.batch}: all there are; small batches often fail"
        )
    if len(text) < FEW_SENTENCES:
        said.append(
            f"only {len(text):,} sentences of text: the discriminator will know them by heart; any text of the "
            "language will do, it need not be of the same subject"
        )
    return said


def leave_plot(folder: Path) -> None:
    """The curves of all members; whatever goes wrong with a picture costs nothing else."""
    with contextlib.suppress(Exception):
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        plot_sweep(folder)
