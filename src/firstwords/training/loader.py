"""Reads ahead of the model: threads decode recordings while an update runs (decoders release the interpreter)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.batches import Bucket, Position, UpdatePlan, share
from firstwords.corpus.languages import LanguageSampler
from firstwords.training.config import TrainingConfig
from firstwords.training.processes import Processes

Batch = TypeVar("Batch")


def audio_loader(
    lengths: np.ndarray,
    load: Callable[[Bucket, int], Batch | None],
    sizes: TrainingConfig,
    seed: int,
    processes: Processes,
    crop: bool = False,
    sampler: LanguageSampler | None = None,
) -> Loader[Batch]:
    """A loader of utterances of so many samples (N,), in updates and micro-batches as `sizes` says in seconds.

    The other arguments are those of `UpdatePlan` and `Loader`.
    """
    update, bucket, micro = (
        round(seconds * SAMPLE_RATE)
        for seconds in (sizes.batch_seconds, sizes.bucket_seconds, sizes.micro_batch_seconds)
    )
    plan = UpdatePlan(lengths, update, bucket, crop=crop, seed=seed, sampler=sampler)
    return Loader(plan, load, micro, processes.rank, processes.count, sizes.workers)


class Loader(Generic[Batch]):
    """Yields the micro-batches of one update after another, for one process.

    Args:
        plan: what each update holds.
        load: makes a micro-batch of a bucket for an update; None where none of its recordings could be read. Called in
            threads; what it draws must depend on (update, utterance) alone.
        micro_samples: most audio of a micro-batch.
        rank, ranks: this process among those that train together.
        workers: threads.
    """

    def __init__(
        self,
        plan: UpdatePlan,
        load: Callable[[Bucket, int], Batch | None],
        micro_samples: int,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 2,
    ) -> None:
        self.plan = plan
        self.load = load
        self.micro_samples = micro_samples
        self.rank = rank
        self.ranks = ranks
        self.workers = workers
        self.waited = 0.0
        """Seconds that the caller has waited for data so far."""

    def updates(self, update: int, position: Position, last: int) -> Iterator[tuple[list[Batch], Position]]:
        """Micro-batches of updates `update` to `last` (exclusive), each with the position in the data after it."""
        source = self.plan.updates_from(position)
        ahead: deque[tuple[list[Future[Batch | None]], Position]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            try:
                for number in range(update, last):
                    while number + len(ahead) < last and sum(len(jobs) for jobs, _ in ahead) <= self.workers:
                        buckets, after = next(source)
                        pieces = share(buckets, self.micro_samples, self.rank, self.ranks)
                        coming = number + len(ahead)
                        ahead.append(([pool.submit(self.load, piece, coming) for piece in pieces], after))
                    jobs, after = ahead.popleft()
                    started = time.perf_counter()
                    batches = [job.result() for job in jobs]
                    self.waited += time.perf_counter() - started
                    yield [batch for batch in batches if batch is not None], after
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
