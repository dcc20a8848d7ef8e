"""Arguments of a command as a dataclass, parsed by tyro."""

from __future__ import annotations

from typing import TypeVar

import tyro

Arguments = TypeVar("Arguments")


def parse(kind: type[Arguments], arguments: list[str], command: str, default: Arguments | None = None) -> Arguments:
    """The dataclass `kind` filled from the command line; its docstring is the help text. Exits with 2 on bad words."""
    return tyro.cli(
        kind,
        args=arguments,
        prog=f"firstwords {command}",
        default=default,
        config=(tyro.conf.FlagConversionOff, tyro.conf.HelptextFromCommentsOff),
    )
