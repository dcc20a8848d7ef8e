"""The models that are compared, as both sides build them, and their arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.recipes import load_recipe
from firstwords.training.pretrain import PretrainConfig

MIXED = (2.0, 3.5, 5.0, 8.0, 10.0, 14.0, 18.0, 24.0)
"""Seconds of eight recordings of mixed lengths."""
RECIPES = {"tiny": "wav2vec2-tiny", "base": "wav2vec2-base", "large": "wav2vec2-large-vox"}


def pretraining(size: str, dropout: float) -> PretrainConfig:
    """The published recipe with every dropout at `dropout` and no LayerDrop (steps must be alike)."""
    config = load_recipe(RECIPES[size], "pretrain", PretrainConfig)
    encoder = config.model.encoder
    transformer = dataclasses.replace(
        encoder.transformer, dropout=dropout, attention_dropout=dropout, activation_dropout=0.0, layerdrop=0.0
    )
    encoder = dataclasses.replace(encoder, transformer=transformer, input_dropout=dropout)
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, encoder=encoder, feature_dropout=dropout)
    )


def hugging_face(size: str, dropout: float, **changes: Any) -> Any:
    """The same architecture as a transformers configuration."""
    from transformers import Wav2Vec2Config

    large: dict[str, Any] = {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True,
        "codevector_dim": 768, "proj_codevector_dim": 768,
    }  # fmt: skip
    common: dict[str, Any] = {
        "hidden_dropout": dropout, "attention_dropout": dropout, "activation_dropout": 0.0,
        "feat_proj_dropout": dropout, "feat_quantizer_dropout": dropout, "layerdrop": 0.0,
        "mask_time_prob": 0.65, "mask_time_length": 10,
    }  # fmt: skip
    return Wav2Vec2Config(**{**(large if size == "large" else {}), **common, **changes})


def forward_flop(config: EncoderConfig, samples: int) -> tuple[float, float]:
    """Multiplications and additions of a forward pass over one recording, of the feature encoder and of what follows;
    norms and activations are not counted."""
    flop, length, width = 0.0, samples, 1
    features, transformer = config.feature_encoder, config.transformer
    for channels, kernel, stride in zip(features.channels, features.kernels, features.strides, strict=True):
        length = (length - kernel) // stride + 1
        flop += 2.0 * length * kernel * width * channels
        width = channels
    dim = transformer.dim
    block = 4 * dim * dim + 2 * dim * transformer.feed_forward_dim
    rest = 2.0 * length * width * dim
    rest += 2.0 * length * transformer.position_kernel * dim * dim / transformer.position_groups
    rest += transformer.layers * (2.0 * length * block + 4.0 * length * length * dim)
    return flop, rest
