"""Training that goes on from a model that exists: whose architecture it is, what is kept, what starts anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from firstwords.checkpoints.models import encoder_of, pretraining_of, vq_wav2vec_of, wav2vec_of
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.errors import CheckpointError
from firstwords.models.vq_wav2vec import VqWav2Vec, VqWav2VecConfig
from firstwords.models.wav2vec import Wav2Vec, Wav2VecConfig, Wav2VecEncoderConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Config


@dataclass(frozen=True)
class Start:
    """A model to go on from."""

    model: Any
    """The recipe's objective on the model's architecture."""
    weights: dict[str, Tensor]
    """Of all that is kept, by our names."""
    notes: list[str]
    """What the user should know, in sentences."""


def pretraining_start(source: str, recipe: Wav2Vec2Config) -> Start:
    """Where pre-training goes on from `source`: its architecture and weights, the recipe's dropouts, masks and loss.

    The quantiser and the projections in which context and targets are compared are kept where the model has them, and
    start anew where it is an encoder or a recogniser only.

    Raises:
        CheckpointError: nothing to read there.
    """
    checkpoint, where = open_checkpoint(source)
    notes = [f"{source}: {note}" for note in checkpoint.state.get("notes", ())]
    if checkpoint.kind != "wav2vec2":
        encoder = encoder_of(checkpoint, where)
        notes.append(f"{source}: the encoder goes on learning; it comes without a quantiser, so a new one starts")
        kept = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        return Start(replace(recipe, encoder=_architecture(encoder.config, recipe.encoder)), kept, notes)
    model = pretraining_of(checkpoint, where)
    found = model.config
    notes.append(
        f"{source}: encoder and quantiser go on learning; the temperature starts at "
        f"{recipe.quantizer.temperature_start:g} again (model.quantizer.temperature_start)"
    )
    merged = replace(
        recipe,
        encoder=_architecture(found.encoder, recipe.encoder),
        quantizer=replace(
            recipe.quantizer,
            groups=found.quantizer.groups,
            entries=found.quantizer.entries,
            dim=found.quantizer.dim,
            depth=found.quantizer.depth,
            factor=found.quantizer.factor,
        ),
        final_dim=found.final_dim,
        quantize_targets=found.quantize_targets,
        quantize_inputs=found.quantize_inputs,
    )
    return Start(merged, dict(model.state_dict()), notes)


def wav2vec_start(source: str, recipe: Wav2VecConfig) -> Start:
    """Where pre-training of wav2vec goes on from `source`: its networks and weights, the recipe's dropouts and loss.

    The maps that predict are kept where the recipe wants as many, and start anew where it does not.

    Raises:
        CheckpointError: nothing to read there, or a model of another method.
    """
    checkpoint, where = _of_kind(source, "wav2vec")
    found = wav2vec_of(checkpoint, where)
    return _foretelling_start(source, checkpoint, found, recipe, found.config.encoder)


def vq_wav2vec_start(source: str, recipe: VqWav2VecConfig) -> Start:
    """Where pre-training of vq-wav2vec goes on from `source`: as `wav2vec_start`, codebooks included.

    The temperature starts anew, as the recipe has it.

    Raises:
        CheckpointError: nothing to read there, or a model of another method.
    """
    checkpoint, where = _of_kind(source, "vq-wav2vec")
    found = vq_wav2vec_of(checkpoint, where)
    was, wanted = found.config.encoder.quantizer, recipe.encoder.quantizer
    quantizer = replace(
        was,
        temperature_start=wanted.temperature_start,
        temperature_end=wanted.temperature_end,
        temperature_decay=wanted.temperature_decay,
        annealing=wanted.annealing,
        annealing_updates=wanted.annealing_updates,
        gumbel_noise=wanted.gumbel_noise,
        commitment=wanted.commitment,
    )
    start = _foretelling_start(source, checkpoint, found, recipe, replace(found.config.encoder, quantizer=quantizer))
    if was.kind == "gumbel":
        start.notes.append(
            f"{source}: the temperature starts at {wanted.temperature_start:g} again "
            "(model.encoder.quantizer.temperature_start)"
        )
    return start


def _of_kind(source: str, kind: str) -> tuple[Checkpoint, str]:
    checkpoint, where = open_checkpoint(source)
    if checkpoint.kind != kind:
        raise CheckpointError(
            f"{where}: holds a model of kind {checkpoint.kind!r}; pre-training of {kind} goes on from {kind} only"
        )
    return checkpoint, where


def _foretelling_start(
    source: str,
    checkpoint: Checkpoint,
    found: Wav2Vec | VqWav2Vec,
    recipe: Any,
    encoder: Wav2VecEncoderConfig,
) -> Start:
    """What wav2vec and vq-wav2vec share: the networks of the model found, the recipe's dropouts and loss.

    `recipe` is of the model's kind.
    """
    notes = [f"{source}: {note}" for note in checkpoint.state.get("notes", ())]
    weights = dict(found.state_dict())
    if found.config.steps != recipe.steps:
        notes.append(f"{source}: predicts {found.config.steps} steps, the recipe {recipe.steps}: their maps start anew")
        weights = {name: value for name, value in weights.items() if not name.startswith("predictions.")}
    merged = replace(
        encoder,
        latent_dropout=recipe.encoder.latent_dropout,
        context_dropout=recipe.encoder.context_dropout,
        context_network=replace(encoder.context_network, dropout=recipe.encoder.context_network.dropout),
    )
    return Start(replace(recipe, encoder=merged), weights, notes)


def _architecture(found: EncoderConfig, recipe: EncoderConfig) -> EncoderConfig:
    """The shape of the model found, with the recipe's dropouts and gradient scale."""
    return replace(
        found,
        input_dropout=recipe.input_dropout,
        feature_encoder=replace(found.feature_encoder, gradient_scale=recipe.feature_encoder.gradient_scale),
        transformer=replace(
            found.transformer,
            dropout=recipe.transformer.dropout,
            attention_dropout=recipe.transformer.attention_dropout,
            activation_dropout=recipe.transformer.activation_dropout,
            layerdrop=recipe.transformer.layerdrop,
        ),
    )
