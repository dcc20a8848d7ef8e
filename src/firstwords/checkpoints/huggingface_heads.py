"""Heads of Hugging Face's models as ours and back: sequence and audio-frame classification, x-vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from firstwords.checkpoints.own import Checkpoint
from firstwords.config import from_dict, to_dict
from firstwords.errors import CheckpointError
from firstwords.models.classifier import ClassifierConfig, HeadConfig

KINDS = {"sequence-classification": "mean", "audio-frame-classification": "frames", "x-vector": "x-vector"}
"""What `state["head"]["kind"]` is called here."""
ENDINGS = {"mean": "ForSequenceClassification", "frames": "ForAudioFrameClassification", "x-vector": "ForXVector"}
"""How transformers' classes for them end."""
WITHOUT = {("hubert", "frames"), ("hubert", "x-vector")}
"""Model types and heads that transformers has no class for."""
TIED = "tie_last_hidden_states"
"""Key of config.json that decides whether the last of the layers is what comes after a pre-norm Transformer's final
norm, as it always was in transformers 4 and in s3prl, or before, as transformers 5 has it where nothing is said."""
_HEAD = "head."


def labels_of(values: Mapping[str, Any]) -> list[str]:
    """Names of the classes, as config.json has them."""
    names = values.get("id2label") or {}
    return [names[key] for key in sorted(names, key=int)]


def head_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says about a head, and what decides how it is read."""
    keys = ("use_weighted_layer_sum", "classifier_proj_size", "tdnn_dim", "tdnn_kernel", "tdnn_dilation",
            "xvector_output_dim", TIED, "transformers_version")  # fmt: skip
    return {key: values[key] for key in keys if key in values}


def classifier_checkpoint(checkpoint: Checkpoint, where: str) -> Checkpoint:
    """The classifier that an encoder with another head's weights beside it is (see `read_huggingface`).

    Raises:
        CheckpointError: parameters of the head are missing, or of a shape that its configuration does not say.
    """
    about = checkpoint.state["head"]
    kind = KINDS[about["kind"]]
    theirs = {n.removeprefix(_HEAD): v for n, v in checkpoint.weights.items() if n.startswith(_HEAD)}
    values: Mapping[str, Any] = about["config"]
    weighted = bool(values.get("use_weighted_layer_sum", False))
    tied = values.get(TIED)
    old = not str(values.get("transformers_version", "4")).startswith(tuple("56789"))
    final_norm = bool(old if tied is None else tied)
    head = HeadConfig(kind=kind, layers="weighted" if weighted else "last", final_norm=final_norm)  # type: ignore[arg-type]
    try:
        if kind == "mean":
            head = from_dict(HeadConfig, {"projection": len(theirs["projector.weight"])}, where, head)
        elif kind == "x-vector":
            sizes = {"tdnn_dims": "tdnn_dim", "tdnn_kernels": "tdnn_kernel", "tdnn_dilations": "tdnn_dilation"}
            found: dict[str, Any] = {our: values[their] for our, their in sizes.items() if their in values}
            head = from_dict(HeadConfig, found | {"embedding": len(theirs["classifier.weight"])}, where, head)
        weights = _to_ours(theirs, head)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{where}: config.json and the weights of the {about['kind']} head contradict each other ({error})"
        ) from error
    size = weights["head.centres"].shape[1] if kind == "x-vector" else len(weights["head.classifier.weight"])
    labels = about["labels"] if len(about["labels"]) == size else [f"LABEL_{number}" for number in range(size)]
    config = ClassifierConfig("wav2vec2", checkpoint.config, head, size)
    encoder = {name: value for name, value in checkpoint.weights.items() if not name.startswith(_HEAD)}
    state = {key: value for key, value in checkpoint.state.items() if key != "head"}
    notes = [note for note in state.get("notes", ()) if "head is kept" not in note]
    if len(set(labels)) < size:
        raise CheckpointError(f"{where}: config.json gives several classes one name (id2label); name them apart")
    return Checkpoint(
        "classifier", to_dict(config), encoder | weights, state=state | {"labels": labels, "notes": notes}
    )


def huggingface_head(checkpoint: Checkpoint, where: str) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """How a classifier's class ends in transformers, its head's weights by their names, and its part of config.json."""
    config = from_dict(ClassifierConfig, checkpoint.config, where)
    head = config.head
    labels = checkpoint.state.get("labels") or [f"LABEL_{number}" for number in range(config.labels)]
    values: dict[str, Any] = {
        "use_weighted_layer_sum": head.layers == "weighted",
        TIED: head.final_norm,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    if head.kind == "mean":
        values["classifier_proj_size"] = head.projection
    if head.kind == "x-vector":
        values |= {
            "tdnn_dim": list(head.tdnn_dims),
            "tdnn_kernel": list(head.tdnn_kernels),
            "tdnn_dilation": list(head.tdnn_dilations),
            "xvector_output_dim": head.embedding,
        }
    return ENDINGS[head.kind], _to_theirs(checkpoint.weights, head), values


def _names(head: HeadConfig) -> dict[str, str]:
    """Ours, without "head.", to theirs."""
    names = {"layer_weights": "layer_weights"} if head.layers == "weighted" else {}
    linear = {"mean": ["projector", "classifier"], "frames": ["classifier"], "x-vector": ["projector", "classifier"]}
    names |= {f"{part}.{kind}": f"{part}.{kind}" for part in linear[head.kind] for kind in ("weight", "bias")}
    if head.kind == "x-vector":
        names |= {f"embedding.{kind}": f"feature_extractor.{kind}" for kind in ("weight", "bias")}
        names |= {
            f"tdnn.{number}.convolution.{kind}": f"tdnn.{number}.kernel.{kind}"
            for number in range(len(head.tdnn_dims))
            for kind in ("weight", "bias")
        }
        names["centres"] = "objective.weight"
    return names


def _to_ours(theirs: dict[str, Tensor], head: HeadConfig) -> dict[str, Tensor]:
    """A TDNN layer is a linear layer there, over K frames one after the other."""
    ours = {}
    for our, their in _names(head).items():
        value = theirs.pop(their)
        if our.startswith("tdnn.") and our.endswith("weight"):
            value = value.unflatten(1, (head.tdnn_kernels[int(our.split(".")[1])], -1)).transpose(1, 2).contiguous()
        ours[_HEAD + our] = value
    if theirs:
        raise KeyError(f"{next(iter(theirs))} is no part of it")
    return ours


def _to_theirs(weights: Mapping[str, Tensor], head: HeadConfig) -> dict[str, Tensor]:
    theirs = {}
    for our, their in _names(head).items():
        value = weights[_HEAD + our]
        if our.startswith("tdnn.") and our.endswith("weight"):
            value = value.transpose(1, 2).flatten(1).contiguous()
        theirs[their] = value
    return theirs
