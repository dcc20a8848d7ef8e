"""Dataclasses to and from plain mappings and YAML, strictly: an unknown key is refused with the nearest real one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from firstwords.errors import ConfigError

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested plain containers, fit for JSON and YAML (tuples become lists, paths strings)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return str(value) if isinstance(value, Path) else value

    return plain(config)


def from_dict(kind: type[Config], values: Any, where: str, base: Config | None = None) -> Config:
    """Builds the dataclass `kind` from a mapping.

    Args:
        kind: a dataclass, possibly with nested dataclasses.
        values: keys that are missing keep the value in `base` (or the field's default).
        where: what the mapping is, for error messages ("recipe wav2vec2-tiny").
        base: an instance to start from.

    Raises:
        ConfigError: an unknown key (naming the nearest real one) or a value of the wrong kind.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected keys and values here, found {values!r}")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            mend = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {mend}")
        inner = getattr(base, key) if base is not None else None
        chosen[key] = _convert(hints[key], value, f"{where}: {key}", inner)
    if base is not None:
        return dataclasses.replace(base, **chosen)  # type: ignore[type-var]
    try:
        return kind(**chosen)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str, base: Any) -> Any:
    """`value` as the annotated type `hint`, or a ConfigError that names the place."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where, base if dataclasses.is_dataclass(base) else None)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(option for option in options if option is not type(None)), value, where, base)
    if origin is Literal:
        if value in typing.get_args(hint):
            return value
        choices = ", ".join(map(str, typing.get_args(hint)))
        raise ConfigError(f"{where}: {value!r} is none of: {choices}")
    if origin is tuple and isinstance(value, list | tuple):
        kinds = typing.get_args(hint)
        if len(kinds) != 2 or kinds[1] is not Ellipsis:
            raise TypeError(f"{where}: only tuple[X, ...] fields are supported")
        return tuple(_convert(kinds[0], item, where, None) for item in value)
    if hint is float and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:  # YAML 1.1 reads 5e-4 as text
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif hint is Path and isinstance(value, str | Path):
        return Path(value)
    elif (hint in (int, str, bool) and type(value) is hint) or hint is Any:
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {value!r}")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one: where both have a key, that of `changes`."""
    found = dict(base)
    for key, value in changes.items():
        inner = found.get(key)
        found[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return found


def check_shares(where: str, config: Any, *names: str) -> None:
    """Raises ConfigError where a field that is a share or probability is not from 0 to 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"{where}: {name} must be from 0 to 1, found {value}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping. Raises ConfigError where it is missing or broken."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(values).__name__}")
    return values


def write_yaml(config: Any, path: Path) -> None:
    """Writes the resolved configuration."""
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")
