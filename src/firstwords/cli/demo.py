"""firstwords demo: everything in miniature."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from firstwords.cli.options import parse
from firstwords.demo import DemoConfig, run_demo


@dataclass
class Arguments:
    """Everything in miniature, offline, in six to eight minutes on two cores.

    Makes a corpus of synthetic voices, pre-trains a tiny network on its sound, fine-tunes it on a few transcribed
    minutes, does the same without pre-training, and compares the two on unseen voices. Needs the extra: pip install
    'firstwords[synthetic]'. A demo that was stopped goes on; a finished one starts afresh.
    """

    out: Path = Path("demo")
    """Folder for the corpus, the runs, the picture of the curves and the results."""
    amounts: tyro.conf.OmitArgPrefixes[DemoConfig] = field(default_factory=DemoConfig)


def run(arguments: list[str]) -> int:
    given = parse(Arguments, arguments, "demo", flags=True)
    return run_demo(given.out, given.amounts)
