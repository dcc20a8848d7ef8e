"""A network made ready to transcribe: its precision chosen, and computed once what never changes."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch

from firstwords.models.heads import CTCModel
from firstwords.models.wav2letter import AcousticModel
from firstwords.nn.log_mel import LogMel
from firstwords.nn.position_convolution import FixedPositionConvolution, PositionConvolution
from firstwords.nn.precision import fast_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]
RecognizerModel = CTCModel | AcousticModel
"""The networks that transcribe: both have `front` and `transition_scores`, and give emissions of waveforms."""
Model = TypeVar("Model", bound=RecognizerModel)


def for_inference(model: Model, precision: Precision = "auto", device: str = "cpu") -> Model:
    """The same model, changed in place: evaluation mode, no gradients, weights in `precision` on `device`.

    With bfloat16 all products are; group and layer norms take their statistics in float32, and logits come out as
    bfloat16; "auto" takes it where the hardware is fast at it. The position convolution's weight is materialised.
    Features that an acoustic model stands on stay in float32: they were so when it learnt.
    """
    if precision == "auto":
        precision = "bfloat16" if fast_bfloat16(torch.device(device)) else "float32"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model.eval().requires_grad_(False).to(device)
    if isinstance(model, AcousticModel):
        model.network.to(dtype)
        return model
    network: Any = model
    transformer = network.encoder.transformer
    if isinstance(transformer.position, PositionConvolution):
        transformer.position = FixedPositionConvolution(transformer.position, dtype)
    if dtype != torch.float32:
        model.to(dtype)
        if isinstance(network.encoder.feature_encoder, LogMel):  # its constants would lose digits
            network.encoder.feature_encoder = LogMel(dtype).to(device)
    return model
