"""fairseq's names for the parts of vq-wav2vec and for its configuration; what it shares with wav2vec is there."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from firstwords.checkpoints.fairseq_wav2vec import noise_contrast_config, our_layout, our_name, wav2vec_encoder_config
from firstwords.errors import CheckpointError
from firstwords.models.vq_wav2vec import VqQuantizerConfig, VqWav2VecConfig, VqWav2VecEncoderConfig


def vq_wav2vec_config(
    cfg: Mapping[str, Any], loss_weights: Sequence[float] = (), infonce: bool = False, normalize: bool = False
) -> VqWav2VecConfig:
    """Our configuration from fairseq's `cfg.model`.

    Args:
        cfg: the mapping under `model` (or the old `args`); what it lacks has fairseq's default.
        loss_weights: of the criterion; the one there may be is the quantiser's.
        infonce: `criterion.infonce`.
        normalize: `task.normalize`.
    """
    cfg = _DEFAULTS | dict(cfg)
    if cfg["vq_type"] not in ("gumbel", "kmeans"):
        raise CheckpointError(f"vq_type = {cfg['vq_type']!r}: only 'gumbel' and 'kmeans' are read")
    temperature = cfg["vq_temp"]
    start, end, decay = map(float, ast.literal_eval(temperature) if isinstance(temperature, str) else temperature)
    shared = wav2vec_encoder_config(cfg, normalize)
    quantizer = VqQuantizerConfig(
        kind=cfg["vq_type"],
        groups=cfg["vq_groups"],
        entries=cfg["vq_vars"],
        dim=cfg["vq_dim"] or 0,
        depth=cfg["vq_depth"],
        activation=shared.latent_encoder.activation,
        shared=cfg["combine_groups"],
        temperature_start=start,
        temperature_end=end,
        temperature_decay=decay,
        commitment=cfg["vq_gamma"],
    )
    return VqWav2VecConfig(
        encoder=VqWav2VecEncoderConfig(**vars(shared), quantizer=quantizer),
        steps=cfg["prediction_steps"],
        prediction_dropout=cfg["dropout"],
        contrast=noise_contrast_config(cfg, infonce),
        quantizer_weight=float(loss_weights[0]) if loss_weights else 0.0,
    )


def vq_wav2vec_weights(state: Mapping[str, Tensor], config: VqWav2VecConfig) -> dict[str, Tensor]:
    """fairseq's weights (or gradients) under our names."""
    return {_our_name(name, config): _our_layout(name, value, config) for name, value in state.items()}


_QUANTIZER = "vector_quantizer."
_DEFAULTS: dict[str, Any] = {
    "prediction_steps": 12, "dropout": 0.0, "vq_type": "none", "vq_vars": 320, "vq_groups": 2, "vq_dim": 0,
    "vq_depth": 1, "combine_groups": False, "vq_temp": (2.0, 0.5, 0.999995), "vq_gamma": 0.25,
}  # fmt: skip


def _our_name(name: str, config: VqWav2VecConfig) -> str:
    if not name.startswith(_QUANTIZER):
        return our_name(name)
    inside = "encoder.quantizer."
    part, *rest = name.removeprefix(_QUANTIZER).split(".")
    if part in ("vars", "embedding") and not rest:
        return inside + "codebooks"
    if part == "projection" and len(rest) == 2 and rest[0] in "01":
        return f"{inside}{('projection', 'norm')[int(rest[0])]}.{rest[1]}"
    if part == "weight_proj" and rest:
        *layer, kind = rest
        if layer in ([], [str(config.encoder.quantizer.depth - 1)]):
            return f"{inside}logits.{kind}"
        if len(layer) == 2 and layer[0].isdigit():  # a linear layer and its activation, which lie flat here
            return f"{inside}inner.{2 * int(layer[0])}.{kind}"
    raise CheckpointError(f"{name}: not a part of vq-wav2vec that fairseq's published models have")


def _our_layout(name: str, value: Tensor, config: VqWav2VecConfig) -> Tensor:
    """Codebooks are (1 or G, V, d) here."""
    if name == _QUANTIZER + "vars":
        return value.view(-1, config.encoder.quantizer.entries, value.shape[-1])
    if name == _QUANTIZER + "embedding":
        return value.transpose(0, 1).contiguous()
    return our_layout(name, value)
