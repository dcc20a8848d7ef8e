"""Hugging Face's names for the parts of wav2vec 2.0, its Conformer, HuBERT and WavLM: one table to read and write."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.transformer import TransformerConfig

Names = dict[str, tuple[str, ...]]
"""Ours to theirs; several of theirs are one of ours, one above the other."""

_IN_BLOCK = {
    "attention_output": "attention.out_proj",
    "attention_norm": "layer_norm",
    "feed_forward_in": "feed_forward.intermediate_dense",
    "feed_forward_out": "feed_forward.output_dense",
    "feed_forward_norm": "final_layer_norm",
}
_IN_CONFORMER = {
    **{
        f"{our}.{part}": f"{their}{name}"
        for our, their in (("first", "ffn1"), ("second", "ffn2"))
        for part, name in (("norm", "_layer_norm"), ("inward", ".intermediate_dense"), ("outward", ".output_dense"))
    },
    "attention.norm": "self_attn_layer_norm",
    "attention.attention_output": "self_attn.linear_out",
    "convolution.norm": "conv_module.layer_norm",
    "convolution.batch_norm": "conv_module.batch_norm",
    "norm": "final_layer_norm",
}
_ALONE_IN_CONFORMER = {
    "convolution.inward.weight": "conv_module.pointwise_conv1.weight",
    "convolution.depthwise.weight": "conv_module.depthwise_conv.weight",
    "convolution.outward.weight": "conv_module.pointwise_conv2.weight",
    "convolution.batch_norm.running_mean": "conv_module.batch_norm.running_mean",
    "convolution.batch_norm.running_variance": "conv_module.batch_norm.running_var",
}
_BY_DISTANCE = {
    "attention.distances.weight": "self_attn.linear_pos.weight",
    "attention.content_bias": "self_attn.pos_bias_u",
    "attention.distance_bias": "self_attn.pos_bias_v",
}
_POINTWISE = ("convolution.inward.weight", "convolution.outward.weight")
_ADAPTER = {"norm": "norm", "down": "linear_1", "up": "linear_2"}


def encoder_names(config: EncoderConfig) -> Names:
    """Names of the encoder's parameters, ours without "encoder.", theirs without "wav2vec2."."""
    names: Names = {"mask_embedding": ("masked_spec_embed",)}
    kinds = ("weight", "bias")
    for number in range(len(config.feature_encoder.channels)):
        theirs = f"feature_extractor.conv_layers.{number}"
        names[f"feature_encoder.layers.{number}.weight"] = (f"{theirs}.conv.weight",)
        if config.feature_encoder.bias:
            names[f"feature_encoder.layers.{number}.bias"] = (f"{theirs}.conv.bias",)
        if config.feature_encoder.norm == "layer" or number == 0:
            for kind in kinds:
                names[f"feature_encoder.norms.{number}.{kind}"] = (f"{theirs}.layer_norm.{kind}",)
    for kind in kinds:
        if config.latent_norm:
            names[f"latent_norm.{kind}"] = (f"feature_projection.layer_norm.{kind}",)
        names[f"projection.{kind}"] = (f"feature_projection.projection.{kind}",)
        names[f"transformer.norm.{kind}"] = (f"encoder.layer_norm.{kind}",)
    if config.transformer.block == "conformer":
        return names | _conformer_names(config.transformer)
    position = "encoder.pos_conv_embed.conv"
    names["transformer.position.bias"] = (f"{position}.bias",)
    names["transformer.position.gain"] = (f"{position}.parametrizations.weight.original0",)
    names["transformer.position.direction"] = (f"{position}.parametrizations.weight.original1",)
    if config.transformer.relative_buckets:
        names["transformer.relative_positions.table"] = ("encoder.layers.0.attention.rel_attn_embed.weight",)
    for number in range(config.transformer.layers):
        ours, theirs = f"transformer.blocks.{number}", f"encoder.layers.{number}"
        for kind in kinds:
            names[f"{ours}.attention_inputs.{kind}"] = tuple(f"{theirs}.attention.{x}_proj.{kind}" for x in "qkv")
            names |= {f"{ours}.{our}.{kind}": (f"{theirs}.{their}.{kind}",) for our, their in _IN_BLOCK.items()}
            if config.transformer.relative_buckets:
                gate = f"{theirs}.attention.gru_rel_pos_linear.{kind}"
                names[f"{ours}.position_gate.projection.{kind}"] = (gate,)
            if config.transformer.adapter_dim:
                names |= {
                    f"{ours}.adapter.{our}.{kind}": (f"{theirs}.adapter_layer.{their}.{kind}",)
                    for our, their in _ADAPTER.items()
                }
        if config.transformer.relative_buckets:
            names[f"{ours}.position_gate.scale"] = (f"{theirs}.attention.gru_rel_pos_const",)
    return names


def _conformer_names(config: TransformerConfig) -> Names:
    """Of the blocks."""
    names: Names = {}
    alone = _ALONE_IN_CONFORMER | (_BY_DISTANCE if config.conformer.positions == "relative" else {})
    for number in range(config.layers):
        ours, theirs = f"transformer.blocks.{number}", f"encoder.layers.{number}"
        for kind in ("weight", "bias"):
            inputs = tuple(f"{theirs}.self_attn.linear_{x}.{kind}" for x in "qkv")
            names[f"{ours}.attention.attention_inputs.{kind}"] = inputs
            names |= {f"{ours}.{our}.{kind}": (f"{theirs}.{their}.{kind}",) for our, their in _IN_CONFORMER.items()}
        names |= {f"{ours}.{our}": (f"{theirs}.{their}",) for our, their in alone.items()}
    return names


PRETRAINING_NAMES: Names = {
    "quantizer.codebooks": ("quantizer.codevectors",),
    **{f"quantizer.logits.{kind}": (f"quantizer.weight_proj.{kind}",) for kind in ("weight", "bias")},
    **{f"target_projection.{kind}": (f"project_q.{kind}",) for kind in ("weight", "bias")},
    **{f"context_projection.{kind}": (f"project_hid.{kind}",) for kind in ("weight", "bias")},
}
"""Names of the pre-training model's other parameters."""

CTC_NAMES: Names = {f"output.{kind}": (f"lm_head.{kind}",) for kind in ("weight", "bias")}
"""Names of the recogniser's output layer."""


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that transformers writes today: older files call some of them otherwise."""
    renamed = {}
    for name, value in weights.items():
        for old, new in (
            ("mask_time_emb_vector", "masked_spec_embed"),
            ("pos_conv_embed.conv.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
            ("pos_conv_embed.conv.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
        ):
            if name.endswith(old):
                name = name.removesuffix(old) + new
        renamed[name] = value
    return renamed


def to_ours(weights: dict[str, Tensor], names: Names, start: str = "") -> dict[str, Tensor]:
    """Takes the named weights out of `weights` (theirs) as ours under `start`; what is missing is left out."""
    ours = {}
    for our, theirs in names.items():
        parts = [weights.pop(their) for their in theirs if their in weights]
        if len(parts) == len(theirs):
            ours[start + our] = _our_shape(our, torch.cat(parts) if len(parts) > 1 else parts[0])
    return ours


def to_theirs(weights: Mapping[str, Tensor], names: Names, start: str = "", prefix: str = "") -> dict[str, Tensor]:
    """Our weights under their names, with `prefix` before each. Raises KeyError where one is missing."""
    theirs = {}
    for our, their in names.items():
        value = _their_shape(our, weights[start + our])
        for name, part in zip(their, value.chunk(len(their)) if len(their) > 1 else (value,), strict=True):
            theirs[prefix + name] = part.contiguous()
    return theirs


def _our_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith(_POINTWISE) and value.ndim == 3:
        return value.squeeze(2)
    return value.flatten() if name.endswith("position_gate.scale") else value


def _their_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith("position_gate.scale"):
        return value.view(1, -1, 1, 1)
    if name.endswith(_POINTWISE):
        return value[:, :, None]
    return value.flatten(0, 1)[None] if name == "quantizer.codebooks" else value
