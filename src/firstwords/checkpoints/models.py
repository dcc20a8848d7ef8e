"""Modules out of checkpoints, ours and others'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from firstwords.checkpoints import code_bert
from firstwords.checkpoints.huggingface_heads import classifier_checkpoint
from firstwords.checkpoints.own import Checkpoint, load_weights
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.config import from_dict
from firstwords.errors import CheckpointError, ConfigError
from firstwords.models.classifier import Classifier, ClassifierConfig
from firstwords.models.code_bert import CodeBertEncoder
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.vq_wav2vec import VqWav2Vec, VqWav2VecConfig
from firstwords.models.wav2letter import AcousticConfig, AcousticModel
from firstwords.models.wav2vec import Wav2Vec, Wav2VecConfig, Wav2VecEncoder
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2, Wav2Vec2Config, Wav2Vec2Encoder
from firstwords.models.wav2vec_u import Wav2VecU, Wav2VecUConfig
from firstwords.text.alphabet import Alphabet

AnyEncoder = Wav2Vec2Encoder | Wav2VecEncoder | CodeBertEncoder
"""They take waveforms, lengths, layer= and states=; have `config`, `frames`, `feature_encoder`, `dim` and `layers`."""

Network = TypeVar("Network", bound=nn.Module)


def load_encoder_weights(place: str | Path, adapter: str | None = None) -> tuple[Wav2Vec2Encoder, Checkpoint]:
    """The encoder of whatever `open_checkpoint` opens, and the checkpoint it came from.

    Raises:
        CheckpointError: missing, cut short, or of another shape than its configuration says.
    """
    checkpoint, where = open_checkpoint(place, adapter)
    return encoder_of(checkpoint, where), checkpoint


def load_any_encoder(place: str | Path, adapter: str | None = None) -> tuple[AnyEncoder, Checkpoint]:
    """The encoder of whatever `open_checkpoint` opens, of any method, and the checkpoint it came from.

    Raises:
        CheckpointError: missing, cut short, or of another shape than its configuration says.
    """
    checkpoint, where = open_checkpoint(place, adapter)
    return any_encoder_of(checkpoint, where), checkpoint


def load_recognizer(place: str | Path, adapter: str | None = None) -> tuple[CTCModel | AcousticModel, Checkpoint]:
    """The recogniser's network at `place`, of whatever kind, and its checkpoint.

    Raises:
        CheckpointError: missing, cut short, of another shape, or not a recogniser.
    """
    checkpoint, where = open_checkpoint(place, adapter)
    if checkpoint.kind == "acoustic":
        return acoustic_of(checkpoint, where), checkpoint
    return _ctc(checkpoint, where, place), checkpoint


def load_ctc(place: str | Path, adapter: str | None = None) -> tuple[CTCModel, Checkpoint]:
    """The recogniser's network at `place`, and its checkpoint.

    Raises:
        CheckpointError: missing, cut short, of another shape, or not a recogniser.
    """
    checkpoint, where = open_checkpoint(place, adapter)
    return _ctc(checkpoint, where, place), checkpoint


def _ctc(checkpoint: Checkpoint, where: str, place: str | Path) -> CTCModel:
    if checkpoint.kind == "wav2vec-u":
        raise CheckpointError(
            f"{where}: a wav2vec-U model reads prepared features: firstwords unsupervised decode {place} CORPUS"
        )
    if checkpoint.kind != "ctc":
        raise CheckpointError(
            f"{where}: a pre-trained model cannot transcribe yet; first: firstwords finetune CORPUS --from {place}"
        )
    return ctc_of(checkpoint, where)


def load_classifier(place: str | Path) -> tuple[Classifier, Checkpoint]:
    """The classifier at `place`, and its checkpoint: a run of ours, or a Hugging Face folder with such a head.

    Raises:
        CheckpointError: missing, cut short, of another shape, or not a classifier.
    """
    checkpoint, where = open_checkpoint(place)
    if checkpoint.kind == "encoder" and "head" in checkpoint.state:
        checkpoint = classifier_checkpoint(checkpoint, where)
    if checkpoint.kind != "classifier":
        raise CheckpointError(
            f"{where}: a model of kind {checkpoint.kind!r} has no classes; first: firstwords classify train CORPUS "
            f"--from {place} --label FIELD"
        )
    return classifier_of(checkpoint, where), checkpoint


def load_wav2vec_u(place: str | Path) -> tuple[Wav2VecU, Checkpoint]:
    """The chosen member of an unsupervised run (or fairseq's wav2vec-U `.pt`), and its checkpoint.

    `checkpoint.state` has "phones", the symbols after the four specials, and "silence", the one that stands for pauses.

    Raises:
        CheckpointError: missing, cut short, of another shape, not a wav2vec-U model, or without a dictionary.
    """
    checkpoint, where = open_checkpoint(place)
    if checkpoint.kind != "wav2vec-u":
        raise CheckpointError(
            f"{where}: holds a model of kind {checkpoint.kind!r}, not a generator of phones; first: firstwords "
            "unsupervised train"
        )
    model = wav2vec_u_of(checkpoint, where)
    if "phones" not in checkpoint.state:
        raise CheckpointError(f"{where}: no dictionary of phones (dict.phn.txt or dict.txt) beside it; put it there")
    return model.eval(), checkpoint


def load_alphabet(place: Path) -> Alphabet:
    """The alphabet of a recogniser wherever `open_checkpoint` finds one, or an alphabet.json.

    Raises:
        CheckpointError: nothing there that has an alphabet.
    """
    if place.suffix == ".json":
        return Alphabet.load(place)
    if (place / "alphabet.json").is_file():
        return Alphabet.load(place / "alphabet.json")
    checkpoint, where = open_checkpoint(place)
    if "alphabet" not in checkpoint.state:
        raise CheckpointError(f"{where}: has no alphabet; give a fine-tuning run or an alphabet.json")
    return Alphabet.from_dict(checkpoint.state["alphabet"], where)


def any_encoder_of(checkpoint: Checkpoint, where: str) -> AnyEncoder:
    """The encoder in a checkpoint, of any method. Raises CheckpointError where it has none or another shape."""
    if checkpoint.kind == "classifier":
        inside: AnyEncoder = classifier_of(checkpoint, where).encoder
        return inside
    if checkpoint.kind == "wav2vec":
        return wav2vec_of(checkpoint, where).encoder
    if checkpoint.kind == "vq-wav2vec":
        return vq_wav2vec_of(checkpoint, where).encoder
    if checkpoint.kind == code_bert.KIND:
        return code_bert.code_bert_encoder(checkpoint, coding_of(code_bert.codes_of(checkpoint), where), where)
    return encoder_of(checkpoint, where)


def encoder_of(checkpoint: Checkpoint, where: str) -> Wav2Vec2Encoder:
    """The wav2vec 2.0 encoder in a checkpoint. Raises CheckpointError where it has none or another shape."""
    encoder = _made(Wav2Vec2Encoder, encoder_config(checkpoint, where), where)
    start = "encoder."
    weights = {name.removeprefix(start): v for name, v in checkpoint.weights.items() if name.startswith(start)}
    load_weights(encoder, weights, where)
    return encoder


def _network(network: Callable[[Any], Network], config: type, checkpoint: Checkpoint, where: str) -> Network:
    """A network of the checkpoint's configuration with its weights."""
    model = _made(network, from_dict(config, checkpoint.config, where), where)
    load_weights(model, checkpoint.weights, where)
    return model


def _made(network: Callable[[Any], Network], config: Any, where: str) -> Network:
    """A network with new weights. Raises CheckpointError where no network can be of that configuration."""
    try:
        return network(config)
    except ConfigError as error:
        raise CheckpointError(f"{where}: its configuration cannot be: {error}") from error


def ctc_of(checkpoint: Checkpoint, where: str) -> CTCModel:
    """The network of a checkpoint of kind "ctc". Raises CheckpointError where it has another shape."""
    return _network(CTCModel, CTCConfig, checkpoint, where)


def acoustic_of(checkpoint: Checkpoint, where: str) -> AcousticModel:
    """The network of a checkpoint of kind "acoustic", its encoder with it. Raises CheckpointError (another shape)."""
    return _network(AcousticModel, AcousticConfig, checkpoint, where)


def classifier_of(checkpoint: Checkpoint, where: str) -> Classifier:
    """The network of a checkpoint of kind "classifier". Raises CheckpointError where it has another shape."""
    return _network(Classifier, ClassifierConfig, checkpoint, where)


def pretraining_of(checkpoint: Checkpoint, where: str) -> Wav2Vec2:
    """The network of a checkpoint of kind "wav2vec2". Raises CheckpointError where it has another shape."""
    return _network(Wav2Vec2, Wav2Vec2Config, checkpoint, where)


def wav2vec_of(checkpoint: Checkpoint, where: str) -> Wav2Vec:
    """The network of a checkpoint of kind "wav2vec". Raises CheckpointError where it has another shape."""
    return _network(Wav2Vec, Wav2VecConfig, checkpoint, where)


def vq_wav2vec_of(checkpoint: Checkpoint, where: str) -> VqWav2Vec:
    """The network of a checkpoint of kind "vq-wav2vec". Raises CheckpointError where it has another shape."""
    return _network(VqWav2Vec, VqWav2VecConfig, checkpoint, where)


def wav2vec_u_of(checkpoint: Checkpoint, where: str) -> Wav2VecU:
    """The network of a checkpoint of kind "wav2vec-u". Raises CheckpointError where it has another shape."""
    return _network(Wav2VecU, Wav2VecUConfig, checkpoint, where)


def coding_of(checkpoint: Checkpoint, where: str) -> VqWav2Vec | Wav2Vec2:
    """The pre-training model in a checkpoint, if it has a quantiser. Raises CheckpointError where it has none."""
    if checkpoint.kind == "vq-wav2vec":
        return vq_wav2vec_of(checkpoint, where)
    if checkpoint.kind != "wav2vec2":
        raise CheckpointError(
            f"{where}: a model of kind {checkpoint.kind!r} has no quantiser; codes come from a pre-training checkpoint"
        )
    model = pretraining_of(checkpoint, where)
    if not model.config.quantize_targets:
        raise CheckpointError(f"{where}: trained on continuous targets, so that it has no codes")
    return model


def encoder_config(checkpoint: Checkpoint, where: str) -> EncoderConfig:
    """Configuration of the encoder in a checkpoint. Raises CheckpointError where it has none."""
    if checkpoint.kind == "wav2vec2":
        return from_dict(Wav2Vec2Config, checkpoint.config, where).encoder
    if checkpoint.kind == "ctc":
        return from_dict(CTCConfig, checkpoint.config, where).encoder
    if checkpoint.kind == "encoder":
        return from_dict(EncoderConfig, checkpoint.config, where)
    if checkpoint.kind == "classifier" and checkpoint.config.get("encoder_kind") == "wav2vec2":
        return from_dict(EncoderConfig, checkpoint.config["encoder"], where)
    others = ("wav2vec", "vq-wav2vec", code_bert.KIND)
    if checkpoint.kind == "wav2vec-u":
        raise CheckpointError(f"{where}: a wav2vec-U model has no encoder: it reads features that another model makes")
    more = ""
    if checkpoint.kind in others:
        more = "; its features serve acoustic models (finetune --recipe asg-small), embeddings and classifiers"
    raise CheckpointError(f"{where}: holds a model of kind {checkpoint.kind!r}, which has no wav2vec 2.0 encoder{more}")
