"""What `firstwords unsupervised` prints: what there is to learn from, and how each step of self-training does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from firstwords.corpus.prepared import SPLITS, Prepared


def print_preparation(prepared: Prepared, done: Sequence[str], console: Console) -> None:
    """A table of both sides, and which steps were done now."""
    facts, text = prepared.facts, prepared.facts["text"]
    table = Table(title=f"{prepared.folder}, for wav2vec-U {prepared.kind}", title_justify="left")
    table.add_column("speech")
    for split in SPLITS:
        table.add_column(split, justify="right")
    table.add_row("utterances", *(f"{facts['utterances'][split]:,}" for split in SPLITS))
    table.add_row("hours without silences", *(f"{facts['hours'][split]:.2f}" for split in SPLITS))
    table.add_row("steps", *(f"{len(prepared.features(split).values):,}" for split in SPLITS))
    table.add_row("steps a second", *(f"{rate(prepared, split):.1f}" for split in SPLITS))
    console.print(table)
    kept = f", {facts['variance_kept']:.0%} of the variance" if "variance_kept" in facts else ""
    console.print(f"{facts['dim']} dimensions of the encoder's {facts['encoder_dim']}{kept}")
    if "speakers" in facts:
        console.print(f"{facts['speakers']:,} speakers, their cepstra moved to a mixture that all share")
    console.print(
        f"text: {text['sentences']:,} sentences, {text['phones']:,} phones of {len(prepared.phones) - 1} kinds, "
        f"{text['words']:,} words"
    )
    console.print(f"phones: {' '.join(prepared.phones)}")
    if text["dropped_phones"]:
        console.print(f"too rare, left out with their sentences: {' '.join(text['dropped_phones'])}")
    console.print(f"done now: {', '.join(done) if done else 'nothing, all was up to date'}")


def rate(prepared: Prepared, split: str) -> float:
    """Steps a second of speech: about 14 is what both methods want."""
    hours = prepared.facts["hours"][split]
    return len(prepared.features(split).values) / max(1e-9, 3600 * hours)


@dataclass(frozen=True)
class Stage:
    """One step of self-training."""

    name: str
    perplexity: float
    """Of a phone, in the text's model: label-free."""
    used: float
    """Share of the text's phones that it uses."""
    fluency: float
    """0: like shuffled phones; 1: like real text."""
    per: float | None
    """Phone error rate, where the truth is known; only ever logged."""
    wer: float | None
    balance: float | None = None
    """1: its phones are as frequent as the text's; 0: none of them is. Fluent output of a few phones has less."""


def print_stages(stages: Sequence[Stage], console: Console) -> None:
    """How each step of self-training does on the valid split: judged without labels, error rates where known."""
    table = Table(
        title="self-training, valid split", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("step", no_wrap=True)
    for name in ("perplexity of a phone", "used", "fluency", "balance", "PER", "WER"):
        table.add_column(name, justify="right", no_wrap=" " not in name)
    for stage in stages:
        rates = ("" if rate is None else f"{rate:.1%}" for rate in (stage.per, stage.wer))
        balance = "" if stage.balance is None else f"{stage.balance:.0%}"
        table.add_row(
            stage.name, f"{stage.perplexity:.1f}", f"{stage.used:.0%}", f"{stage.fluency:.2f}", balance, *rates
        )
    console.print(table)
    console.print(
        "All but PER and WER need no labels: these are the manifest's. Fluency with little balance is of few phones."
    )
