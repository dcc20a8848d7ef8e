"""firstwords convert SOURCE OUT"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from firstwords.cli.options import parse
from firstwords.conversion import convert
from firstwords.errors import ConfigError
from firstwords.evaluation import in_splits
from firstwords.training.data import read_corpora


@dataclass
class Arguments:
    """A model from one format into another, run in both on a probe and refused where they differ.

    Read: runs of ours; Hugging Face folders, files and hub names (wav2vec 2.0, HuBERT, WavLM, with CTC, quantiser or
    other heads); fairseq's .pt files of wav2vec, vq-wav2vec, wav2vec 2.0 and wav2vec-U. No code hidden in one is run.
    """

    source: tyro.conf.Positional[str]
    """A run, a folder, a file, or a name on the Hugging Face hub (facebook/wav2vec2-base-960h)."""
    out: tyro.conf.Positional[Path]
    """A new folder."""
    to: Literal["firstwords", "huggingface", "onnx", "openvino"] = "firstwords"
    """Format to write."""
    adapter: str | None = None
    """Which language, of a model with adapters for several."""
    tolerance: float = 1e-4
    """Largest difference, as a share of the largest output, that counts as equal."""
    int8: bool = False
    """ONNX: write 8-bit weights too; needs --manifest."""
    manifest: Path | None = None
    """Transcribed corpus on which 8 bits are judged."""
    split: str = "test"
    """Which of its utterances; "all" takes every one. A corpus without splits is taken whole."""
    max_loss: float = 0.01
    """Most that 8 bits may add to the word error rate."""


def run(arguments: list[str]) -> None:
    """Converts, compares, and says how equal they are."""
    chosen = parse(Arguments, arguments, "convert", flags=True)
    utterances = None
    if chosen.int8:
        if chosen.manifest is None:
            raise ConfigError("--int8 measures word errors before and after: name a transcribed corpus with --manifest")
        split = None if chosen.split == "all" else chosen.split
        utterances = in_splits(read_corpora([chosen.manifest]), split, chosen.manifest)
    result = convert(
        chosen.source, chosen.out, chosen.to, chosen.adapter, chosen.tolerance, utterances, chosen.max_loss
    )
    print(f"read {chosen.source}: {result.source}")
    for note in result.notes:
        print(f"note: {note}")
    print(f"largest difference on the probe: {result.difference:.1e} of the largest output ({result.compared})")
    if result.word_errors is not None:
        before, after = result.word_errors
        print(f"word error rate with 32 bits {before:.2%}, with 8 bits {after:.2%}")
    print(f"wrote {chosen.out}")
