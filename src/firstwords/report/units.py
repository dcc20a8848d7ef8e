"""Units of a corpus as tables: how many there are, how they are used, and how they agree with phones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from firstwords.cooccurrence import entropy
from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AlignmentError, AudioError
from firstwords.phone_times import FileTimes, ManifestTimes, RecognizerTimes, Times
from firstwords.unit_quality import UnitCounts
from firstwords.units import Units


def print_units(units: Units, console: Console | None = None) -> None:
    """Prints how many units there are and how evenly they are used."""
    console = console or Console(highlight=False)
    sequences = list(units.sequences.values())
    used, places = np.unique(np.concatenate([one.units for one in sequences]), axis=0, return_inverse=True)
    frames = np.bincount(places.reshape(-1), np.concatenate([one.durations for one in sequences]), len(used))
    runs, count = len(places), int(frames.sum())
    possible = units.entries**units.groups
    kind = "codes" if units.groups > 1 else "units"
    console.print(
        f"{len(sequences)} recordings, {units.seconds / 3600:.2f} h: {count:,} frames, {runs:,} without repetitions "
        f"({runs / max(units.seconds, 1e-9):.1f} a second); {len(used):,} of {possible:,} {kind} in use, "
        f"perplexity {2 ** entropy(frames):.0f}",
        soft_wrap=True,
    )
    console.print(f"wrote {units.path}", soft_wrap=True)


def count_phones(
    units: Units, utterances: Sequence[Utterance], times: Times, stress: bool = False, required: bool = True
) -> UnitCounts | None:
    """Counts every frame's unit with the phone said then.

    Args:
        units: of the utterances.
        utterances: of the corpus.
        times: when phones were said.
        stress: keep the stress of ARPAbet's vowels.
        required: raise where none of the utterances has phone times, else return None.

    Raises:
        AlignmentError: broken alignments, or none at all.
    """
    counts = UnitCounts(units.stride, units.receptive_field, units.groups, stress)
    known = [utterance for utterance in utterances if utterance.id in units.sequences]
    listens = not isinstance(times, FileTimes | ManifestTimes)
    for utterance in track(known, len(known), "comparing with phones"):
        try:
            waveform = torch.from_numpy(utterance.read()) if listens else torch.zeros(1)
        except AudioError:
            continue  # it was there when its units were found
        (intervals,) = times([utterance], [waveform])
        if intervals is not None:
            counts.add(units.sequences[utterance.id].frames, intervals)
    if counts.utterances:
        return counts
    if not required:
        return None
    what = "phone times of its utterances" if not isinstance(times, RecognizerTimes) else "transcript to align"
    where = f"{times.alignments.place}: " if isinstance(times, FileTimes) else ""
    raise AlignmentError(f"{where}none of {len(known)} utterances has {what}; files are named by the utterance's id")


def print_quality(units: Units, counts: UnitCounts, console: Console | None = None) -> None:
    """Prints phone purity, cluster purity and PNMI."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("phone purity", "cluster purity", "PNMI", "by chance", "in use", "perplexity"):
        table.add_column(name, justify="right", no_wrap=True)
    names = ["units"] if units.groups == 1 else ["codes", *(f"book {n}" for n in range(units.groups))]
    qualities = counts.qualities()
    for name, one in zip(names, qualities, strict=True):
        shares = (one.phone_purity, one.cluster_purity, one.pnmi, one.chance)
        table.add_row(name, *(f"{share:.3f}" for share in shares), f"{one.units:,}", f"{one.perplexity:.0f}")
    console.print(table)
    first = qualities[0]
    console.print(
        f"over {first.frames:,} frames of {first.phones} {counts.kind}, silence being one; a single unit for all would "
        f"have purity {first.commonest:.3f}",
        soft_wrap=True,
    )
    if counts.utterances < len(units.sequences):
        lacking = len(units.sequences) - counts.utterances
        console.print(f"without phone times: {lacking} of {len(units.sequences)} recordings")
