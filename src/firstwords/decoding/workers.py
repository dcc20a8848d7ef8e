"""Decoding in processes of its own, beside the network: a beam search holds the interpreter for itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from firstwords.decoding.beam import BeamDecoder
from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.options import DecoderConfig, make_beam_decoder
from firstwords.decoding.settings import SearchSettings
from firstwords.errors import FirstwordsError
from firstwords.text.alphabet import Alphabet

if TYPE_CHECKING:
    from torch import Tensor

LOST = "a decoding process died, perhaps for want of memory; take fewer with --processes, or a smaller --beam"


class Pending:
    """Utterances that are being decoded."""

    def __init__(self, futures: Sequence[Future[list[Hypothesis]]]) -> None:
        self._futures = futures

    def result(self) -> list[list[Hypothesis]]:
        """Readings of each utterance, best first, when they are there.

        Raises:
            FirstwordsError: what went wrong in a process.
        """
        try:
            return [one.result() for one in self._futures]
        except BrokenProcessPool as error:
            raise FirstwordsError(LOST) from error


class DecoderPool:
    """A `Decoder` over several processes; each reads language model and lexicon once.

    Fresh interpreters are started ("spawn"), for a network may hold locks and a GPU here. They end with `close`, with
    this object, or with this process however it ends.

    Args:
        config: the decoder, and how many `processes`.
        alphabet: of the emissions.
        transitions: (V, V) of a recogniser trained with ASG.

    Raises:
        FirstwordsError: whatever `make_decoder` raises, from a process.
    """

    def __init__(self, config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None = None) -> None:
        self.config = config
        own = replace(config, processes=0)
        self._pool = ProcessPoolExecutor(
            max(1, config.processes or 0),
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(own, alphabet, transitions),
        )

    @property
    def settings(self) -> SearchSettings:
        """The weights and limits in use. Waits until a process has read its model."""
        return self._state()[0]

    @property
    def note(self) -> str:
        """What its user should know. Waits as `settings` does."""
        return self._state()[1]

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """Readings of each utterance's log probabilities (T, V), best first."""
        return self.start(emissions).result()

    def start(self, emissions: list[Tensor], settings: SearchSettings | None = None) -> Pending:
        """The same without waiting, perhaps with other settings.

        Raises:
            FirstwordsError: the processes are gone.
        """
        try:
            return Pending([self._pool.submit(_decode, one.numpy(), settings) for one in emissions])
        except BrokenProcessPool as error:
            raise FirstwordsError(LOST) from error

    def close(self) -> None:
        """Ends the processes; what was not begun is not done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _state(self) -> tuple[SearchSettings, str]:
        try:
            return self._pool.submit(_state).result()
        except BrokenProcessPool as error:
            raise FirstwordsError(LOST) from error


_decoder: BeamDecoder | FirstwordsError | None = None
"""Of this process, if it is one of a pool."""


def _begin(config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None) -> None:
    """Makes the decoder. An error waits for the first task, which can tell the parent."""
    global _decoder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _decoder = make_beam_decoder(config, alphabet, transitions)
    except FirstwordsError as error:
        _decoder = error


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes, and its end of their queue stays open in each of them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _made() -> BeamDecoder:
    if isinstance(_decoder, FirstwordsError):
        raise _decoder
    assert _decoder is not None
    return _decoder


def _state() -> tuple[SearchSettings, str]:
    return _made().settings, _made().note


def _decode(emissions: np.ndarray, settings: SearchSettings | None) -> list[Hypothesis]:
    return _made().decode(emissions, settings)
