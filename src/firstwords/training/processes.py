"""One or many processes: who am I, on what device, and sums over all of us (torchrun sets the environment)."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from firstwords.errors import ConfigError


class Processes:
    """This process among those that train together.

    Under `torchrun --nproc-per-node N` the group is joined here (nccl on GPUs, gloo on CPUs); otherwise there is one
    process, and sums are what they were.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError("device: this machine has no GPU that torch can use; set device to cpu or auto")
        if device == "cuda":
            device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
            torch.cuda.set_device(device)
        self.device = torch.device(device)
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @classmethod
    def alone(cls, device: torch.device) -> Processes:
        """This process by itself, whatever group it belongs to."""
        alone = cls.__new__(cls)
        alone.rank, alone.count, alone.device = 0, 1, device
        return alone

    @property
    def main(self) -> bool:
        """Does this process write the log and the checkpoints?"""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor summed over all processes (a new one)."""
        if self.count == 1:
            return tensor
        total = tensor.detach().to(self.device, copy=True)  # nccl sums on GPUs only
        dist.all_reduce(total)
        return total.to(tensor.device)

    def merge(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named tensors summed over all processes, on the CPU; a process may lack some of them, or all."""
        if self.count == 1:
            return {name: value.cpu() for name, value in sums.items()}
        everyone: list[dict[str, Tensor]] = [{} for _ in range(self.count)]
        dist.all_gather_object(everyone, {name: value.cpu() for name, value in sums.items()})
        merged: dict[str, Tensor] = {}
        for one in everyone:
            for name, value in one.items():
                merged[name] = merged[name] + value if name in merged else value
        return merged

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their mean over all processes, those that have none counting as 0."""
        parameters = list(parameters)
        here = torch.tensor([float(one.grad is not None) for one in parameters])
        used = [one for one, anywhere in zip(parameters, self.sum(here).tolist(), strict=True) if anywhere]
        flat = self.sum(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in used]))
        for one, part in zip(used, flat.split([one.numel() for one in used]), strict=True):
            one.grad = part.view_as(one) / self.count

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        """Leaves the group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
