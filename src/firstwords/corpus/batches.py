"""Which utterances make an update: length buckets filled to seconds of audio, shuffled by seed and epoch.

An epoch's plan follows from (seed, epoch) alone, so a run goes on at any update without reading what came before. The
plan does not know how many processes or micro-batches will share the work: what an update holds, and how each of its
utterances is cropped, stays the same however it is split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firstwords.corpus.languages import LanguageSampler
from firstwords.errors import CorpusError

TIE_SAMPLES = 4_000
"""Lengths that differ by less than this (0.25 s) count as alike when an epoch is sorted, so that neighbours change."""
CROP_SAMPLES = 1_600
"""Crops are a whole number of these (0.1 s) long, where they are not shorter."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """Utterances of similar length that are handled alike."""

    members: np.ndarray
    """(n,) indices into the corpus; with a sampler of languages, copies as `UpdatePlan.which` tells them apart."""
    samples: int
    """Length to which all are cropped (pre-training) or padded (fine-tuning)."""


@dataclass(frozen=True)
class Position:
    """Where in the data a run stands: before update `index` of `epoch`."""

    epoch: int = 0
    index: int = 0


class UpdatePlan:
    """Cuts a corpus into updates.

    Args:
        lengths: samples of each utterance, already limited to the longest crop.
        update_samples: audio of one update, all processes and micro-batches together.
        bucket_samples: audio of one bucket; utterances of a bucket share a length. At most an update.
        crop: True crops a bucket to its shortest member (pre-training), False pads it to its longest.
        seed: of the shuffling.
        tie: lengths that differ by less count as alike when an epoch is sorted.
        sampler: what an epoch holds; None: every utterance once.

    Raises:
        CorpusError: no utterances.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        update_samples: int,
        bucket_samples: int,
        crop: bool,
        seed: int,
        tie: int = TIE_SAMPLES,
        sampler: LanguageSampler | None = None,
    ) -> None:
        if len(lengths) == 0:
            raise CorpusError("no utterances to train on")
        self.lengths = lengths
        self.update_samples = update_samples
        self.bucket_samples = min(bucket_samples, update_samples)
        self.crop = crop
        self.seed = seed
        self.tie = tie
        self.sampler = sampler

    def which(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Members of buckets as utterances (n,) of the corpus and the copies (n,) of them, from 0: all different within
        an epoch."""
        copies, utterances = np.divmod(members, len(self.lengths))
        return utterances, copies

    def epoch(self, number: int) -> list[list[Bucket]]:
        """The updates of one epoch, each a list of buckets; every utterance, or what the sampler draws, is in exactly
        one of them."""
        random = np.random.default_rng([self.seed, number])
        drawn = np.arange(len(self.lengths)) if self.sampler is None else self.sampler.draw(random)
        lengths = self._lengths(drawn)
        order = np.lexsort((random.random(len(drawn)), -(lengths // self.tie)))
        buckets = []
        first = 0
        while first < len(order):
            longest = int(lengths[order[first : first + 1 + self.bucket_samples // self.tie]].max())
            last = first + max(1, self.bucket_samples // longest)
            members = drawn[order[first:last]]
            buckets.append(Bucket(members, self._common_length(members)))
            first = last
        shuffled = [buckets[number] for number in random.permutation(len(buckets))]
        return self._fill(shuffled)

    def _lengths(self, members: np.ndarray) -> np.ndarray:
        return self.lengths[self.which(members)[0]]

    def _common_length(self, members: np.ndarray) -> int:
        """Samples that a bucket is cropped or padded to; crops come in few lengths, which prepared operations like."""
        if not self.crop:
            return int(self._lengths(members).max())
        shortest = int(self._lengths(members).min())
        return shortest // CROP_SAMPLES * CROP_SAMPLES or shortest

    def _fill(self, buckets: list[Bucket]) -> list[list[Bucket]]:
        """Consecutive buckets as updates of nearly equal audio, none of them empty."""
        audio = np.array([len(bucket.members) * bucket.samples for bucket in buckets])
        count = min(max(1, round(audio.sum() / self.update_samples)), len(buckets))
        middles = np.cumsum(audio) - audio / 2
        cuts = np.searchsorted(middles, audio.sum() * np.arange(1, count) / count)
        updates = [part.tolist() for part in np.split(np.arange(len(buckets)), cuts) if len(part)]
        return [[buckets[number] for number in part] for part in updates]

    def updates_from(self, position: Position) -> Iterator[tuple[list[Bucket], Position]]:
        """Updates without end, each with the position after it; starts anywhere at the cost of planning one epoch."""
        epoch, index = position.epoch, position.index
        while True:
            updates = self.epoch(epoch)
            for number in range(index, len(updates)):
                after = Position(epoch, number + 1) if number + 1 < len(updates) else Position(epoch + 1, 0)
                yield updates[number], after
            epoch, index = epoch + 1, 0


def share(buckets: list[Bucket], micro_samples: int, rank: int = 0, ranks: int = 1) -> list[Bucket]:
    """The micro-batches of one process: buckets cut to at most `micro_samples` of audio each, dealt out by size.

    Buckets are cut further where there are fewer pieces than processes; with fewer utterances than processes the last
    ones get nothing.
    """
    pieces = []
    for bucket in buckets:
        parts = -(-len(bucket.members) // max(1, micro_samples // bucket.samples))
        pieces += [Bucket(members, bucket.samples) for members in np.array_split(bucket.members, parts)]
    while len(pieces) < ranks or len(pieces) % ranks:
        pieces.sort(key=lambda piece: len(piece.members) * piece.samples, reverse=True)
        largest = next((piece for piece in pieces if len(piece.members) > 1), None)
        if largest is None:
            break
        pieces.remove(largest)
        pieces += [Bucket(members, largest.samples) for members in np.array_split(largest.members, 2)]
    pieces.sort(key=lambda piece: len(piece.members) * piece.samples, reverse=True)
    return pieces[rank::ranks]
