"""wav2vec-U between fairseq's names and options and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from firstwords.errors import CheckpointError
from firstwords.models.wav2vec_u import (
    DiscriminatorConfig,
    GeneratorConfig,
    SegmentationConfig,
    Wav2VecUConfig,
)

UNSUPPORTED = {
    "discriminator_depth": 2,
    "discriminator_linear_emb": False,
    "discriminator_causal": True,
    "discriminator_max_pool": False,
    "discriminator_act_after_linear": False,
    "discriminator_weight_norm": False,
    "discriminator_spectral_norm": False,
    "generator_bias": False,
    "gumbel": False,
    "hard_gumbel": False,
    "no_softmax": False,
}
"""Options that only have the published value here."""
_SEGMENTATION = {"JOIN": ("join", 1.0), "NONE": ("none", 1.0)}


def wav2vec_u_config(options: Mapping[str, Any], symbols: int, weights: Mapping[str, Tensor]) -> Wav2VecUConfig:
    """Our configuration of a model that fairseq's options describe.

    Args:
        options: fairseq's names; what they leave out has its default there.
        symbols: outputs, specials included.
        weights: by fairseq's names; shapes tell what options may leave out.

    Raises:
        CheckpointError: an option that no published model uses.
    """
    for name, value in UNSUPPORTED.items():
        if name in options and options[name] != value:
            raise CheckpointError(f"{name} is {options[name]!r}; wav2vec-U is read with {value!r} only, as published")
    segmentation = options.get("segmentation") or {}
    kind = str(segmentation.get("type", "NONE"))
    if kind not in _SEGMENTATION and kind not in ("UNIFORM_RANDOM_JOIN", "UNIFORM_RANDOM"):
        raise CheckpointError(f"segmentation {kind!r} is not known; known: JOIN, NONE")
    if kind not in _SEGMENTATION:
        raise CheckpointError(f"segmentation {kind!r} pools steps at random, which no published model does")
    auxiliary = int(options.get("target_dim") or 0) if "decoder.weight" in weights else 0
    return Wav2VecUConfig(
        input_dim=int(options.get("input_dim") or weights["generator.proj.1.weight"].shape[1]),
        symbols=symbols,
        generator=GeneratorConfig(
            kernel=int(options.get("generator_kernel", weights["generator.proj.1.weight"].shape[2])),
            stride=int(options.get("generator_stride", 1)),
            dropout=float(options.get("generator_dropout", 0.0)),
            batch_norm=float(options.get("generator_batch_norm") or 0),
            residual=bool(options.get("generator_residual", False)),
        ),
        discriminator=DiscriminatorConfig(
            dim=int(options.get("discriminator_dim", 256)), kernel=int(options.get("discriminator_kernel", 3))
        ),
        segmentation=SegmentationConfig(
            kind="join" if kind == "JOIN" else "none",
            mean=bool(segmentation.get("mean_pool_join", False)),
            remove_zeros=bool(segmentation.get("remove_zeros", False)),
        ),
        auxiliary=auxiliary,
    )


def fairseq_names(config: Wav2VecUConfig) -> dict[str, str]:
    """Our names of all weights to fairseq's."""
    names = {"generator.weight": "generator.proj.1.weight"}
    if config.generator.batch_norm:
        names |= {
            "generator.norm_weight": "generator.bn.weight",
            "generator.norm_bias": "generator.bn.bias",
            "generator.running_mean": "generator.bn.running_mean",
            "generator.running_variance": "generator.bn.running_var",
        }
    layers = {"discriminator.first": "discriminator.net.0", "discriminator.second": "discriminator.net.3.0"}
    layers["discriminator.last"] = "discriminator.net.4"
    if config.generator.residual:
        layers["generator.projection"] = "generator.in_proj"
    if config.auxiliary:
        layers["auxiliary"] = "decoder"
    return names | {
        f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in ("weight", "bias")
    }


def wav2vec_u_weights(weights: Mapping[str, Tensor], config: Wav2VecUConfig) -> dict[str, Tensor]:
    """fairseq's weights by our names, as a model of one member has them.

    Raises:
        CheckpointError: naming weights that are missing or not known.
    """
    names = fairseq_names(config)
    missing = [name for name in names.values() if name not in weights]
    passed_over = ("num_batches_tracked",)
    unknown = [name for name in weights if name not in names.values() and not name.endswith(passed_over)]
    if missing or unknown:
        what = ", ".join([f"{name} is missing" for name in missing] + [f"{name} is unknown" for name in unknown])
        raise CheckpointError(f"no wav2vec-U as published: {what[:300]}")
    return {ours: weights[theirs].float()[None] for ours, theirs in names.items()}
