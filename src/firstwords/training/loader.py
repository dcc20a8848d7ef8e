"""Reads ahead of the model: threads decode recordings while an update runs (decoders release the interpreter)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from firstwords.corpus.batches import Bucket, Position, UpdatePlan, share

Batch = TypeVar("Batch")


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
