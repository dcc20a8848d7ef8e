"""All benchmarks in their short form: the tables' ratios in under fifteen minutes on two cores (`make bench`).

    python benchmarks/short.py [--only inference data] [--out results/]

Each is the script of the same name with fewer rounds and its cheapest telling settings; run the scripts themselves for
figures to publish. A peer that is not installed is a row that says so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from measure import device

from firstwords.nn.precision import fast_bfloat16

SHORT: dict[str, str] = {
    "contrastive_loss": "--crops 4x10 --rounds 3",
    "inference": "--lengths 15 60 --rounds 2 --warmup 1 --peers transformers openvino",
    "pretraining_step": "--crops 4x10 --dropouts 0 --rounds 2 --warmup 1",
    "finetuning_step": "--crops 4x10 --dropouts 0 --rounds 2 --warmup 1",
    "data": "--minutes 1 --rounds 3 --runs wav2vec2-tiny",
    "scaling": "--size tiny --lengths 1 15 60 --batches 1 4 --rounds 2 --warmup 1 --updates 10",
}
"""What each is asked, besides threads and precision."""
NO_BFLOAT16 = {
    "inference": "--no-bfloat16",
    "pretraining_step": "--precisions float32",
    "finetuning_step": "--precisions float32",
}
"""Where the processor only imitates bfloat16, at a tenth of the speed, it is left out."""


@dataclass
class Settings:
    """Which of them."""

    only: tuple[str, ...] = tuple(SHORT)
    """Their names."""
    threads: int = 2
    """Of each contender, where a benchmark takes it."""
    out: Path | None = None
    """Folder for their JSON."""


def main() -> int:
    settings = tyro.cli(Settings)
    here = Path(__file__).parent
    started = time.perf_counter()
    failed = []
    for name in settings.only:
        began = time.perf_counter()
        print(f"\n== {name} {SHORT[name]}", flush=True)
        command = [sys.executable, str(here / f"{name}.py"), *SHORT[name].split()]
        if not fast_bfloat16(device()):
            command += NO_BFLOAT16.get(name, "").split()
        if name != "data":
            command += ["--threads", str(settings.threads)]
        if settings.out is not None:
            command += ["--out", str(settings.out / f"{name}.json")]
        if subprocess.run(command).returncode:
            failed.append(name)
        print(f"   {name}: {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    print(f"\nall: {(time.perf_counter() - started) / 60:.1f} minutes" + "".join(f"; {n} failed" for n in failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
