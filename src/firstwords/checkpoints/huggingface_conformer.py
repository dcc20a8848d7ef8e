"""Hugging Face's Wav2Vec2-Conformer: its part of config.json, and what lies in its weights and is never used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from firstwords.errors import CheckpointError
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.conformer import ConformerConfig
from firstwords.nn.transformer import TransformerConfig

CONFORMER = "wav2vec2-conformer"
"""Its model type."""
_POSITIONS: dict[Any, Literal["relative", "rotary", "none"]] = {
    "relative": "relative", "rotary": "rotary", None: "none",
}  # fmt: skip
_ACTIVATIONS: dict[Any, Literal["swish", "gelu"]] = {"swish": "swish", "silu": "swish", "gelu": "gelu"}
_POSITION_CONVOLUTION = "encoder.pos_conv_embed.conv."
_RATES = "encoder.embed_positions.inv_freq"
_COUNT = "encoder.layers.{}.conv_module.batch_norm.num_batches_tracked"


def with_conformer(encoder: EncoderConfig, values: Mapping[str, Any], folder: Path) -> EncoderConfig:
    """The encoder with the blocks that config.json describes.

    Raises:
        CheckpointError: positions or an activation that are not known.
    """
    positions, activation = values.get("position_embeddings_type", "relative"), values.get("hidden_act", "gelu")
    for key, value, known in (
        ("position_embeddings_type", positions, _POSITIONS),
        ("hidden_act", activation, _ACTIVATIONS),
    ):
        if value not in known:
            read = ", ".join(map(repr, known))
            raise CheckpointError(f"{folder}: config.json has {key} = {value!r}; of a Conformer only {read} are read")
    conformer = ConformerConfig(
        positions=_POSITIONS[positions],
        kernel=values.get("conv_depthwise_kernel_size", 31),
        activation=_ACTIVATIONS[activation],
        rotary_base=values.get("rotary_embedding_base", 10000),
    )
    blocks = replace(encoder.transformer, block="conformer", conformer=conformer, norm_first=True, adapter_dim=0)
    return replace(encoder, transformer=blocks)


def dropout_notes(values: Mapping[str, Any]) -> list[str]:
    """What the user should know of dropouts, of which one is used at the end of each part of a block."""
    kept = values.get("hidden_dropout", 0.1)
    others = {key: values.get(key, 0.1) for key in ("attention_dropout", "conformer_conv_dropout")}
    different = [f"{key} {value}" for key, value in others.items() if value != kept]
    if not different:
        return []
    return [f"in training, attention and convolution end with hidden_dropout ({kept}), not {' and '.join(different)}"]


def drop_unused(weights: dict[str, Tensor], encoder: EncoderConfig, folder: Path) -> None:
    """Takes out what transformers keeps and does not use: a position convolution, and counters of batch norms.

    Raises:
        CheckpointError: rates of rotation that are not those of the configuration.
    """
    for name in [name for name in weights if name.startswith(_POSITION_CONVOLUTION)]:
        del weights[name]
    for number in range(encoder.transformer.layers):
        weights.pop(_COUNT.format(number), None)
    found, blocks = weights.get(_RATES), encoder.transformer
    if found is not None and blocks.conformer.positions == "rotary":
        expected = _rates(blocks)
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-2):
            raise CheckpointError(
                f"{folder}: config.json and the weights contradict each other: {_RATES} is not that of "
                f"rotary_embedding_base {blocks.conformer.rotary_base}"
            )
        del weights[_RATES]


def unused_weights(encoder: EncoderConfig) -> dict[str, Tensor]:
    """The same for transformers, which would miss them: a position convolution that would add nothing."""
    blocks = encoder.transformer
    kernel, groups = blocks.position_kernel, blocks.position_groups
    weights = {
        _POSITION_CONVOLUTION + "bias": torch.zeros(blocks.dim),
        _POSITION_CONVOLUTION + "parametrizations.weight.original0": torch.zeros(1, 1, kernel),
        _POSITION_CONVOLUTION + "parametrizations.weight.original1": torch.ones(
            blocks.dim, blocks.dim // groups, kernel
        ),
    }
    if blocks.conformer.positions == "rotary":
        weights[_RATES] = _rates(blocks)
    return weights | {_COUNT.format(number): torch.tensor(0) for number in range(blocks.layers)}


def conformer_values(blocks: TransformerConfig) -> dict[str, Any]:
    """Its part of config.json."""
    return {
        "hidden_act": blocks.conformer.activation,
        "position_embeddings_type": None if blocks.conformer.positions == "none" else blocks.conformer.positions,
        "rotary_embedding_base": blocks.conformer.rotary_base,
        "conv_depthwise_kernel_size": blocks.conformer.kernel,
        "conformer_conv_dropout": blocks.dropout,
    }


def _rates(blocks: TransformerConfig) -> Tensor:
    """(d / 2,) radians a frame."""
    width = blocks.dim // blocks.heads
    return 1.0 / (blocks.conformer.rotary_base ** (torch.arange(0, width, 2).float() / width))
