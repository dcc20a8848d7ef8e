"""`firstwords convert`: a model from one format into another, and the proof that it is still the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.adapters import find_adapter
from firstwords.checkpoints.huggingface import CONFIG
from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.huggingface_heads import classifier_checkpoint
from firstwords.checkpoints.models import classifier_of, ctc_of, encoder_config, encoder_of
from firstwords.checkpoints.own import Checkpoint, read_checkpoint, write_checkpoint
from firstwords.checkpoints.plain import PlainClassifier, PlainNetwork
from firstwords.checkpoints.probe import (
    Outputs,
    largest_difference,
    probe,
    run_checkpoint,
    run_classifier_padded,
    run_padded,
    run_transformers,
)
from firstwords.checkpoints.runtimes import (
    ONNX,
    Network,
    fewest_samples,
    open_onnx,
    open_openvino,
    write_int8,
    write_onnx,
    write_openvino,
)
from firstwords.checkpoints.sources import download, is_hub_name, open_checkpoint
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError
from firstwords.evaluation import evaluate
from firstwords.models.heads import CTCModel
from firstwords.recognizer import Recognizer
from firstwords.text.alphabet import Alphabet

Format = Literal["firstwords", "huggingface", "onnx", "openvino"]
BEST = "best.safetensors"
LANGUAGE_MODEL = "language_model"
KINDS = {
    "ctc": "recogniser",
    "classifier": "classifier",
    "acoustic": "recogniser on frozen features",
    "wav2vec2": "pre-trained model with its quantiser",
    "encoder": "encoder",
    "wav2vec": "pre-trained model",
    "vq-wav2vec": "pre-trained model with its quantiser",
    "code-bert": "BERT over codes with the model that makes them",
    "wav2vec-u": "generator of phones from features",
}

FIRSTWORDS_ONLY = {"wav2vec": "wav2vec (2019)", "vq-wav2vec": "vq-wav2vec", "code-bert": "BERT over codes",
                   "wav2vec-u": "wav2vec-U", "acoustic": "an acoustic model"}  # fmt: skip
"""Kinds that no other format has, by what to call them."""


@dataclass
class Conversion:
    """What was read and written, and how equal they are."""

    source: str
    """What the source is, in words."""
    difference: float
    """Largest difference on the probe, as a share of the largest value."""
    compared: str
    """Who ran the source and who the result."""
    notes: list[str] = field(default_factory=list)
    """What the user should know."""
    word_errors: tuple[float, float] | None = None
    """Word error rate before and after 8 bits, where they were asked for."""


def convert(
    source: str | Path,
    out: Path,
    to: Format = "firstwords",
    adapter: str | None = None,
    tolerance: float = 1e-4,
    int8_on: Sequence[Utterance] | None = None,
    max_loss: float = 0.01,
) -> Conversion:
    """Reads a model from anywhere, writes it into a new folder, and runs both on a probe.

    Args:
        source: whatever `open_checkpoint` opens.
        out: a folder that does not exist or is empty; nothing is left there where anything fails.
        to: the format.
        adapter: which language, of a model with adapters for several.
        tolerance: largest difference, as a share of the largest output, that counts as equal.
        int8_on: ONNX only: write 8-bit weights too, and count word errors on these utterances before and after.
        max_loss: most that the word error rate may rise by that (0.01 is one word in a hundred).

    Raises:
        CheckpointError: nothing to read, no place to write, a difference above the tolerance, or too many errors.
        ConfigError: 8 bits of something else than a recogniser as ONNX.
        MissingExtraError: a package that the format needs is not installed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: exists and is not empty; choose another place")
    checkpoint, where = open_checkpoint(source, adapter)
    if int8_on is not None and (to != "onnx" or checkpoint.kind != "ctc"):
        raise ConfigError("--int8 needs a recogniser and --to onnx")
    if checkpoint.kind == "encoder" and "head" in checkpoint.state:
        checkpoint = classifier_checkpoint(checkpoint, where)
    if checkpoint.kind in FIRSTWORDS_ONLY and to != "firstwords":
        raise CheckpointError(
            f"{source}: {FIRSTWORDS_ONLY[checkpoint.kind]} is written for Firstwords only; --to {to} has no such model"
        )
    waveforms = probe()
    reference, ran = _run_source(source, adapter, checkpoint, where, waveforms)
    notes = list(checkpoint.state.get("notes", ()))
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        found, ran_result = _WRITERS[to](checkpoint, where, part, waveforms, notes)
        difference = largest_difference(reference, found)
        if not difference <= tolerance:
            raise CheckpointError(
                f"{source}: the result differs by {difference:.1e} of the largest output, above the tolerance of "
                f"{tolerance:g} (--tolerance; source run by {ran}, result by {ran_result}); nothing was written"
            )
        rates = None
        if int8_on is not None:
            rates = _eight_bits(checkpoint, where, part, int8_on, max_loss)
        _copy_language_model(source, checkpoint, part)
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise CheckpointError(
            f"{out}: cannot be written ({error.strerror}); free some space, or choose another place"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Conversion(_described(checkpoint), difference, f"source run by {ran}, result by {ran_result}", notes, rates)


def _run_source(
    source: str | Path, adapter: str | None, checkpoint: Checkpoint, where: str, waveforms: list[Tensor]
) -> tuple[Outputs, str]:
    """By transformers where that can run it, so that our reading is tested too; else by us."""
    ours = run_checkpoint(checkpoint, where, waveforms)
    folder = Path(source)
    if not folder.exists() and is_hub_name(str(source)):
        folder = download(str(source), adapter)
    with_small_weights = adapter is not None and find_adapter(folder, adapter) is not None  # which are ours alone
    if (folder / CONFIG).is_file() and not with_small_weights:
        theirs = run_transformers(folder, checkpoint, where, waveforms, adapter)
        if theirs is not None:
            return theirs, "transformers"
    return ours, "Firstwords"


Writer = Callable[[Checkpoint, str, Path, list[Tensor], list[str]], tuple[Outputs, str]]


def _write_firstwords(
    checkpoint: Checkpoint, where: str, folder: Path, waveforms: list[Tensor], notes: list[str]
) -> tuple[Outputs, str]:
    state = {key: value for key, value in checkpoint.state.items() if key != "progress"}
    write_checkpoint(folder / BEST, Checkpoint(checkpoint.kind, checkpoint.config, checkpoint.weights, state=state))
    _write_alphabet(checkpoint, where, folder)
    return run_checkpoint(read_checkpoint(folder / BEST), where, waveforms), "Firstwords"


def _write_huggingface(
    checkpoint: Checkpoint, where: str, folder: Path, waveforms: list[Tensor], notes: list[str]
) -> tuple[Outputs, str]:
    notes += write_huggingface(checkpoint, folder, where)
    again, _ = open_checkpoint(folder)
    if checkpoint.kind == "classifier":
        again = classifier_checkpoint(again, where)
    epsilon = encoder_config(checkpoint, where).normalize_epsilon
    again.config.get("encoder", again.config)["normalize_epsilon"] = epsilon  # equal input; a note tells the rest
    theirs = run_transformers(folder, again, where, waveforms)
    if theirs is not None:
        return theirs, "transformers"
    return run_checkpoint(again, where, waveforms), "Firstwords, as transformers is not installed"


def _write_onnx(
    checkpoint: Checkpoint, where: str, folder: Path, waveforms: list[Tensor], notes: list[str]
) -> tuple[Outputs, str]:
    network = _network(checkpoint, where)
    path = write_onnx(network, folder)
    _write_description(checkpoint, network, where, folder)
    return _run_elsewhere(checkpoint, open_onnx(path), waveforms), "onnxruntime"


def _write_openvino(
    checkpoint: Checkpoint, where: str, folder: Path, waveforms: list[Tensor], notes: list[str]
) -> tuple[Outputs, str]:
    network = _network(checkpoint, where)
    path = write_openvino(network, folder)
    _write_description(checkpoint, network, where, folder)
    return _run_elsewhere(checkpoint, open_openvino(path), waveforms), "OpenVINO"


_WRITERS: dict[Format, Writer] = {
    "firstwords": _write_firstwords,
    "huggingface": _write_huggingface,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}


class RuntimeRecognizer(Recognizer):
    """A recogniser whose network runs elsewhere."""

    def __init__(self, model: CTCModel, alphabet: Alphabet, network: Network) -> None:
        super().__init__(model, alphabet)
        self.network = network

    def emissions(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As Recognizer's; normalisation is part of the exported network."""
        shortest = self.model.front.receptive_field
        lengths = torch.tensor([max(len(waveform), shortest) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), max(int(lengths.max()), 2 * shortest))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        logits, frames = self.network(padded, lengths)
        return logits, frames


def _eight_bits(
    checkpoint: Checkpoint, where: str, folder: Path, utterances: Sequence[Utterance], max_loss: float
) -> tuple[float, float]:
    """Writes the 8-bit network; its word error rate after that of the 32-bit one."""
    if "alphabet" not in checkpoint.state:
        raise CheckpointError(f"{where}: no alphabet, so no words whose errors could be counted")
    alphabet = Alphabet.from_dict(checkpoint.state["alphabet"], f"{where}: alphabet")
    model = ctc_of(checkpoint, where)
    paths = (folder / ONNX, write_int8(folder / ONNX))
    before, after = (
        evaluate(RuntimeRecognizer(model, alphabet, open_onnx(path)), utterances, "count").score.tokens.rate
        for path in paths
    )
    if after - before > max_loss:
        raise CheckpointError(
            f"{where}: 8 bits raise the word error rate from {before:.2%} to {after:.2%}, by more than {max_loss:.2%} "
            "(--max-loss); nothing was written"
        )
    return before, after


def _network(checkpoint: Checkpoint, where: str) -> PlainNetwork | PlainClassifier:
    try:
        if checkpoint.kind == "classifier":
            return PlainClassifier(classifier_of(checkpoint, where))
        return PlainNetwork(ctc_of(checkpoint, where) if checkpoint.kind == "ctc" else encoder_of(checkpoint, where))
    except CheckpointError as error:
        raise error if str(error).startswith(where) else CheckpointError(f"{where}: {error}") from error


def _run_elsewhere(checkpoint: Checkpoint, network: Network, waveforms: list[Tensor]) -> Outputs:
    """All of the probe as one padded batch, in another runtime."""
    if checkpoint.kind == "classifier":
        return run_classifier_padded(network, checkpoint.config["head"], waveforms)
    return run_padded(network, waveforms)


def _write_description(
    checkpoint: Checkpoint, network: PlainNetwork | PlainClassifier, where: str, folder: Path
) -> None:
    """What somebody needs to use the exported network without Firstwords."""
    encoder = encoder_of(checkpoint, where)
    classes = checkpoint.kind == "classifier" and checkpoint.config["head"]["kind"] != "frames"
    shapes = {
        "logits": "(batch, classes) float32" if classes else "(batch, frames, classes) float32",
        "embeddings": "(batch, width) float32, a voice's vector: compare by cosine",
        "features": "(batch, frames, width) float32",
        "frames": "(batch,) int64 valid frames",
    }
    values: dict[str, Any] = {
        "inputs": {"waveforms": "(batch, samples) float32 at 16 kHz, as recorded", "lengths": "(batch,) int64 samples"},
        "outputs": {name: shapes[name] for name in network.outputs},
        "fewest_samples": {"waveforms": fewest_samples(network), "lengths": network.shortest},
        "sample_rate": SAMPLE_RATE,
        "samples_per_frame": int(np.prod(encoder.feature_encoder.config.strides)),  # type: ignore[union-attr, arg-type]
    }
    if checkpoint.kind == "classifier":
        values["labels"] = checkpoint.state["labels"]
        if field := checkpoint.state.get("label_field"):
            values["label_field"] = field
    if "alphabet" in checkpoint.state:
        values |= {"blank": 0, "labels": checkpoint.state["alphabet"]["symbols"]}
    (folder / "firstwords.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_alphabet(checkpoint, where, folder)


def _write_alphabet(checkpoint: Checkpoint, where: str, folder: Path) -> None:
    if "alphabet" in checkpoint.state:
        Alphabet.from_dict(checkpoint.state["alphabet"], f"{where}: alphabet").save(folder / "alphabet.json")


def _copy_language_model(source: str | Path, checkpoint: Checkpoint, folder: Path) -> None:
    place = Path(source) / LANGUAGE_MODEL
    if "language_model" in checkpoint.state and place.is_dir():
        shutil.copytree(place, folder / LANGUAGE_MODEL)


def _described(checkpoint: Checkpoint) -> str:
    imported = checkpoint.state.get("imported")
    origin = f"{imported['format']} {imported['model_type']}" if imported else "Firstwords"
    count = sum(value.numel() for value in checkpoint.weights.values())
    return f"{origin}, {KINDS.get(checkpoint.kind, checkpoint.kind)}, {count:,} parameters"
