"""Fine-tuning that leaves the encoder as it is: only adapters, low-rank changes and the output layer learn."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from firstwords.checkpoints.adapters import fingerprint


def is_small(name: str) -> bool:
    """Whether a parameter is one of an adapter or a low-rank change."""
    return ".adapter." in name or ".low_rank." in name


def fix_the_rest(model: nn.Module) -> None:
    """Keeps everything else in a recogniser but the output layer from learning."""
    for name, value in model.named_parameters():
        value.requires_grad_(is_small(name) or name.startswith("output."))


def base_of(source: str, weights: dict[str, Tensor]) -> dict[str, str]:
    """What a checkpoint of small weights says about the encoder that they belong to: where it lies, and its hash."""
    place = str(Path(source).resolve()) if Path(source).exists() else source
    whole = {f"encoder.{name}": value for name, value in weights.items()}
    return {"base": place, "base_fingerprint": fingerprint(whole)}
