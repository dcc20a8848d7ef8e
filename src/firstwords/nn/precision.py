"""Which arithmetic the hardware is fast at."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Does the hardware multiply bfloat16 faster than float32? Recent GPUs do, and CPUs with AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()
