"""What a frozen encoder hears, kept: the means of its layers over each utterance, in files that a killed run finds.

A probe that pools by a mean needs nothing else of an utterance (`Head.pooled`), so each is heard once, not every epoch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.adapters import fingerprint
from firstwords.corpus.parallel import map_in_order, track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CheckpointError, CorpusError
from firstwords.models.classifier import Classifier, layer_means
from firstwords.nn.precision import fast_bfloat16
from firstwords.training.data import Skipped, pad, read_waveform
from firstwords.training.processes import Processes

FOLDER = "features"
PART = 500
"""Utterances of one file."""


def layer_means_of(
    model: Classifier,
    utterances: Sequence[Utterance],
    folder: Path,
    processes: Processes,
    skipped: Skipped,
    batch_seconds: float,
    precision: str = "auto",
) -> dict[str, Tensor]:
    """(S, D) means of the layers of each utterance that can be read, by id.

    Args:
        model: whose encoder listens; moved to the device of `processes`.
        utterances: any number; each once.
        folder: gets a file for every PART utterances; whole ones of the same encoder and utterances are read back.
        processes: share the files among themselves.
        skipped: told of recordings that cannot be read.
        batch_seconds: most audio that the network sees at once.
        precision: as the training loop's.

    Raises:
        CheckpointError: the disk is full or the place cannot be written.
        CorpusError: no recording can be read.
    """
    model.to(processes.device).eval()
    ordered = sorted(utterances, key=lambda u: (u.duration or 0.0, u.id))
    parts = [ordered[first : first + PART] for first in range(0, len(ordered), PART)]
    encoder = fingerprint({f"encoder.{name}": value for name, value in model.encoder.state_dict().items()})
    paths = [folder / f"{number:05}.safetensors" for number in range(len(parts))]
    head = [model.config.head.layers, model.config.head.normalize]
    marks = [json.dumps([encoder, head, [(u.id, u.duration) for u in part]]) for part in parts]
    missing = [i for i, (path, mark) in enumerate(zip(paths, marks, strict=True)) if _read(path, mark) is None]
    own = missing[processes.rank :: processes.count]
    shown: Any = track(own, len(own), "listening") if processes.main and own else own
    for number in shown:
        _write(
            paths[number], marks[number], _listen(model, parts[number], processes, skipped, batch_seconds, precision)
        )
    processes.wait()
    means: dict[str, Tensor] = {}
    for path, mark, part in zip(paths, marks, parts, strict=True):
        found = _read(path, mark)
        if found is None:
            raise CheckpointError(f"{path}: was written and cannot be read; start the same command again")
        means |= found
        for utterance in part:
            if utterance.id not in found:
                skipped.add(utterance.id, f"utterance {utterance.id}: could not be read or is too short")
    if not means:
        raise CorpusError(f"no recording can be read: {skipped}")
    return means


@torch.no_grad()
def _listen(
    model: Classifier,
    utterances: Sequence[Utterance],
    processes: Processes,
    skipped: Skipped,
    batch_seconds: float,
    precision: str,
) -> dict[str, Tensor]:
    device = processes.device
    found: dict[str, Tensor] = {}
    batch: list[tuple[str, Tensor]] = []

    def autocast() -> AbstractContextManager[Any]:
        if precision == "bfloat16" or (precision == "auto" and fast_bfloat16(device)):
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def flush() -> None:
        if batch:
            waveforms, lengths = pad([waveform for _, waveform in batch])
            with autocast():
                states, frames = model.states(waveforms.to(device), lengths.to(device))
            rows = layer_means([state.float() for state in states], frames).cpu()
            found.update({name: row.clone() for (name, _), row in zip(batch, rows, strict=True)})
            batch.clear()

    def read(utterance: Utterance) -> tuple[Utterance, Tensor | AudioError]:
        try:
            return utterance, read_waveform(utterance, normalize=False)
        except AudioError as error:
            return utterance, error

    for utterance, waveform in map_in_order(read, utterances):
        if isinstance(waveform, AudioError):
            skipped.add(utterance.id, str(waveform))
            continue
        if model.encoder.frames(len(waveform)) < 1:
            skipped.add(utterance.id, f"utterance {utterance.id}: shorter than its manifest line says")
            continue
        longest = max([len(waveform), *(len(other) for _, other in batch)])
        if longest * (len(batch) + 1) > batch_seconds * SAMPLE_RATE:
            flush()
        batch.append((utterance.id, waveform))
    flush()
    return found


def _read(path: Path, mark: str) -> dict[str, Tensor] | None:
    """What a file holds; None where it is missing, cut short, or about something else."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("mark") != mark:
                return None
            names: list[str] = about["ids"]
            return dict(zip(names, file.get_tensor("means"), strict=True)) if names else {}
    except (OSError, SafetensorError):
        return None


def _write(path: Path, mark: str, found: dict[str, Tensor]) -> None:
    temporary = path.with_name(path.name + ".part")
    means = torch.stack(list(found.values())) if found else torch.zeros(0)
    about = json.dumps({"mark": mark, "ids": list(found)})  # one entry: safetensors writes several in any order
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"means": means}, temporary, metadata={"about": about})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written ({error}); free some space") from error
