"""Long emissions cut where nothing is said, so that any decoder can read them piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firstwords.errors import ConfigError
from firstwords.losses.ctc import BLANK


@dataclass(frozen=True)
class PieceConfig:
    """How long the pieces are that a decoder reads."""

    seconds: float = 30.0
    """The longest piece."""
    min_seconds: float = 5.0
    """The shortest, the last one excepted."""

    def check(self) -> None:
        """Raises ConfigError."""
        if not 0 < self.min_seconds < self.seconds:
            raise ConfigError(
                f"pieces of {self.min_seconds} s to {self.seconds} s: the first must be positive and less"
            )


@dataclass(frozen=True)
class Piece:
    """Frames that a decoder reads together."""

    log_probabilities: Tensor
    """(T, V)."""
    first: int
    """Its first frame in the recording."""


def cut_pieces(
    parts: Iterable[Tensor], longest: int, shortest: int, silence: Iterator[Tensor] | None = None
) -> Iterator[Piece]:
    """Log probabilities (t, V) that come part by part, as pieces that follow one another.

    A piece is cut in the middle of the longest run of blanks it holds (with `silence`: of frames without a voice), but
    never between two frames of one label: greedy decoding of the pieces, joined, is that of the whole.

    Args:
        parts: of any lengths.
        longest: most frames of a piece.
        shortest: fewest frames before a cut.
        silence: bool (t,) for each part, True where no voice is heard; None looks at blanks alone.
    """
    held: Tensor | None = None
    quiet = torch.zeros(0, dtype=torch.bool)
    first = 0
    for part in parts:
        still = torch.ones(len(part), dtype=torch.bool) if silence is None else next(silence)
        held, quiet = (part, still) if held is None else (torch.cat([held, part]), torch.cat([quiet, still]))
        while len(held) > longest:
            cut = _cut(held[: longest + 1], quiet[: longest + 1], shortest)
            yield Piece(held[:cut], first)
            held, quiet, first = held[cut:], quiet[cut:], first + cut
    if held is not None and len(held):
        yield Piece(held, first)


def _cut(log_probabilities: Tensor, quiet: Tensor, shortest: int) -> int:
    """The first frame of the next piece."""
    best = log_probabilities.argmax(-1)
    blank = best == BLANK
    for candidates in (blank & quiet, blank):
        runs = [(low, high) for low, high in _runs(candidates) if high > shortest]
        runs = [(max(low, shortest), high) for low, high in runs]
        if runs:
            low, high = max(runs, key=lambda run: (run[1] - run[0], run[1]))
            if high - low >= 2 or candidates is not blank:
                return max(1, (low + high) // 2)
    changes = torch.nonzero(best[1:] != best[:-1])[:, 0] + 1  # there a cut divides no label
    changes = changes[changes >= shortest]
    if not len(changes):
        return len(log_probabilities) - 1
    return int(changes[log_probabilities[changes, BLANK].argmax()])


def _runs(flags: Tensor) -> list[tuple[int, int]]:
    """Stretches of True: first place, and the place after the last."""
    edges = torch.diff(torch.nn.functional.pad(flags.to(torch.int8), (1, 1)))
    return list(zip(torch.nonzero(edges == 1)[:, 0].tolist(), torch.nonzero(edges == -1)[:, 0].tolist(), strict=True))
