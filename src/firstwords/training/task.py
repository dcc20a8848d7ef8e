"""What the training loop asks of an objective."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from firstwords.training.loader import Loader

Batch = TypeVar("Batch")
Sums = dict[str, Tensor]
"""Named sums that add over micro-batches, processes and updates."""


class Task(Protocol[Batch]):
    """An objective: how to load a micro-batch, what its loss is, and how to tell what happened."""

    kind: str
    """Of its checkpoints."""
    best_is_low: str
    """The validation figure that chooses the best checkpoint; lower is better. A task with a `patience` ends after so
    many validations without a better one."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def loader(self) -> Loader[Batch]:
        """Where micro-batches come from."""

    def count(self, batches: list[Batch]) -> Tensor:
        """(n,) counts of this process's part of an update, float64: what divides the loss, ..., seconds of audio.

        A task that learns from text says so (`unit = "symbols"`), and its last count is symbols. One that tells
        languages apart names them (`languages`) and has `heard(batches)`, (L,) seconds of each, float64.
        """

    def survey(self, batches: list[Batch], update: int, counts: Tensor, lacking: bool = False) -> Any:
        """What the loss of each part needs to know of the whole update; `lacking`: some process has no part."""

    def loss(self, module: nn.Module, batch: Batch, update: int, counts: Tensor, whole: Any) -> tuple[Tensor, Sums]:
        """This micro-batch's share of the update's loss, and sums for the log."""

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log from summed sums."""

    def line(self, figures: dict[str, float]) -> str:
        """The same for a person, on one line."""

    def validate(self, update: int) -> dict[str, float]:
        """Figures on the validation split, computed by the main process; empty where there is none."""

    def examples(self) -> list[str]:
        """A few lines that let a person judge the last validation."""

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """Verdict on the run's health, and a sentence when it changes."""

    def state(self) -> dict[str, Any]:
        """What the checkpoint should hold besides weights (alphabet, source)."""

    def config(self) -> dict[str, Any]:
        """The model's configuration, as plain containers."""
