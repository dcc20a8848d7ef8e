"""Where the golden numbers and the real speech lie, and small made-up recordings for everyone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

torch.set_num_threads(1)
"""Models here are tiny: threads would cost more than they give, most of all beside other work on the machine."""
HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
COPY = HERE / "golden" / "cases"
"""Some of the golden cases, for where no others are."""


def golden_folder() -> Path:
    """FIRSTWORDS_GOLDEN, else ../shared/golden, else the small copy in tests/golden/cases."""
    if chosen := os.environ.get("FIRSTWORDS_GOLDEN"):
        return Path(chosen)
    return SHARED / "golden" if (SHARED / "golden").is_dir() else COPY


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of real speech (FIRSTWORDS_SPEECH, else ../shared/speech); skips where there is none."""
    folder = Path(os.environ.get("FIRSTWORDS_SPEECH", SHARED / "speech"))
    if not folder.is_dir():
        pytest.skip("no real speech here (FIRSTWORDS_SPEECH)")
    return folder


def tone(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """A gliding harmonic sound with a little noise, (samples,) float32, unlike any other seed's."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = random.uniform(90, 260) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.5, 3) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = sum(np.sin(k * phase) * random.uniform(0.1, 1) / k for k in range(1, 8))
    sound = 0.1 * sound + 0.003 * random.standard_normal(len(time))
    return sound.astype(np.float32)


def write_tone(path: Path, seconds: float, seed: int = 0, rate: int = 16_000, **how: str) -> Path:
    """Writes `tone` in the format that the file's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, seed, rate), rate, **how)
    return path
