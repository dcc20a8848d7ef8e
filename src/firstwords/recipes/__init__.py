"""The papers' experiments, and some for small machines, as YAML files with sources."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from firstwords.config import from_dict, read_yaml
from firstwords.errors import ConfigError

Config = TypeVar("Config")


OBJECTIVE = "objective"
"""Key of a pre-training recipe: which method of the family it belongs to."""
WAV2VEC2 = "wav2vec2"
"""The objective of recipes that name none."""


def recipe_names(kind: str, objective: str | None = None) -> list[str]:
    """Names of the recipes that come with the package, for "pretrain" or "finetune"; of one objective if asked."""
    folder = Path(str(files(__package__)))
    found = {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}
    return [
        name
        for name, values in found.items()
        if values.get("kind") == kind and objective in (None, values.get(OBJECTIVE, WAV2VEC2))
    ]


def load_recipe(name: str, kind: str, config: type[Config] | Mapping[str, type[Config]]) -> Config:
    """The configuration that a recipe describes; what it leaves out keeps its default.

    Args:
        name: of a recipe that comes with the package, or a YAML file: one's own, or the config.yaml beside a run.
        kind: "pretrain" or "finetune".
        config: the dataclass to fill; or one for each objective (pre-training), of which the recipe names one.

    Raises:
        ConfigError: no such recipe, one of another kind, or an unknown key (naming the nearest real one).
    """
    own = Path(name)
    path = own if own.suffix in (".yaml", ".yml") else Path(str(files(__package__))) / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, recipe_names(kind), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(recipe_names(kind))}; or a .yaml file"
        raise ConfigError(f"no recipe {name!r}; {hint}")
    values = read_yaml(path)
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
