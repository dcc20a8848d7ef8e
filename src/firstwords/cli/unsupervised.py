"""firstwords unsupervised prepare|train|decode|self-train|run"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

SUBCOMMANDS = {
    "prepare": "features of speech without its silences, and phones of other text",
    "train": "all members of a sweep at once: a generator of phones that a discriminator cannot tell from text",
    "decode": "what the chosen member hears: phones, or words with a lexicon and a language model",
    "self-train": "an HMM and a CTC recogniser learn from what was decoded",
    "run": "the four above, one after another, with a report",
}
"""Each step and what it does; the module `unsupervised_NAME` of this folder has its `run(arguments)`."""


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, SUBCOMMANDS))
        print("wav2vec-U: recognition with no transcripts, from speech and unrelated text.\n")
        print("\n".join(f"  firstwords unsupervised {name:<{width}}  {what}" for name, what in SUBCOMMANDS.items()))
        print("\nfirstwords unsupervised STEP --help says what each takes.")
        return 0
    name, *rest = arguments
    module = f"firstwords.cli.unsupervised_{name.replace('-', '_')}"
    if name not in SUBCOMMANDS or find_spec(module) is None:
        print(f"firstwords unsupervised: no step {name!r}; there are: {', '.join(SUBCOMMANDS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(module).run(rest) or 0)
