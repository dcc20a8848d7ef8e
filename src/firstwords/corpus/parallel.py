"""Work on many recordings with several threads, in order, with memory for a few of them only."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")

PLAIN_SECONDS = 15.0
"""How often a log file that is no terminal gets a line of progress."""


def default_workers() -> int:
    """Threads to decode with: one per core that this process may use, 16 at the most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16)


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """`map` over threads: results in the order of the items, at most `workers` + 2 of them held at a time.

    soundfile and soxr release the interpreter while they work, so threads are enough. An exception in `function`
    comes out where its result would have; what was waiting is cancelled then.
    """
    count = workers or default_workers()
    pool = ThreadPoolExecutor(count)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes items on and shows how far it is on stderr: a bar on a terminal, else a plain line now and then."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield from _track_plainly(items, total, what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield from progress.track(items, total=total)


class AudioProgress:
    """How much of some audio is done, on stderr: a bar on a terminal, else a plain line now and then.

    `with AudioProgress(total, "transcribing") as progress: ... progress.advance(seconds)`.
    """

    def __init__(self, total: float, what: str) -> None:
        """
        Args:
            total: seconds of audio, as far as is known.
            what: what is being done.
        """
        self.total, self.what, self.done = total, what, 0.0
        self.begun = self.said = time.monotonic()
        console = Console(file=sys.stderr)
        columns = (TextColumn(what), BarColumn(), TextColumn("{task.fields[shown]}"), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("left"), console=console, transient=True)
        self.bar.disable = not console.is_terminal
        self.task = self.bar.add_task(what, total=total, shown="")

    def __enter__(self) -> AudioProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    @property
    def summary(self) -> str:
        """How much audio was done in how long, and the real-time factor (seconds of work for a second of audio)."""
        factor = self.elapsed / max(self.done, 1e-9)
        return f"{_minutes(self.done)} of audio in {_minutes(self.elapsed)}: real-time factor {factor:.3f}"

    def advance(self, seconds: float) -> None:
        """So many seconds of audio more are done."""
        self.done += seconds
        now = time.monotonic()
        speed = self.done / max(now - self.begun, 1e-9)
        shown = f"{_minutes(self.done)} of {_minutes(self.total)}, {speed:.1f} x real time"
        self.bar.update(self.task, completed=min(self.done, self.total), shown=shown)
        if self.bar.disable and now - self.said >= PLAIN_SECONDS:
            self.said = now
            left = max(0.0, self.total - self.done) / max(speed, 1e-9)
            print(f"{self.what}: {shown}, {_minutes(left)} left", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _track_plainly(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    begun = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= PLAIN_SECONDS:
            said = now
            left = (now - begun) / done * (total - done)
            print(f"{what}: {done} of {total}, {left / 60:.1f} min left", file=sys.stderr, flush=True)
