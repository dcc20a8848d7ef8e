"""A network made ready to transcribe: its precision chosen, and computed once what never changes."""

from __future__ import annotations

from typing import Any, Literal

import torch

from firstwords.models.heads import CTCModel
from firstwords.nn.position_convolution import FixedPositionConvolution, PositionConvolution

Precision = Literal["auto", "float32", "bfloat16"]


def for_inference(model: CTCModel, precision: Precision = "auto", device: str = "cpu") -> CTCModel:
    """The same model, changed in place: evaluation mode, no gradients, weights in `precision` on `device`.

    With bfloat16 all products are; group and layer norms take their statistics in float32, and logits come out as
    bfloat16. The position convolution's weight is materialised.
    """
    dtype = precision_on(device) if precision == "auto" else getattr(torch, precision)
    model = model.eval().requires_grad_(False).to(device)
    transformer: Any = model.encoder.transformer
    if isinstance(transformer.position, PositionConvolution):
        transformer.position = FixedPositionConvolution(transformer.position, dtype)
    return model.to(dtype) if dtype != torch.float32 else model


def precision_on(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32: tensor cores, or a processor's AMX or AVX-512
    instructions for it."""
    if device.startswith("cuda"):
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        fast = any(check is not None and check() for check in checks)
    return torch.bfloat16 if fast else torch.float32
