"""Ctrl-C and SIGTERM as a wish to stop after the current update."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `signal`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came, None while none has."""
        self._before: dict[int, Any] = {}

    def _receive(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __enter__(self) -> StopSignals:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread, which alone may handle signals
            self._before = {}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, while `interrupting`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does, so that work which is no training stops where it stands and leaves no halves.

    A training within it finishes its update first, as `StopSignals` has it.

    Raises:
        Interrupted: one of the two came.
    """

    def receive(number: int, frame: Any) -> None:
        raise Interrupted(number)

    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not the main thread, which alone may handle signals
        for one in (signal.SIGINT, signal.SIGTERM):
            before[one] = signal.signal(one, receive)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
