"""`firstwords pretrain` and `finetune` as functions: from corpora and a configuration to a finished run."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from firstwords.checkpoints.models import load_any_encoder, load_encoder_weights
from firstwords.coder import Coder
from firstwords.corpus.languages import language_notes
from firstwords.errors import CheckpointError, FirstwordsError
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2
from firstwords.recipes import WAV2VEC2, load_recipe, recipe_names
from firstwords.report.curves import leave_curves
from firstwords.report.languages import leave_languages
from firstwords.text.alphabet import transcript_of
from firstwords.training.acoustic import AcousticTraining
from firstwords.training.acoustic_config import AcousticRecipe, check_recipe
from firstwords.training.audio_only import AudioOnlyConfig
from firstwords.training.config import check_training
from firstwords.training.data import Skipped, choose_splits, fingerprint, read_corpora, with_durations
from firstwords.training.finetune import Finetuning
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.launch import in_processes
from firstwords.training.loop import train
from firstwords.training.objectives import OBJECTIVES, named_objective, objective_of
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.processes import Processes
from firstwords.training.run import SKIPPED, Run
from firstwords.training.task import Task


def pretrain(corpora: Sequence[Path], out: Path, config: AudioOnlyConfig, source: str | None = None) -> int:
    """Pre-trains on audio alone, or goes on with the run in `out`.

    Args:
        corpora: corpus folders or manifests.
        out: folder of the run.
        config: what a recipe describes.
        source: a model to go on from, ours or others'; its architecture replaces the recipe's. None starts anew.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_training(config.training, config.steps, config.seed)
    return in_processes(config.training.processes, _pretrain, corpora, out, config, source)


def _pretrain(corpora: Sequence[Path], out: Path, config: AudioOnlyConfig, source: str | None) -> int:
    """`pretrain` in one of its processes."""
    processes = Processes(config.training.device)
    objective = OBJECTIVES[objective_of(config)]
    weights = None
    if source is not None:
        start = objective.start(source, config.model)
        config, weights = replace(config, model=start.model), start.weights
        _say(start.notes, processes)
    skipped = Skipped()
    utterances = with_durations(read_corpora(corpora), skipped)
    data = config.data
    balanced = data.language_alpha is not None
    training, validation = choose_splits(utterances, data.train, data.valid, data.held_out, balanced)
    _say(language_notes(training), processes)
    task = objective.task(config, training, validation, processes, skipped, weights)
    facts = fingerprint(task.training) | ({} if source is None else {"source": source})
    run = Run(out, "pretrain", config, facts, processes.main, config.training.tensorboard, named_objective(config))
    unfinished = run.status.get("state") != "finished"
    code = run_task(task, config, run, facts, len(task.validation), skipped, processes)
    if code == 0 and unfinished and processes.main and task.languages:
        model, seconds = task.model.eval(), data.valid_seconds / len(task.languages)
        codes = Coder(model) if isinstance(model, Wav2Vec2) and model.config.quantize_targets else None
        leave_languages(out, task.training, task.validation, data.language_alpha, codes, _console(processes), seconds)
    return code


def finetune(corpora: Sequence[Path], source: str, out: Path, config: FinetuneConfig) -> int:
    """Fine-tunes a pre-trained model on transcribed audio, or goes on with the run in `out`.

    Args:
        corpora: corpus folders or manifests.
        source: a run (folder or checkpoint), or the name of a pre-training recipe: its architecture, random weights.
        out: folder of the run.
        config: what a recipe describes.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_training(config.training, config.steps, config.seed)
    return in_processes(config.training.processes, _finetune, corpora, source, out, config)


def _finetune(corpora: Sequence[Path], source: str, out: Path, config: FinetuneConfig) -> int:
    """`finetune` in one of its processes."""
    processes = Processes(config.training.device)
    encoder, weights, notes = _starting_point(source, config)
    _say(notes, processes)
    skipped = Skipped()
    utterances = with_durations(read_corpora(corpora), skipped)
    data = config.data
    transcribed = [u for u in utterances if transcript_of(u, config.text.units)] or utterances
    training, validation = choose_splits(transcribed, data.train, data.valid, data.held_out)
    task = Finetuning(config, encoder, weights, training, validation, processes, skipped, source)
    facts = fingerprint(task.training)
    tensorboard = config.training.tensorboard
    run = Run(out, "finetune", config, facts | {"source": source}, processes.main, tensorboard)
    if processes.main:
        task.alphabet.save(out / "alphabet.json")
    return run_task(task, config, run, facts, len(task.validation), skipped, processes)


LOG_MEL = "log-mel"
"""In place of an encoder: 80 log-mel bands."""


def train_acoustic(corpora: Sequence[Path], source: str, out: Path, config: AcousticRecipe) -> int:
    """Trains an acoustic model on an encoder's features, or goes on with the run in `out`.

    Args:
        corpora: corpus folders or manifests.
        source: a model of ours or others that has an encoder, which stays as it is; or "log-mel" for 80 bands.
        out: folder of the run.
        config: what a recipe describes.

    Returns:
        0 when all updates are done or nothing gets better, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_recipe(config)
    return in_processes(config.training.processes, _train_acoustic, corpora, source, out, config)


def _train_acoustic(corpora: Sequence[Path], source: str, out: Path, config: AcousticRecipe) -> int:
    """`train_acoustic` in one of its processes."""
    processes = Processes(config.training.device)
    encoder: nn.Module | None = None
    if source != LOG_MEL:
        encoder, checkpoint = load_any_encoder(source)
        _say([f"{source}: {note}" for note in checkpoint.state.get("notes", ())], processes)
    skipped = Skipped()
    utterances = with_durations(read_corpora(corpora), skipped)
    data = config.data
    transcribed = [u for u in utterances if transcript_of(u, config.text.units)] or utterances
    training, validation = choose_splits(transcribed, data.train, data.valid, data.held_out)
    task = AcousticTraining(config, encoder, training, validation, processes, skipped, source)
    facts = fingerprint(task.training)
    run = Run(out, "acoustic", config, facts | {"source": source}, processes.main, config.training.tensorboard)
    if processes.main:
        task.alphabet.save(out / "alphabet.json")
    return run_task(task, config, run, facts, len(task.validation), skipped, processes)


def _starting_point(source: str, config: FinetuneConfig) -> tuple[EncoderConfig, dict[str, Tensor] | None, list[str]]:
    """The encoder's configuration, its weights unless they shall be random, and what the user should know."""
    if not Path(source).exists():
        if source in (recipes := recipe_names("pretrain", WAV2VEC2)):
            return load_recipe(source, "pretrain", PretrainConfig).model.encoder, None, []
        if near := difflib.get_close_matches(source, recipes, n=1):
            raise CheckpointError(f"{source}: no run here, and no recipe; did you mean {near[0]!r}?")
    encoder, checkpoint = load_encoder_weights(source)
    notes = [f"{source}: {note}" for note in checkpoint.state.get("notes", ())]
    weights = dict(encoder.state_dict()) if config.weights == "pretrained" else None
    if "imported" in checkpoint.state and weights is not None and config.adapt.fresh_blocks:
        notes.append(
            f"{source}: the recipe starts its top {config.adapt.fresh_blocks} blocks anew, which is for models that "
            "listened little; for others: --adapt.fresh-blocks 0 --adapt.gradient-scale 0"
        )
    return encoder.config, weights, notes


def _say(notes: Sequence[str], processes: Processes) -> None:
    """Once, however many processes there are."""
    for note in notes:
        _console(processes).print(note)


def _console(processes: Processes) -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True, quiet=not processes.main)


def run_task(
    task: Task[Any],
    config: Any,
    run: Run,
    facts: dict[str, Any],
    validating: int,
    skipped: Skipped,
    processes: Processes,
) -> int:
    """Says what will be trained on what, trains, and says how it ended."""
    console = _console(processes)
    if run.status.get("state") == "finished":
        console.print(f"{run.folder}: finished already after {run.status.get('update')} updates")
        return 0
    if processes.main:
        skipped.write_to(run.folder / SKIPPED)
    if skipped:
        console.print(str(skipped))
    parameters = sum(value.numel() for value in task.model.parameters())
    if "sentences" in facts:
        amount = f"{facts['sentences']:,} sentences ({facts['symbols']:,} symbols)"
    elif "blocks" in facts:
        amount = f"{facts['blocks']:,} blocks ({facts['codes']:,} codes, {facts['combinations']:,} combinations)"
    else:
        amount = f"{facts['utterances']} utterances ({facts['hours']:.2f} h)"
    console.print(
        f"{run.folder}: {parameters:,} parameters, {amount} to learn from, {validating} to validate on; "
        f"{processes.count} process{'es' * (processes.count > 1)} on {processes.device}"
    )
    before = len(skipped)
    try:
        outcome = train(task, config.training, config.steps, config.seed, run, processes)
    except FirstwordsError:
        with contextlib.suppress(CheckpointError):  # the disk may be full: the first error is the one to tell
            run.mark(state="failed")
        raise
    finally:
        if len(skipped) > before:
            console.print(str(skipped))
        processes.close()
        if processes.main:
            leave_curves(run.folder)
    if outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    read = outcome.progress.audio_seconds
    amount = (
        f"{read:,.0f} symbols read" if {"sentences", "blocks"} & set(facts) else f"{read / 3600:.2f} h of audio heard"
    )
    console.print(f"finished: {run.folder} ({amount})")
    return 0
