"""Where a recording holds no voice, by Silero's detector (the extra "vad")."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.errors import MissingExtraError

CHUNK = 512
"""Samples that the detector looks at together (32 ms)."""
VOICE = 0.35
"""Probability of a voice below which a chunk is a pause: Silero's threshold of 0.5 less its hysteresis of 0.15."""


def vad_installed() -> bool:
    """Whether `silero_vad` can be imported."""
    return importlib.util.find_spec("silero_vad") is not None


class VoiceDetector:
    """Silero's voice activity detector over a recording that comes in blocks.

    Raises:
        MissingExtraError: silero-vad is not installed.
    """

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        try:
            from silero_vad import load_silero_vad
        except ImportError as error:
            raise MissingExtraError("finding pauses", "silero-vad", "vad") from error
        self.model: Any = load_silero_vad()
        torch.set_num_threads(threads)  # importing it sets one thread for the whole process

    @torch.inference_mode()
    def voice(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Probability of a voice (n,) in each 32 ms, for blocks of samples (m,) at 16 kHz."""
        self.model.reset_states()
        waiting = torch.zeros(0)
        for block in blocks:
            waiting = torch.cat([waiting, block])
            count = len(waiting) // CHUNK
            chunks = waiting[: count * CHUNK].view(count, CHUNK)
            waiting = waiting[count * CHUNK :]
            if count:
                yield torch.stack([self.model(chunk, SAMPLE_RATE).reshape(()) for chunk in chunks])
        if len(waiting):
            last = torch.nn.functional.pad(waiting, (0, CHUNK - len(waiting)))
            yield self.model(last, SAMPLE_RATE).reshape(1)

    def silence(self, blocks: Iterable[Tensor], hop: int, counts: Iterable[int]) -> Iterator[Tensor]:
        """For each number of frames in `counts`, `hop` samples apart, where no voice is heard: bool (count,)."""
        heard = self.voice(blocks)
        known, dropped = torch.zeros(0), 0  # chunks, and how many before them are gone
        frame = 0
        for count in counts:
            chunks = (torch.arange(frame, frame + count) * hop + hop // 2) // CHUNK
            while dropped + len(known) <= int(chunks[-1]) and (more := next(heard, None)) is not None:
                known = torch.cat([known, more])
            # Beyond the detector's last chunk nothing is heard.
            places = (chunks - dropped).clamp(max=max(len(known) - 1, 0))
            yield known[places] < VOICE if len(known) else torch.ones(count, dtype=torch.bool)
            frame += count
            keep = max(0, min(frame * hop // CHUNK - 1 - dropped, len(known)))
            known, dropped = known[keep:], dropped + keep
