"""fairseq's RoBERTa over the codes of vq-wav2vec (bert_kmeans.pt): its names, sizes and dictionary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from firstwords.errors import CheckpointError
from firstwords.models.code_bert import SPECIALS, CodeBertConfig, CodeVocabulary

_BODY = "encoder.sentence_encoder."
_FIRST_POSITION = 2
"""fairseq numbers positions after its padding token, 1."""
_WANTED = {"activation_fn": "gelu", "encoder_normalize_before": False, "untie_weights_roberta": False,
           "encoder_learned_pos": True, "layernorm_embedding": True, "no_scale_embedding": True}  # fmt: skip
"""Options with which the network would be another one."""


def is_roberta(weights: Mapping[str, Tensor]) -> bool:
    """Whether a `.pt` file's weights are RoBERTa's."""
    return any(".sentence_encoder.embed_tokens." in name for name in weights)


def code_bert_config(cfg: Mapping[str, Any], weights: Mapping[str, Tensor]) -> CodeBertConfig:
    """Our configuration: sizes from the weights, the rest from fairseq's options (defaults: roberta_base)."""
    for key, value in _WANTED.items():
        if cfg.get(key, value) != value:
            raise CheckpointError(f"{key} = {cfg[key]!r}: only {value!r} is read")
    weights = _renamed(weights)
    numbers = [int(match[1]) for name in weights if (match := re.match(rf"{re.escape(_BODY)}layers\.(\d+)\.", name))]
    return CodeBertConfig(
        layers=1 + max(numbers, default=-1),
        dim=weights[_BODY + "embed_tokens.weight"].shape[1],
        feed_forward_dim=weights[_BODY + "layers.0.fc1.weight"].shape[0],
        heads=int(cfg.get("encoder_attention_heads") or 12),
        positions=len(weights[_BODY + "embed_positions.weight"]) - _FIRST_POSITION,
        dropout=_number(cfg, "dropout", 0.1),
        attention_dropout=_number(cfg, "attention_dropout", 0.1),
        activation_dropout=_number(cfg, "activation_dropout", 0.0),
    )


def code_bert_weights(state: Mapping[str, Tensor], names: Sequence[str]) -> tuple[dict[str, Tensor], CodeVocabulary]:
    """fairseq's weights under our names, and the vocabulary.

    Args:
        state: of the file.
        names: the dictionary's symbols without the special ones, in order; fairseq fills it up with made-up words.
    """
    state = _renamed(state)
    rows = len(state[_BODY + "embed_tokens.weight"])
    if rows != len(SPECIALS) + len(names) + 1:
        raise CheckpointError(
            f"the dictionary has {len(names)} combinations of codes, the network {rows - len(SPECIALS) - 1}: "
            "not the one that belongs to it"
        )
    real = [number for number, name in enumerate(names) if not name.startswith("madeupword")]
    vocabulary = CodeVocabulary.of_names([names[number] for number in real])
    keep = torch.tensor([*range(len(SPECIALS)), *(len(SPECIALS) + number for number in real), rows - 1])
    if (own := state.pop("encoder.lm_head.weight", None)) is not None and not torch.equal(
        own, state[_BODY + "embed_tokens.weight"]
    ):
        raise CheckpointError("tokens going in and coming out have different matrices, which is not read")
    ours: dict[str, Tensor] = {}
    for name, value in _joined_attention(state).items():
        ours[_our_name(name)] = value
    ours["positions.weight"] = ours["positions.weight"][_FIRST_POSITION:]
    for name in ("embedding.weight", "head_bias"):
        ours[name] = ours[name][keep]
    return ours, vocabulary


_STARTS = {
    _BODY + "embed_tokens.": "embedding.",
    _BODY + "embed_positions.": "positions.",
    _BODY + "emb_layer_norm.": "norm.",
    _BODY + "layernorm_embedding.": "norm.",
    "encoder.lm_head.dense.": "head.",
    "encoder.lm_head.layer_norm.": "head_norm.",
}
_IN_BLOCK = {
    "self_attn.in_proj.": "attention_inputs.",
    "self_attn.out_proj.": "attention_output.",
    "self_attn_layer_norm.": "attention_norm.",
    "fc1.": "feed_forward_in.",
    "fc2.": "feed_forward_out.",
    "final_layer_norm.": "feed_forward_norm.",
}
_IGNORED = (".version", "_float_tensor", "classification_heads.")


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As files are named since 2020; before, the network was called decoder."""
    return {
        re.sub(r"^decoder\.", "encoder.", name): value
        for name, value in state.items()
        if not any(part in name for part in _IGNORED)
    }


def _joined_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one matrix, as the oldest files have them (in_proj_weight)."""
    joined: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := re.fullmatch(r"(.*\.self_attn)\.([qkv])_proj\.(weight|bias)", name):
            if match[2] == "q":
                parts = [state[f"{match[1]}.{part}_proj.{match[3]}"] for part in "qkv"]
                joined[f"{match[1]}.in_proj.{match[3]}"] = torch.cat(parts)
        elif match := re.fullmatch(r"(.*\.self_attn)\.in_proj_(weight|bias)", name):
            joined[f"{match[1]}.in_proj.{match[2]}"] = value
        else:
            joined[name] = value
    return joined


def _our_name(name: str) -> str:
    if name == "encoder.lm_head.bias":
        return "head_bias"
    if name.startswith(_BODY + "layers."):
        number, rest = name.removeprefix(_BODY + "layers.").split(".", 1)
        for theirs, ours in _IN_BLOCK.items():
            if rest.startswith(theirs):
                return f"blocks.{number}.{ours}{rest.removeprefix(theirs)}"
    for theirs, ours in _STARTS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise CheckpointError(f"{name}: not a part of RoBERTa that fairseq's published models have")


def _number(cfg: Mapping[str, Any], key: str, default: float) -> float:
    value = cfg.get(key)
    return default if value is None else float(value)
