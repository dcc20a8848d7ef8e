"""Discrete units of a corpus: k-means over any layer, or the codes of a model's own quantiser; resumable."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from firstwords.codebook import Codebook, learn_codebook
from firstwords.corpus.parallel import AudioProgress
from firstwords.corpus.utterance import Utterance
from firstwords.embedding import layers_settings, network_fingerprint
from firstwords.errors import AudioError, CorpusError, FirstwordsError
from firstwords.feature_files import Embeddings
from firstwords.features import LayerFeatures, OwnCodes, hear
from firstwords.nn.kmeans import Backend, assign
from firstwords.recording import total_seconds
from firstwords.training.data import fingerprint
from firstwords.windows import WindowConfig

UnitFormat = Literal["jsonl", "text"]

SETTINGS = "units.json"
RUNS = "runs.jsonl"
"""What is known of each utterance, from which the file of units is made: id, seconds, units and frames of each run."""
FEATURES = "features"
CODEBOOK = "codebook.safetensors"


class UnitsError(FirstwordsError):
    """Units that cannot be written or read."""


@dataclass(frozen=True)
class UnitConfig:
    """What is learnt and written."""

    clusters: int = 100
    """K of k-means. Source: HuBERT's first iteration; wav2vec-U takes 128."""
    iterations: int = 50
    """Most passes of k-means over the features. Source: wav2vec-U."""
    restarts: int = 1
    """Starts of k-means; the best is kept. wav2vec-U takes 3."""
    seed: int = 0
    """Of k-means and of the sample that it learns from."""
    hours: float | None = None
    """Audio to learn from, whole utterances drawn at random; None takes all. Their features lie on disk meanwhile."""
    backend: Backend = "torch"
    """What computes k-means; faiss holds all features in memory (the extra "faiss")."""
    format: UnitFormat = "jsonl"
    """JSON Lines with id and units, or text: id, a tab, units with spaces between."""
    repetitions: bool = False
    """Write a unit for every frame, not one for each run of equal units."""
    durations: bool = False
    """Without repetitions: write how many frames each unit lasts, too."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""
    windows: WindowConfig = field(default_factory=WindowConfig)
    """How long recordings pass through the network."""


@dataclass(frozen=True)
class UnitSequence:
    """The units of an utterance."""

    id: str
    seconds: float
    """Of audio."""
    units: np.ndarray
    """(N, G) int64, one row for each run of frames with equal units; G is 1 but for codes of several codebooks."""
    durations: np.ndarray
    """(N,) int64, frames of each run."""

    @property
    def frames(self) -> np.ndarray:
        """(T, G): the unit of every frame."""
        return np.repeat(self.units, self.durations, axis=0)

    @classmethod
    def of(cls, name: str, seconds: float, frames: np.ndarray) -> UnitSequence:
        """Of units (T, G) frame by frame."""
        starts = np.flatnonzero(np.r_[True, (frames[1:] != frames[:-1]).any(1)])
        return cls(name, seconds, frames[starts], np.diff(np.r_[starts, len(frames)]))

    def line(self, config: UnitConfig) -> str:
        """As a file of that format has it."""
        rows = self.frames if config.repetitions else self.units
        lasting = None if config.repetitions or not config.durations else self.durations.tolist()
        if config.format == "text":
            cells = [self.id, " ".join("-".join(map(str, row)) for row in rows.tolist())]
            return "\t".join([*cells, *([] if lasting is None else [" ".join(map(str, lasting))])])
        values: dict[str, Any] = {"id": self.id, "units": _plain(rows)}
        return json.dumps(values if lasting is None else values | {"durations": lasting}, ensure_ascii=False)


@dataclass
class Units:
    """What was written."""

    folder: Path
    path: Path
    """The file of units."""
    sequences: dict[str, UnitSequence]
    """By id, in order."""
    stride: int
    receptive_field: int
    groups: int
    """Codebooks G: 1 of k-means."""
    entries: int
    """Clusters, or entries of each codebook."""
    before: int = 0
    """Utterances that were there when this began."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Utterances that could not be read, with the reason."""

    @property
    def seconds(self) -> float:
        """Of audio."""
        return sum(sequence.seconds for sequence in self.sequences.values())


def write_units(
    source: LayerFeatures | OwnCodes,
    utterances: Sequence[Utterance],
    folder: Path,
    config: UnitConfig | None = None,
    codebook: Codebook | None = None,
    progress: bool = True,
) -> Units:
    """Units of all utterances, in `folder`/units.jsonl or units.txt; stopped and called again, it goes on.

    Without a codebook, k-means is trained first, on all utterances or a sample of hours; its centroids are in
    `folder`/codebook.safetensors. The units of an utterance are those that it gets alone.

    Args:
        source: a layer of an encoder, or the codes of a model's own quantiser.
        utterances: with ids that differ.
        folder: new, or one that an earlier call with the same arguments did not finish.
        config: None: the defaults.
        codebook: centroids to use; None trains them.
        progress: show it.

    Raises:
        UnitsError, FeatureFileError: the folder holds something else, or cannot be written.
        CorpusError: no utterances, or none that could be read.
        ConfigError: fewer frames than clusters, or a codebook of another width.
    """
    config = config or UnitConfig()
    if not utterances:
        raise CorpusError("no utterances to find units in")
    settings = _settings(source, utterances, config, codebook)
    with _errors(folder):
        complete = _take_up(folder, settings)
        runs = folder / RUNS
        if not complete:
            skipped: dict[str, str] = {}
            if codebook is None and isinstance(source, LayerFeatures):
                codebook = _learnt(source, utterances, folder, config, skipped, progress)
            done = _read_runs(runs)
            before = len(done)
            with open(runs, "a", encoding="utf-8") as lines:
                for sequence in _sequences(source, utterances, folder, config, codebook, done, skipped, progress):
                    done[sequence.id] = sequence
                    lines.write(_run_line(sequence) + "\n")
                    lines.flush()
            if not done:
                first = next(iter(skipped.values()))
                raise CorpusError(f"none of {len(utterances)} recordings could be read; first: {first}")
            sequences = {u.id: done[u.id] for u in utterances if u.id in done}
            _write_lines(_path(folder, config), (sequence.line(config) for sequence in sequences.values()))
            shutil.rmtree(folder / FEATURES, ignore_errors=True)
            _write_lines(folder / SETTINGS, [json.dumps({"complete": True, "settings": settings}, indent=1)])
        else:
            sequences, skipped, before = _read_runs(runs), {}, len(utterances)
    groups, entries = (
        (source.coder.groups, source.coder.entries)
        if isinstance(source, OwnCodes)
        else (1, len(codebook.centroids) if codebook is not None else config.clusters)
    )
    path = _path(folder, config)
    return Units(folder, path, sequences, source.stride, source.receptive_field, groups, entries, before, skipped)


def _learnt(
    source: LayerFeatures,
    utterances: Sequence[Utterance],
    folder: Path,
    config: UnitConfig,
    skipped: dict[str, str],
    progress: bool,
) -> Codebook:
    path = folder / CODEBOOK
    if path.is_file():
        return Codebook.load(path)
    codebook = learn_codebook(
        source, utterances, folder / FEATURES, config.clusters, config.iterations, config.restarts, config.seed,
        config.hours, config.backend, config.batch_seconds, config.windows, skipped, progress,
    )  # fmt: skip
    codebook.save(path)
    return codebook


def _sequences(
    source: LayerFeatures | OwnCodes,
    utterances: Sequence[Utterance],
    folder: Path,
    config: UnitConfig,
    codebook: Codebook | None,
    done: dict[str, UnitSequence],
    skipped: dict[str, str],
    progress: bool,
) -> Iterator[UnitSequence]:
    """Units of those that are not done; of features that were written to learn from, without hearing them again."""
    unfinished = any(utterance.id not in done for utterance in utterances)
    stored = Embeddings(folder / FEATURES) if unfinished and (folder / FEATURES).is_dir() else None
    centroids = None if codebook is None else codebook.centroids.to(source.device)

    def frames(parts: Iterable[Tensor]) -> np.ndarray:
        found = [part if centroids is None else assign(part.to(source.device), centroids)[:, None] for part in parts]
        return torch.cat(found).cpu().numpy()

    finished = set(done)
    for utterance in utterances:
        if stored is not None and utterance.id in stored and utterance.id not in finished:
            rows = torch.from_numpy(np.array(stored[utterance.id]))
            yield UnitSequence.of(utterance.id, stored.entries[utterance.id].seconds, frames([rows]))
    rest = [utterance for utterance in utterances if stored is None or utterance.id not in stored]
    left = [utterance for utterance in rest if utterance.id not in finished]
    with AudioProgress(total_seconds(left), "finding units") if progress and left else nullcontext() as shown:
        for heard in hear(
            source, rest, config.batch_seconds, config.windows, [one.id in finished for one in rest].__getitem__
        ):
            try:
                if heard.error is not None:
                    raise heard.error
                yield UnitSequence.of(heard.name, heard.seconds, frames(heard.parts))
            except AudioError as error:
                skipped[heard.name] = str(error)
            if shown is not None:
                shown.advance(heard.seconds)


def read_units(folder: Path) -> dict[str, UnitSequence]:
    """The units in a folder that `write_units` completed, frame by frame whatever was written out, by id.

    Raises:
        UnitsError: nothing there, or not complete.
    """
    if not _read_settings(folder)["complete"]:
        raise UnitsError(f"{folder}: not complete; start the command that made it again")
    with _errors(folder):
        return _read_runs(folder / RUNS)


def _settings(
    source: LayerFeatures | OwnCodes, utterances: Sequence[Utterance], config: UnitConfig, codebook: Codebook | None
) -> dict[str, Any]:
    chosen = dataclasses.asdict(config)
    chosen["windows"] = [str(config.windows.seconds), str(config.windows.context)]
    if isinstance(source, OwnCodes):
        network, units = network_fingerprint(source.coder), {"units": "the model's own codes"}
    else:
        network, units = network_fingerprint(source.encoder), layers_settings(source)
    if codebook is not None:
        codebook.check(source)
        units["codebook"] = codebook.fingerprint
    if codebook is not None or isinstance(source, OwnCodes):
        for name in ("clusters", "iterations", "restarts", "seed", "hours", "backend"):
            del chosen[name]
    found: dict[str, Any] = json.loads(
        json.dumps({"model": network, **units, **chosen, "utterances": fingerprint(utterances)})
    )
    return found


def _take_up(folder: Path, settings: dict[str, Any]) -> bool:
    """Makes the folder ready; whether it is complete already."""
    if not (folder / SETTINGS).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UnitsError(f"{folder}: holds something else already; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines(folder / SETTINGS, [json.dumps({"complete": False, "settings": settings}, indent=1)])
    found = _read_settings(folder)
    for key in {**found["settings"], **settings}:
        was, now = found["settings"].get(key), settings.get(key)
        if was != now:
            raise UnitsError(
                f"{folder}: was begun with {key} {was}, now {key} is {now}; name another folder, or remove it"
            )
    return bool(found["complete"])


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return {"complete": bool(found["complete"]), "settings": dict(found["settings"])}
    except FileNotFoundError as error:
        raise UnitsError(f"{folder}: no units here (a folder with {SETTINGS})") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnitsError(f"{folder / SETTINGS}: cannot be read ({error})") from error


def _run_line(sequence: UnitSequence) -> str:
    runs = [sequence.units.tolist(), sequence.durations.tolist()]
    return json.dumps([sequence.id, round(sequence.seconds, 4), *runs])


def _read_runs(path: Path) -> dict[str, UnitSequence]:
    """What was found before; a line that a stop cut short is cut off."""
    found: dict[str, UnitSequence] = {}
    if not path.is_file():
        return found
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    for line in whole.splitlines():
        try:
            name, seconds, units, durations = json.loads(line)
            rows = np.array(units, dtype=np.int64).reshape(len(durations), -1)
            found[name] = UnitSequence(name, seconds, rows, np.array(durations, dtype=np.int64))
        except ValueError as error:
            raise UnitsError(f"{path}: broken ({error}); remove the folder and start again") from error
    return found


def _path(folder: Path, config: UnitConfig) -> Path:
    return folder / ("units.jsonl" if config.format == "jsonl" else "units.txt")


def _plain(rows: np.ndarray) -> list[Any]:
    """One codebook: numbers; several: lists of numbers."""
    found: list[Any] = rows[:, 0].tolist() if rows.shape[1] == 1 else rows.tolist()
    return found


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """A text file, whole or not at all."""
    part = path.with_name(path.name + ".new")
    with open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnitsError(
            f"{folder}: cannot be written ({error.strerror or error}). What is finished is kept; start the same "
            "command again"
        ) from error
