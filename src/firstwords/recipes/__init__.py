"""The papers' experiments, and some for small machines, as YAML files with sources.

A recipe that says `extends: OTHER` is that other one but for the values that it names itself, however deep they lie.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from firstwords.config import from_dict, merged, read_yaml
from firstwords.errors import ConfigError

Config = TypeVar("Config")


OBJECTIVE = "objective"
"""Key of a pre-training recipe: which method of the family it belongs to."""
EXTENDS = "extends"
"""Key of a recipe that is another but for some values."""
ABLATIONS = "ablations"
"""Folder of the papers' ablations, which are known as ablations/NAME."""
WAV2VEC2 = "wav2vec2"
"""The objective of recipes that name none."""


def recipe_names(kind: str, objective: str | None = None) -> list[str]:
    """Names of the recipes that come with the package, for "pretrain", "finetune" or "acoustic"; of one objective if
    asked. Without the ablations."""
    folder = Path(str(files(__package__)))
    found = {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}
    return [
        name
        for name, values in found.items()
        if values.get("kind") == kind and objective in (None, values.get(OBJECTIVE, WAV2VEC2))
    ]


def ablation_names() -> list[str]:
    """Names of the recipes of the papers' ablations."""
    folder = Path(str(files(__package__))) / ABLATIONS
    return [f"{ABLATIONS}/{path.stem}" for path in sorted(folder.glob("*.yaml"))]


def load_recipe(name: str, kind: str, config: type[Config] | Mapping[str, type[Config]]) -> Config:
    """The configuration that a recipe describes; what it leaves out keeps its default.

    Args:
        name: of a recipe that comes with the package, or a YAML file: one's own, or the config.yaml beside a run.
        kind: "pretrain", "finetune" or "acoustic".
        config: the dataclass to fill; or one for each objective (pre-training), of which the recipe names one.

    Raises:
        ConfigError: no such recipe, one of another kind, an unknown key (naming the nearest real one), or one that
            extends itself.
    """
    path = _path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, [*recipe_names(kind), *ablation_names()], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(recipe_names(kind))}; or a .yaml file"
        raise ConfigError(f"no recipe {name!r}; {hint}")
    values = _read(path)
    if isinstance(values.get("config"), dict) and "firstwords" in values:  # the config.yaml beside a run
        values = {"kind": values.get("kind", kind), **values["config"]}
    found = values.pop("kind", kind)
    if found != kind:
        raise ConfigError(
            f"recipe {name}: made for {found}, not for {kind}; there are: {', '.join(recipe_names(kind))}"
        )
    objective = values.pop(OBJECTIVE, WAV2VEC2)
    known = config if isinstance(config, Mapping) else {WAV2VEC2: config}
    if objective not in known:
        raise ConfigError(f"recipe {name}: its objective is {objective!r}; wanted here: {', '.join(known)}")
    return from_dict(known[objective], values, f"recipe {name}")


def recipe_kind(name: str) -> str | None:
    """What a recipe is for, as it says itself; None where there is no such recipe or it does not say.

    Raises:
        ConfigError: a file that is no YAML.
    """
    path = _path(name)
    kind = _read(path).get("kind") if path.is_file() else None
    return kind if isinstance(kind, str) else None


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe's values with those of what it extends below them; a .yaml named there lies beside the file."""
    values = read_yaml(path)
    if EXTENDS not in values:
        return values
    name = values.pop(EXTENDS)
    other = _path(str(name))
    if other == Path(str(name)):
        other = path.parent / other
    if not isinstance(name, str) or not other.is_file():
        raise ConfigError(f"{path}: extends {name!r}, and there is no such recipe; there are: {_all_names()}")
    chain = (*below, path.resolve())
    if other.resolve() in chain:
        raise ConfigError(f"{path}: extends {name!r}, which extends it again")
    return merged(_read(other, chain), values)


def _all_names() -> str:
    return ", ".join(sorted(path.stem for path in Path(str(files(__package__))).glob("*.yaml")))


def _path(name: str) -> Path:
    own = Path(name)
    return own if own.suffix in (".yaml", ".yml") else Path(str(files(__package__))) / f"{name}.yaml"
