"""`firstwords pretrain` with BERT over codes: from discrete units and the model that made them to a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firstwords.checkpoints.code_bert import CODES
from firstwords.checkpoints.models import coding_of
from firstwords.checkpoints.own import Checkpoint, read_checkpoint, write_checkpoint
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.coder import Coder
from firstwords.commands import run_task
from firstwords.corpus.manifest import MANIFEST_NAME
from firstwords.embedding import network_fingerprint
from firstwords.errors import ConfigError, CorpusError
from firstwords.training.code_bert import CodePrediction, CodePretrainConfig, check_codes
from firstwords.training.data import Skipped
from firstwords.training.launch import in_processes
from firstwords.training.objectives import CODE_BERT
from firstwords.training.processes import Processes
from firstwords.training.run import Run
from firstwords.units import SETTINGS, UnitsError, read_units, units_settings


def pretrain_on_codes(units: Sequence[Path], out: Path, config: CodePretrainConfig, codes_from: str | None) -> int:
    """Trains BERT over codes, or goes on with the run in `out`.

    Args:
        units: folders that `firstwords units --codes` wrote.
        out: folder of the run. It keeps a copy of the model that the codes come from, so that the run gives features
            of waveforms.
        config: what a recipe describes.
        codes_from: the model that the codes come from; None: the one that the run in `out` keeps.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_codes(config)
    return in_processes(config.training.processes, _pretrain_on_codes, units, out, config, codes_from)


def _pretrain_on_codes(units: Sequence[Path], out: Path, config: CodePretrainConfig, codes_from: str | None) -> int:
    """`pretrain_on_codes` in one of its processes."""
    processes = Processes(config.training.device)
    source, where = _source(out, codes_from)
    coder = Coder(coding_of(source, where))
    sequences = _read(units, network_fingerprint(coder), where)
    training, validation = hold_out(sequences, config.data.held_out)
    task = CodePrediction(config, training, validation, processes)
    facts = task.facts() | {"codes_of": network_fingerprint(coder)}
    run = Run(out, "pretrain", config, facts, processes.main, config.training.tensorboard, CODE_BERT)
    if processes.main and not (out / CODES).is_file():
        kept = {name: value for name, value in source.state.items() if name == "imported"}
        write_checkpoint(out / CODES, Checkpoint(source.kind, source.config, source.weights, state=kept))
    return run_task(task, config, run, facts, len(validation), Skipped(), processes)


def _source(out: Path, codes_from: str | None) -> tuple[Checkpoint, str]:
    """The model that the codes come from."""
    if codes_from is not None:
        return open_checkpoint(codes_from)
    if (out / CODES).is_file():
        return read_checkpoint(out / CODES), str(out / CODES)
    raise ConfigError(
        "BERT over codes gives features of waveforms with the model that made the codes: --codes-from RUN"
    )


def _read(units: Sequence[Path], fingerprint: str, where: str) -> list[tuple[str, np.ndarray]]:
    """(id, codes (T, G)) of all utterances of some folders, in order of the ids.

    Raises:
        CorpusError: an audio corpus, or nothing there.
        ConfigError: units of another model, or of k-means.
    """
    if not units:
        raise CorpusError("no units given: name folders that firstwords units --codes wrote")
    found: list[tuple[str, np.ndarray]] = []
    for folder in units:
        if not (folder / SETTINGS).is_file() and ((folder / MANIFEST_NAME).is_file() or folder.suffix == ".jsonl"):
            raise CorpusError(
                f"{folder}: a corpus of audio; BERT reads its codes: firstwords units {where} {folder} --codes"
            )
        settings = units_settings(folder)
        if "units" not in settings:
            raise ConfigError(f"{folder}: units of k-means over features; BERT reads codes (firstwords units --codes)")
        if settings["model"] != fingerprint:
            raise ConfigError(f"{folder}: its codes were not made by {where}, but by a model with other weights")
        found += [(name, sequence.frames) for name, sequence in sorted(read_units(folder).items())]
    if not found:
        raise UnitsError(f"{', '.join(map(str, units))}: no utterances")
    return found


def hold_out(sequences: Sequence[tuple[str, np.ndarray]], portion: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Codes to learn from and to validate on, chosen by a hash of the id: in a larger corpus the same ones."""
    ranked = sorted(sequences, key=lambda one: hashlib.sha256(one[0].encode("utf-8", "surrogatepass")).hexdigest())
    count = max(1, round(portion * len(ranked))) if portion > 0 and len(ranked) > 1 else 0
    held = {name for name, _ in ranked[:count]}
    return [codes for name, codes in sequences if name not in held], [
        codes for name, codes in sequences if name in held
    ]
