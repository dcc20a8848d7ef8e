"""fairseq's names for the parts of wav2vec 2.0 and for its configuration (mappings; `fairseq_files` reads files)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from firstwords.errors import CheckpointError
from firstwords.losses.contrastive import ContrastConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Config
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.masking import SpanMaskConfig
from firstwords.nn.quantizer import QuantizerConfig
from firstwords.nn.transformer import TransformerConfig


def wav2vec2_config(cfg: Mapping[str, Any], loss_weights: list[float], normalize: bool) -> Wav2Vec2Config:
    """Our configuration from fairseq's `cfg.model` of a pre-training run.

    Args:
        cfg: the mapping under `model` (or the old `args`); what it lacks has fairseq's default.
        loss_weights: of the criterion: diversity, and feature penalty where there is a second one.
        normalize: `task.normalize`.
    """
    cfg = _DEFAULTS | dict(cfg)
    for key, value in _WANTED.items():
        if cfg.get(key, value) != value:
            raise CheckpointError(f"{key} = {cfg[key]!r}: only {value!r} is read")
    layers = conv_layers(cfg["conv_feature_layers"])
    start, end, decay = _temperatures(cfg["latent_temp"])
    encoder = EncoderConfig(
        feature_encoder=FeatureEncoderConfig(
            channels=tuple(layer[0] for layer in layers),
            kernels=tuple(layer[1] for layer in layers),
            strides=tuple(layer[2] for layer in layers),
            norm="layer" if cfg["extractor_mode"] == "layer_norm" else "group",
            bias=cfg["conv_bias"],
            gradient_scale=cfg["feature_grad_mult"],
        ),
        transformer=TransformerConfig(
            layers=cfg["encoder_layers"],
            dim=cfg["encoder_embed_dim"],
            feed_forward_dim=cfg["encoder_ffn_embed_dim"],
            heads=cfg["encoder_attention_heads"],
            norm_first=cfg["layer_norm_first"],
            position_kernel=cfg["conv_pos"],
            position_groups=cfg["conv_pos_groups"],
            dropout=cfg["dropout"],
            attention_dropout=cfg["attention_dropout"],
            activation_dropout=cfg["activation_dropout"],
            layerdrop=cfg["encoder_layerdrop"],
        ),
        input_dropout=cfg["dropout_input"],
        normalize_waveform=normalize,
    )
    return Wav2Vec2Config(
        encoder=encoder,
        quantizer=QuantizerConfig(
            groups=cfg["latent_groups"],
            entries=cfg["latent_vars"],
            dim=cfg["latent_dim"],
            depth=cfg["quantizer_depth"],
            factor=cfg["quantizer_factor"],
            temperature_start=start,
            temperature_end=end,
            temperature_decay=decay,
        ),
        final_dim=cfg["final_dim"] or cfg["encoder_embed_dim"],
        feature_dropout=cfg["dropout_features"],
        quantize_targets=cfg["quantize_targets"],
        quantize_inputs=cfg["quantize_input"],
        mask=SpanMaskConfig(
            probability=cfg["mask_prob"],
            length=cfg["mask_length"],
            distribution=cfg["mask_selection"],
            other=float(cfg["mask_other"]),
            overlap=not cfg["no_mask_overlap"],
            min_space=cfg["mask_min_space"],
            equalize=cfg["require_same_masks"],
            dropout=cfg["mask_dropout"],
        ),
        contrast=ContrastConfig(
            temperature=cfg["logit_temp"],
            distractors=cfg["num_negatives"],
            batch_distractors=cfg["cross_sample_negatives"],
            candidates="all" if cfg["negatives_from_everywhere"] else "masked",
        ),
        diversity_weight=loss_weights[0],
        feature_penalty=loss_weights[1] if len(loss_weights) > 1 else 0.0,
    )


def wav2vec2_weights(state: Mapping[str, Tensor], config: Wav2Vec2Config) -> dict[str, Tensor]:
    """fairseq's pre-training weights (or gradients) under our names; q, k, v become one matrix."""
    state = dict(state)
    ours: dict[str, Tensor] = {}
    for number in range(config.encoder.transformer.layers):
        for kind in ("weight", "bias"):
            names = [f"encoder.layers.{number}.self_attn.{part}_proj.{kind}" for part in "qkv"]
            if lacking := [name for name in names if name not in state]:
                raise CheckpointError(f"{lacking[0]} is missing, though the configuration has that layer")
            parts = [state.pop(name) for name in names]
            ours[f"encoder.transformer.blocks.{number}.attention_inputs.{kind}"] = torch.cat(parts)
    for name, value in state.items():
        if name == "quantizer.vars":
            groups = config.quantizer.groups
            value = value.view(groups, -1, value.shape[-1])
        ours[_our_name(name)] = value
    return ours


_DEFAULTS: dict[str, Any] = {
    "extractor_mode": "default", "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2",
    "conv_bias": False, "feature_grad_mult": 1.0, "encoder_layers": 12, "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "layer_norm_first": False, "conv_pos": 128,
    "conv_pos_groups": 16, "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0, "dropout_input": 0.0, "dropout_features": 0.0, "final_dim": 0, "quantize_targets": False,
    "quantize_input": False, "latent_groups": 2, "latent_vars": 320, "latent_dim": 0, "quantizer_depth": 1,
    "quantizer_factor": 3, "latent_temp": (2.0, 0.5, 0.999995), "mask_prob": 0.65, "mask_length": 10,
    "mask_selection": "static", "mask_other": 0, "no_mask_overlap": False, "mask_min_space": 1,
    "require_same_masks": True, "mask_dropout": 0.0, "logit_temp": 0.1, "num_negatives": 100,
    "cross_sample_negatives": 0, "negatives_from_everywhere": False,
}  # fmt: skip
"""fairseq's own defaults: old files lack options that were added later."""
_WANTED = {"layer_type": "transformer", "activation_fn": "gelu", "pos_conv_depth": 1, "conv_pos_batch_norm": False,
           "target_glu": False, "codebook_negatives": 0, "adp_num": -1}  # fmt: skip
"""Options with which the network would be another one."""

_WHOLE = {
    "mask_emb": "encoder.mask_embedding",
    "encoder.pos_conv.0.bias": "encoder.transformer.position.bias",
    "encoder.pos_conv.0.weight_g": "encoder.transformer.position.gain",
    "encoder.pos_conv.0.weight_v": "encoder.transformer.position.direction",
    "quantizer.vars": "quantizer.codebooks",
}
_STARTS = {
    "post_extract_proj.": "encoder.projection.",
    "layer_norm.": "encoder.latent_norm.",
    "quantizer.weight_proj.": "quantizer.logits.",
    "project_q.": "target_projection.",
    "final_proj.": "context_projection.",
    "encoder.layer_norm.": "encoder.transformer.norm.",
}
_IN_BLOCK = {
    "self_attn.out_proj.": "attention_output.",
    "self_attn_layer_norm.": "attention_norm.",
    "fc1.": "feed_forward_in.",
    "fc2.": "feed_forward_out.",
    "final_layer_norm.": "feed_forward_norm.",
}


def _our_name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    if name.startswith("encoder.layers."):
        number, rest = name.removeprefix("encoder.layers.").split(".", 1)
        for theirs, ours in _IN_BLOCK.items():
            if rest.startswith(theirs):
                return f"encoder.transformer.blocks.{number}.{ours}{rest.removeprefix(theirs)}"
    if name.startswith("feature_extractor.conv_layers."):
        number, part, *_, kind = name.removeprefix("feature_extractor.conv_layers.").split(".")
        return f"encoder.feature_encoder.{'layers' if part == '0' else 'norms'}.{number}.{kind}"
    for theirs, ours in _STARTS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise CheckpointError(f"{name}: not a part of wav2vec 2.0 that fairseq's published models have")


def conv_layers(text: str) -> list[tuple[int, int, int]]:
    """fairseq writes convolutions as Python: "[(512, 10, 5)] + [(512, 3, 2)] * 4". Only lists, + and * are read."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * value(node.right)
        return ast.literal_eval(node)

    try:
        return [(int(c), int(k), int(s)) for c, k, s in value(ast.parse(text.strip(), mode="eval").body)]
    except (ValueError, TypeError, SyntaxError, AttributeError) as error:
        raise CheckpointError(
            f"convolutions {text!r} are no list of (channels, kernel, stride), written with brackets, + and *"
        ) from error


def _temperatures(value: Any) -> tuple[float, float, float]:
    """Start, end and decay, which fairseq writes as a tuple or as text."""
    try:
        start, end, decay = map(float, ast.literal_eval(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, SyntaxError) as error:
        raise CheckpointError(f"latent_temp = {value!r} is no (start, end, decay)") from error
    return start, end, decay
