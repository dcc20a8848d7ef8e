"""Reference curves: logs of finished runs kept small, to lay other runs over.

They live in the package (recipes/curves/NAME.jsonl), beside the recipes that they belong to, so that an installed
Firstwords finds them. The first line says where the figures come from; the others are lines of a run's log.
"""

from __future__ import annotations

import datetime
import difflib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from firstwords.config import read_yaml, to_dict
from firstwords.errors import CheckpointError, FirstwordsError
from firstwords.recipes import recipe_names
from firstwords.training.objectives import pretraining_recipe
from firstwords.training.run import CONFIG, LOG, read_log

Kind = Literal["pretrain", "finetune"]
MOST_LINES = 200
"""Lines of a reference curve, its first included."""
FINETUNED_AS = "ctc-small"
"""The recipe of a fine-tuning whose command names none."""
KEPT = (
    "update", "hours", "bits", "chance_bits", "accuracy", "codes_perplexity", "probabilities_perplexity",
    "bits_per_label", "wer", "cer",
)  # fmt: skip
"""Figures that are kept, also with "valid_" before them."""


@dataclass(frozen=True)
class Curve:
    """The log of a run, or a reference."""

    name: str
    kind: Kind
    records: list[dict[str, Any]]
    """Lines of the log; "hours" is the audio heard until then, where it is known."""
    about: dict[str, Any] = field(default_factory=dict)
    """recipe, corpus, hardware, commit, date, source: as far as they are known."""
    reference: bool = False

    def points(self, key: str, axis: str) -> list[tuple[float, float]]:
        """(hours or update, value) wherever the log has a figure."""
        return [
            (float(r[axis]), float(r[key])) for r in self.records if isinstance(r.get(key), int | float) and axis in r
        ]


def read_runs(folders: Sequence[Path]) -> list[Curve]:
    """The logs of runs as curves, named after their folders; by the whole path where two have one name.

    Raises:
        CheckpointError: no log in one of them, or nothing in it yet.
    """
    names = [folder.resolve().name for folder in folders]
    return [
        _read_run(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def _read_run(folder: Path, name: str) -> Curve:
    if not (folder / LOG).is_file():
        raise CheckpointError(f"{folder}: no {LOG} there; name the folder of a run")
    records = with_hours(read_log(folder))
    about = _about(folder)
    return Curve(name, _kind(records, str(folder)), records, about)


def reference_names(kind: Kind | None = None) -> list[str]:
    """Names of the reference curves that come with the package."""
    names = sorted(path.stem for path in _home().glob("*.jsonl"))
    return names if kind is None else [name for name in names if load_reference(name).kind == kind]


def load_reference(name: str) -> Curve:
    """A reference curve by its name, or from a file that `keep` wrote.

    Raises:
        CheckpointError: no such curve, or a file that is none.
    """
    path = Path(name) if name.endswith(".jsonl") else _home() / f"{name}.jsonl"
    if not path.is_file():
        near = difflib.get_close_matches(name, reference_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(reference_names())}; or a .jsonl file"
        raise CheckpointError(f"no reference curve {name!r}; {hint}")
    try:
        about, *records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return Curve(about.pop("reference"), about.pop("kind"), records, about, reference=True)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: no reference curve (firstwords compare RUN --keep NAME makes one)") from error


def references_of(runs: Sequence[Curve]) -> list[Curve]:
    """The curves that come with the package for the recipes of these runs."""
    wanted = {(run.kind, run.about.get("recipe")) for run in runs}
    curves = [load_reference(name) for name in reference_names()]
    return [curve for curve in curves if (curve.kind, curve.about.get("recipe")) in wanted]


def keep(run: Curve, path: Path, about: Mapping[str, str]) -> Curve:
    """Writes a run's log, thinned, as a reference curve named after the file.

    Args:
        about: what the run's folder does not know (corpus, hardware, commit, source); replaces what it does.

    Raises:
        CheckpointError: the file cannot be written.
    """
    facts = run.about | {key: value for key, value in about.items() if value}
    curve = Curve(path.stem, run.kind, thin(run.records), facts, reference=True)
    lines = [{"reference": curve.name, "kind": curve.kind, **facts}, *curve.records]
    try:
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    return curve


def thin(records: Sequence[Mapping[str, Any]], most: int = MOST_LINES - 1) -> list[dict[str, Any]]:
    """At most `most` lines that show the same curves.

    Every validation stays where there is room for twice as many lines; training lines are averaged in groups of equal
    size, each in the place of its last. The figures that no picture shows are dropped.
    """
    names = {*KEPT, *(f"valid_{name}" for name in KEPT)}
    valid = [record for record in records if any(key.startswith("valid_") for key in record)]
    training = [record for record in records if not any(key.startswith("valid_") for key in record)]
    step = max(1, -(-2 * len(valid) // most))
    validations = [dict(record) for record in valid[len(valid) - 1 :: -step][::-1]] if valid else []
    room = max(1, most - len(validations))
    size = max(1, -(-len(training) // room))
    groups = [training[start : start + size] for start in range(0, len(training), size)]
    lines = [_average(group) for group in groups] + validations
    lines.sort(key=lambda record: record.get("update", 0))
    return [{key: value for key, value in record.items() if key in names} for record in lines]


def with_hours(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records with "hours" of audio heard, also where a line (of a validation) does not say it itself."""
    known = [(0.0, 0.0), *((r["update"], r["hours_total"]) for r in records if "hours_total" in r)]
    if len(known) == 1:
        return [dict(record) for record in records]
    updates, hours = zip(*known, strict=True)
    return [dict(r) | {"hours": float(f"{np.interp(r['update'], updates, hours):.6g}")} for r in records]


def _average(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One line for several: means of the figures, the place of the last."""
    line = dict(group[-1])
    for key, value in line.items():
        if key in ("update", "hours") or not isinstance(value, int | float):
            continue
        values = [record[key] for record in group if isinstance(record.get(key), int | float)]
        line[key] = float(f"{sum(values) / len(values):.5g}")
    return line


def _kind(records: Sequence[Mapping[str, Any]], where: str) -> Kind:
    if any("bits_per_label" in record or "valid_bits_per_label" in record for record in records):
        return "finetune"
    if any("bits" in record or "valid_bits" in record for record in records):
        return "pretrain"
    raise CheckpointError(f"{where}: its {LOG} holds no curve yet")


def _about(folder: Path) -> dict[str, Any]:
    """What a run's folder tells of where its curves come from."""
    date = datetime.date.fromtimestamp((folder / LOG).stat().st_mtime).isoformat()
    try:
        found = read_yaml(folder / CONFIG)
    except FirstwordsError:
        return {"date": date}
    about: dict[str, Any] = {"recipe": _recipe(found)}
    data = found.get("data")
    if isinstance(data, dict) and "hours" in data:
        about["corpus"] = f"{data.get('utterances')} utterances, {data['hours']:.2f} h"
    about["firstwords"] = found.get("firstwords")
    return {key: value for key, value in about.items() if value} | {"date": date}


def _recipe(found: Mapping[str, Any]) -> str:
    """The recipe's name in the command that started a run; without one, the recipe that has the run's model."""
    words = shlex.split(str(found.get("command", "")))
    for number, word in enumerate(words):
        if word == "--recipe" and number + 1 < len(words):
            return Path(words[number + 1]).stem
        if word.startswith("--recipe="):
            return Path(word.split("=", 1)[1]).stem
    if found.get("kind") == "finetune":
        return FINETUNED_AS
    model = found["config"].get("model") if isinstance(found.get("config"), dict) else None
    same = [n for n in recipe_names("pretrain") if to_dict(pretraining_recipe(n).model) == model]
    return same[0] if same else ""


def _home() -> Path:
    return Path(str(files("firstwords.recipes"))) / "curves"
