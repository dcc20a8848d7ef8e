"""Ctrl-C and SIGTERM as a wish to stop after the current update."""

from __future__ import annotations

import signal
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
