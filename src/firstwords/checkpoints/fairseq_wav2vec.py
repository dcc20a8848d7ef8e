"""fairseq's names for the parts of wav2vec (2019) and for its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from firstwords.checkpoints.fairseq import conv_layers
from firstwords.errors import CheckpointError
from firstwords.losses.noise_contrastive import NoiseContrastConfig
from firstwords.models.wav2vec import Wav2VecConfig, Wav2VecEncoderConfig
from firstwords.nn.context_network import ContextNetworkConfig
from firstwords.nn.latent_encoder import LatentEncoderConfig


def wav2vec_config(cfg: Mapping[str, Any], infonce: bool = False, normalize: bool = False) -> Wav2VecConfig:
    """Our configuration from fairseq's `cfg.model`.

    Args:
        cfg: the mapping under `model` (or the old `args`); what it lacks was off when the file was made.
        infonce: `criterion.infonce`.
        normalize: `task.normalize`.
    """
    cfg = _DEFAULTS | dict(cfg)
    return Wav2VecConfig(
        encoder=wav2vec_encoder_config(cfg, normalize),
        steps=cfg["prediction_steps"],
        prediction_dropout=cfg["dropout"],
        contrast=noise_contrast_config(cfg, infonce),
    )


def wav2vec_encoder_config(cfg: Mapping[str, Any], normalize: bool) -> Wav2VecEncoderConfig:
    """Encoder and context network, which wav2vec and vq-wav2vec describe alike."""
    cfg = _DEFAULTS | dict(cfg)
    for key, value in _WANTED.items():
        if cfg.get(key, value) != value:
            raise CheckpointError(f"{key} = {cfg[key]!r}: only {value!r} is read")
    layers, context = conv_layers(cfg["conv_feature_layers"]), conv_layers(cfg["conv_aggregator_layers"])
    if any(layer[2] != 1 for layer in context):
        raise CheckpointError("conv_aggregator_layers: only strides of 1 are read")
    affine = not cfg["non_affine_group_norm"]
    return Wav2VecEncoderConfig(
        latent_encoder=LatentEncoderConfig(
            channels=tuple(layer[0] for layer in layers),
            kernels=tuple(layer[1] for layer in layers),
            strides=tuple(layer[2] for layer in layers),
            activation=cfg["activation"],
            affine_norm=affine,
            skip_connections=cfg["skip_connections_feat"],
            residual_scale=cfg["residual_scale"],
            log_compression=cfg["log_compression"],
        ),
        context_network=ContextNetworkConfig(
            channels=tuple(layer[0] for layer in context),
            kernels=tuple(layer[1] for layer in context),
            activation=cfg["activation"],
            bias=not cfg["no_conv_bias"],
            affine_norm=affine,
            padding="zero" if cfg["agg_zero_pad"] else "replicate",
            skip_connections=cfg["skip_connections_agg"],
            residual_scale=cfg["residual_scale"],
            dropout=cfg["dropout"],
        ),
        latent_dropout=cfg["dropout_features"],
        context_dropout=cfg["dropout_agg"],
        normalize_waveform=normalize,
    )


def noise_contrast_config(cfg: Mapping[str, Any], infonce: bool) -> NoiseContrastConfig:
    """The loss, which wav2vec and vq-wav2vec describe alike."""
    cfg = _DEFAULTS | dict(cfg)
    return NoiseContrastConfig(
        distractors=cfg["num_negatives"],
        batch_distractors=cfg["cross_sample_negatives"],
        loss="infonce" if infonce or cfg["infonce"] else "binary",
        balanced=cfg["balanced_classes"],
        offset=0 if cfg["offset"] == "auto" else int(cfg["offset"]),
    )


def wav2vec_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fairseq's weights (or gradients) under our names."""
    return {our_name(name): our_layout(name, value) for name, value in state.items()}


def our_name(name: str) -> str:
    """Of a part that wav2vec and vq-wav2vec share. Raises CheckpointError where it is none."""
    for start, (ours, parts) in _STARTS.items():
        if name.startswith(start):
            number, *part, kind = name.removeprefix(start).split(".")
            if (place := parts.get(".".join(part))) is not None:
                return f"encoder.{ours}.{place}.{number}.{kind}"
    if name.startswith(_STEPS):
        return "predictions." + name.removeprefix(_STEPS)
    raise CheckpointError(f"{name}: not a part of wav2vec that fairseq's published models have")


def our_layout(name: str, value: Tensor) -> Tensor:
    """Step predictions are one matrix a step here, and projections of skip connections matrices."""
    if name == _STEPS + "weight":
        return value[:, :, 0].permute(2, 1, 0).contiguous()
    return value[:, :, 0] if ".residual_proj." in name else value


_STARTS = {
    "feature_extractor.conv_layers.": ("feature_encoder", {"0": "layers", "2": "norms"}),
    "feature_aggregator.conv_layers.": ("context_network", {"1": "layers", "3": "norms"}),
    "feature_aggregator.residual_proj.": ("context_network", {"": "residuals"}),
}
_STEPS = "wav2vec_predictions.project_to_steps."
_DEFAULTS: dict[str, Any] = {
    "conv_feature_layers": "[(512, 10, 5), (512, 8, 4), (512, 4, 2), (512, 4, 2), (512, 4, 2), (512, 1, 1), "
    "(512, 1, 1), (512, 1, 1)]",
    "conv_aggregator_layers": "[(512, 3, 1)] * 9",
    "prediction_steps": 12, "num_negatives": 10, "cross_sample_negatives": 0, "dropout": 0.0, "dropout_features": 0.0,
    "dropout_agg": 0.0, "no_conv_bias": False, "agg_zero_pad": False, "skip_connections_feat": False,
    "skip_connections_agg": False, "residual_scale": 0.5, "log_compression": False, "balanced_classes": False,
    "infonce": False, "non_affine_group_norm": False, "offset": "auto", "activation": "relu",
}  # fmt: skip
"""Older files lack options that were added later; they were off then."""
_WANTED = {"aggregator": "cnn", "project_features": "none"}
"""Options with which the network would be another one."""
