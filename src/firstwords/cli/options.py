"""Arguments of a command as a dataclass, parsed by tyro."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import tyro

from firstwords.corpus.parallel import default_workers
from firstwords.decoding.hypothesis import Decoder
from firstwords.decoding.options import DecoderConfig

Arguments = TypeVar("Arguments")

DecoderOptions = Annotated[DecoderConfig, tyro.conf.arg(name="")]
"""--lm, --lexicon, --beam and all else that a decoder takes, as options of a command; see `decoder_config`."""


def decoder_config(options: DecoderConfig) -> DecoderConfig:
    """The decoder that the options ask for, in processes of its own unless they say how many."""
    return options if options.processes is not None else replace(options, processes=default_workers())


def say_note(decoder: Decoder) -> None:
    """Tells what the decoder left out, once it has worked."""
    if note := getattr(decoder, "note", ""):
        print(note, file=sys.stderr)


def several(metavar: str) -> Any:
    """Annotation of a positional tuple: its name in the help text, where tyro would write that it defaults to none."""
    return tyro.conf.arg(metavar=f"{metavar} ...", help_behavior_hint="(one or more)")


def parse(
    kind: type[Arguments], arguments: list[str], command: str, default: Arguments | None = None, flags: bool = False
) -> Arguments:
    """The dataclass `kind` filled from the command line; its docstring is the help text. Exits with 2 on bad words.

    Args:
        flags: booleans are switches (`--overwrite`), not `--overwrite True`. For commands without a recipe: where a
            recipe may set a boolean or None either way, the command line must be able to say both.
    """
    plain = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone) if flags else (tyro.conf.FlagConversionOff,)
    return tyro.cli(  # type: ignore[return-value]
        kind,
        args=arguments,
        prog=f"firstwords {command}",
        default=default,
        config=(*plain, tyro.conf.HelptextFromCommentsOff, tyro.conf.PositionalMetavarFromFieldName),
    )


def option(arguments: list[str], name: str, default: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE`, before the rest is parsed: a recipe decides the other defaults."""
    value = default
    for number, word in enumerate(arguments):
        if word == f"--{name}" and number + 1 < len(arguments):
            value = arguments[number + 1]
        elif word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
    return value  # the last one, as the parser has it
