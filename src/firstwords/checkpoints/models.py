"""Modules out of our checkpoints."""

from __future__ import annotations

from pathlib import Path

from firstwords.checkpoints.own import Checkpoint, checkpoint_path, load_weights, read_checkpoint
from firstwords.config import from_dict
from firstwords.errors import CheckpointError
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Config, Wav2Vec2Encoder
from firstwords.text.alphabet import Alphabet


def load_encoder_weights(place: Path) -> tuple[Wav2Vec2Encoder, Checkpoint]:
    """The encoder of a pre-training or fine-tuning run (or of a checkpoint file), and the checkpoint it came from.

    Raises:
        CheckpointError: missing, cut short, or of another shape than its configuration says.
    """
    path = checkpoint_path(place)
    checkpoint = read_checkpoint(path)
    encoder = Wav2Vec2Encoder(_encoder_config(checkpoint, path))
    start = "encoder."
    weights = {name.removeprefix(start): v for name, v in checkpoint.weights.items() if name.startswith(start)}
    load_weights(encoder, weights, str(path))
    return encoder, checkpoint


def load_ctc(place: Path) -> tuple[CTCModel, Checkpoint]:
    """The recogniser's network of a fine-tuning run (or of a checkpoint file), and its checkpoint.

    Raises:
        CheckpointError: missing, cut short, of another shape, or not a recogniser.
    """
    path = checkpoint_path(place)
    checkpoint = read_checkpoint(path)
    if checkpoint.kind != "ctc":
        raise CheckpointError(
            f"{path}: a pre-trained model cannot transcribe yet; first: firstwords finetune CORPUS --from {place}"
        )
    model = CTCModel(from_dict(CTCConfig, checkpoint.config, str(path)))
    load_weights(model, checkpoint.weights, str(path))
    return model, checkpoint


def load_alphabet(place: Path) -> Alphabet:
    """The alphabet of a fine-tuning run, of its checkpoint, or an alphabet.json.

    Raises:
        CheckpointError: nothing there that has an alphabet.
    """
    if place.suffix == ".json":
        return Alphabet.load(place)
    if (place / "alphabet.json").is_file():
        return Alphabet.load(place / "alphabet.json")
    path = checkpoint_path(place)
    state = read_checkpoint(path).state
    if "alphabet" not in state:
        raise CheckpointError(f"{path}: has no alphabet; give a fine-tuning run or an alphabet.json")
    return Alphabet.from_dict(state["alphabet"], str(path))


def _encoder_config(checkpoint: Checkpoint, path: Path) -> EncoderConfig:
    if checkpoint.kind == "wav2vec2":
        return from_dict(Wav2Vec2Config, checkpoint.config, str(path)).encoder
    if checkpoint.kind == "ctc":
        return from_dict(CTCConfig, checkpoint.config, str(path)).encoder
    raise CheckpointError(f"{path}: holds a model of kind {checkpoint.kind!r}, which has no wav2vec 2.0 encoder")
