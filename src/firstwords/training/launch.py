"""Several processes of this machine for one run: what torchrun does across machines, without its command line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from firstwords.errors import FirstwordsError


def in_processes(count: int, work: Callable[..., int], *arguments: Any) -> int:
    """`work(*arguments)` in `count` processes that find each other as Processes does; here, where one is enough.

    Signals go on to all processes. They share this machine's processor: each has its part of the threads.

    Args:
        count: processes. Under torchrun, which has started them already, it is not looked at.
        work: a function of a module, called in each process.
        arguments: what it takes; they must pickle.

    Returns:
        What `work` returned in the first process.

    Raises:
        FirstwordsError: the error that ended one of the processes; the others are stopped.
        RuntimeError: a process ended in any other way; its traceback is the message.
    """
    if count == 1 or "WORLD_SIZE" in os.environ:
        return work(*arguments)
    # Read when torch is imported. Its one warning here, that no parameter was unused so far, is nothing to a user.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    family: list[SpawnProcess] = []
    answers: list[Connection] = []
    for rank in range(count):
        answer, tell = context.Pipe(duplex=False)
        process = context.Process(
            target=_member, args=(rank, count, port, tell, work, arguments), name=f"firstwords-{rank}", daemon=True
        )
        process.start()
        tell.close()  # so that a process that dies closes the last end
        family.append(process)
        answers.append(answer)
    with _Forwarding(family):
        try:
            return _gather(answers)
        finally:
            for process in family:
                process.join(timeout=10)
                if process.is_alive():
                    process.kill()
                    process.join()


def _gather(answers: list[Connection]) -> int:
    """What rank 0 returned, once all have answered; else why one could not.

    Where one process ends with an error that says what is wrong, others fail too, as it no longer answers them: so the
    others' last words count only if no such error follows within some seconds.
    """
    waiting = dict(enumerate(answers))
    codes: dict[int, int] = {}
    crashed: list[str] = []
    while waiting:
        ready = wait(list(waiting.values()), timeout=5 if crashed else None)
        if not ready:
            break
        for rank in [rank for rank, answer in waiting.items() if answer in ready]:
            try:
                outcome = waiting.pop(rank).recv()
            except EOFError:
                outcome = "it died without a word"
            if isinstance(outcome, FirstwordsError):
                raise outcome
            if isinstance(outcome, str):
                crashed.append(f"process {rank} of {len(answers)}: {outcome}")
            else:
                codes[rank] = outcome
    if crashed:
        raise RuntimeError("\n".join(crashed))
    return codes[0]


def _member(
    rank: int, count: int, port: int, tell: Connection, work: Callable[..., int], arguments: tuple[Any, ...]
) -> None:
    """One of the processes. In a session of its own, so that Ctrl-C reaches it once: through its parent."""
    with suppress(AttributeError, OSError):
        os.setsid()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        tell.send(work(*arguments))
    except FirstwordsError as error:
        tell.send(error)
    except KeyboardInterrupt:  # a second signal: at once
        tell.send(128 + signal.SIGINT)
    except Exception:
        tell.send(traceback.format_exc())


def _leave_with_parent() -> None:
    """A run whose parent was killed must not go on writing beside the one that is started in its place."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Forwarding:
    """While entered, SIGINT and SIGTERM go to the processes, which end in their own way."""

    def __init__(self, family: list[SpawnProcess]) -> None:
        self.family = family
        self._before: dict[int, Any] = {}

    def _forward(self, number: int, frame: Any) -> None:
        for process in self.family:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def __enter__(self) -> None:
        with suppress(ValueError):  # only the main thread may handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._forward)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
