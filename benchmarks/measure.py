"""Times contenders in turn, each in a process of its own, so that a drifting machine is alike for all of them.

Round by round every contender does its work once: A B C, A B C, ... Ratios are taken within a round; the table has
their median and quartiles. Memory is the most that a process held while it worked. The ceiling is the rate of a plain
matrix product, measured in the same rounds.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

Step = Callable[[], "dict[str, float] | None"]
"""Does the work once; may return the seconds that its parts took."""


@dataclass(frozen=True)
class Contender:
    """Something to time."""

    name: str
    prepare: Callable[..., Step]
    """A function of a module, called in the contender's process."""
    arguments: tuple[Any, ...] = ()
    flop: float = 0.0
    """Arithmetic of one step; 0: not compared with the ceiling."""


@dataclass
class Timing:
    """What was measured of one contender."""

    name: str
    seconds: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    peak_mb: float = 0.0
    held_mb: float = 0.0
    """Before the first step: interpreter, libraries, weights."""
    flop: float = 0.0
    error: str = ""


CEILING = "ceiling: matrix product"
CEILING_SIZE = 2048


def interleave(
    contenders: Sequence[Contender], rounds: int, threads: int, precision: str = "float32", warmup: int = 2
) -> list[Timing]:
    """All contenders, `rounds` times in turn after `warmup` rounds, and a plain matrix product beside them."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    everyone = [*contenders, Contender(CEILING, matrix_product, (precision,), 2.0 * CEILING_SIZE**3)]
    context = multiprocessing.get_context("spawn")
    family, timings = [], [Timing(one.name, flop=one.flop) for one in everyone]
    for one, timing in zip(everyone, timings, strict=True):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, one, threads), daemon=True)
        process.start()
        theirs.close()
        family.append((process, ours))
        _answer(ours, timing)  # one after another: preparing must not disturb
    for number in range(-warmup, rounds):
        for (_, ours), timing in zip(family, timings, strict=True):
            if timing.error:
                continue
            ours.send("step")
            answer = _answer(ours, timing)
            if answer and number >= 0:
                timing.seconds.append(answer["seconds"])
                timing.parts.append(answer["parts"])
    for (process, ours), timing in zip(family, timings, strict=True):
        if not timing.error:
            ours.send("end")
            answer = _answer(ours, timing) or {}
            timing.peak_mb, timing.held_mb = answer.get("peak_mb", 0.0), answer.get("held_mb", 0.0)
        process.join(timeout=10)
    return timings


def _answer(pipe: Connection, timing: Timing) -> dict[str, Any] | None:
    try:
        answer = pipe.recv()
    except EOFError:
        answer = {"error": "its process died"}
    timing.error = answer.get("error", "")
    return None if timing.error else answer


def _work(pipe: Connection, contender: Contender, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        step = contender.prepare(*contender.arguments)
        warm = torch.randn(2, 1024, 1024, requires_grad=True)
        torch.mm(*warm).sum().backward()  # the libraries' own code and buffers are no contender's
        del warm
        with contextlib.suppress(OSError, AttributeError):  # glibc would keep what was freed, and hide as much
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        held = _memory("VmRSS")
        _forget_peak()
        pipe.send({})
        while pipe.recv() == "step":
            synchronize()
            started = time.perf_counter()
            parts = step() or {}
            synchronize()
            pipe.send({"seconds": time.perf_counter() - started, "parts": parts})
        pipe.send({"peak_mb": _memory("VmHWM"), "held_mb": held})
    except Exception as error:
        pipe.send({"error": f"{type(error).__name__}: {error}"})


def matrix_product(precision: str) -> Step:
    """The ceiling: one product of square matrices."""
    a, b = (torch.randn(CEILING_SIZE, CEILING_SIZE, device=device(), dtype=dtype(precision)) for _ in range(2))

    def step() -> None:
        torch.mm(a, b)

    return step


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(precision: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def autocast(precision: str) -> torch.autocast:
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that this process and its children print meanwhile is seen, which may be whole training runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with open(os.devnull, "wb") as nowhere:
        try:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


class Parts:
    """Seconds of the named parts of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        synchronize()
        self._since = time.perf_counter()

    def done(self, name: str) -> None:
        """The part that began at the last call, or at the start, ends here."""
        synchronize()
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def _memory(name: str) -> float:
    """MB: of the GPU's allocator, else of the process as the kernel counts it."""
    if torch.cuda.is_available():
        held = torch.cuda.max_memory_allocated() if name == "VmHWM" else torch.cuda.memory_allocated()
        return held / 2**20
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def ratios(timing: Timing, base: Timing) -> tuple[float, float, float]:
    """How many times as long as `base` takes `timing`, round by round: lower quartile, median, upper quartile."""
    each = sorted(one / other for one, other in zip(timing.seconds, base.seconds, strict=False))
    if len(each) < 2:
        return (each or [float("nan")])[0], (each or [float("nan")])[0], (each or [float("nan")])[0]
    low, middle, high = statistics.quantiles(each, n=4, method="inclusive")
    return low, middle, high


def show(title: str, timings: Sequence[Timing], base: str) -> None:
    """A table: seconds, ratio to `base`, memory, share of the ceiling, and the parts of a step."""
    first = next(timing for timing in timings if timing.name == base)
    ceiling = next(timing for timing in timings if timing.name == CEILING)
    rate = ceiling.flop / statistics.median(ceiling.seconds)
    table = Table("", "median s", f"times {base}", "quartiles", "peak MB", "above start", "of ceiling", title=title)
    for timing in timings:
        if timing.error:
            table.add_row(timing.name, timing.error[:60])
            continue
        seconds = statistics.median(timing.seconds)
        low, middle, high = ratios(timing, first)
        share = f"{timing.flop / seconds / rate:.0%}" if timing.flop else ""
        memory = (f"{timing.peak_mb:.0f}", f"{timing.peak_mb - timing.held_mb:.0f}")
        table.add_row(timing.name, f"{seconds:.4f}", f"{middle:.2f}", f"{low:.2f} - {high:.2f}", *memory, share)
    console = Console(width=130)
    console.print(table)
    for timing in timings:
        if timing.parts and timing.parts[0]:
            names = timing.parts[0]
            shown = {name: statistics.median(part.get(name, 0.0) for part in timing.parts) for name in names}
            console.print(f"  {timing.name}: " + ", ".join(f"{name} {value:.3f} s" for name, value in shown.items()))


def to_json(timings: Sequence[Timing], base: str, **facts: Any) -> dict[str, Any]:
    """Facts of the run and each contender's figures."""
    first = next(timing for timing in timings if timing.name == base)
    rows = []
    for timing in timings:
        if timing.error:
            rows.append({"name": timing.name, "error": timing.error})
            continue
        low, middle, high = ratios(timing, first)
        rows.append(
            {"name": timing.name, "median_seconds": statistics.median(timing.seconds), f"times_{base}": middle}
            | {"quartiles": [low, high], "peak_mb": timing.peak_mb, "held_mb": timing.held_mb, "flop": timing.flop}
        )
    return facts | {"base": base, "rounds": len(first.seconds), "rows": rows}


def save(path: Path | None, results: list[dict[str, Any]]) -> None:
    """All results with the machine and the versions they were made with."""
    if path is None:
        return
    values = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    amx = " with AMX" if torch.cpu._is_amx_tile_supported() else ""
    return (names[0] if names else platform.processor()) + amx


def _commit() -> str:
    place = Path(__file__).parent
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=place, capture_output=True, text=True
    ).stdout.strip()
