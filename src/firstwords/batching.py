"""Recordings of different lengths, put together in batches that waste little on padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

SPARE = 0.1
"""Share of a batch that may be padding on a CPU, where a batch is hardly faster than its utterances one by one."""


def by_length(lengths: Mapping[int, int], batch_samples: int, device: torch.device) -> Iterator[list[int]]:
    """Batches of the numbers that `lengths` (samples) has for keys, the longest first.

    Args:
        lengths: of each recording.
        batch_samples: most samples of a batch, padding included; a longer recording is a batch of its own.
        device: on a CPU a batch holds little padding, elsewhere any amount.
    """
    spare = SPARE if device.type == "cpu" else 1.0
    batch: list[int] = []
    for number in sorted(lengths, key=lambda n: lengths[n], reverse=True):
        longest = lengths[batch[0]] if batch else 0
        if batch and (longest * (len(batch) + 1) > batch_samples or lengths[number] < (1 - spare) * longest):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def padded(waveforms: list[Tensor], shortest: int) -> tuple[Tensor, Tensor]:
    """Waveforms (samples,) side by side (B, samples), zeros after each, and their lengths (B,), at least `shortest`."""
    lengths = torch.tensor([max(len(waveform), shortest) for waveform in waveforms])
    rows = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(rows, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return rows, lengths
