"""Reading a Hugging Face folder: wav2vec 2.0, its Conformer, HuBERT, WavLM; pre-trained, with CTC or another head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.huggingface_conformer import CONFORMER, drop_unused, dropout_notes, with_conformer
from firstwords.checkpoints.huggingface_heads import head_values, labels_of
from firstwords.checkpoints.huggingface_names import (
    CTC_NAMES,
    PRETRAINING_NAMES,
    current_names,
    encoder_names,
    to_ours,
)
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.pickles import read_pickled
from firstwords.checkpoints.vocabulary import NEVER, imported_alphabet, reordered
from firstwords.config import to_dict
from firstwords.errors import CheckpointError
from firstwords.losses.contrastive import ContrastConfig
from firstwords.models.heads import CTCConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Config
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.quantizer import QuantizerConfig
from firstwords.nn.transformer import TransformerConfig

CONFIG = "config.json"
EPSILON = 1e-7
"""That transformers' feature extractor adds to the variance."""
PREFIXES = {"wav2vec2": "wav2vec2.", "hubert": "hubert.", "wavlm": "wavlm.", CONFORMER: "wav2vec2_conformer."}
"""Model types that are read, and what stands before their encoder's parameters."""
HEADS = {"tdnn": "x-vector", "projector": "sequence-classification", "classifier": "audio-frame-classification"}
"""Parameters by which other heads are told apart, the first that is there; their names for `state["head"]`."""


def is_huggingface(folder: Path) -> bool:
    """Whether a folder looks like one that transformers wrote."""
    return (folder / CONFIG).is_file()


def read_huggingface(folder: Path, weights_file: Path | None = None, language: str | None = None) -> Checkpoint:
    """The model in a Hugging Face folder, as a checkpoint of ours.

    Args:
        folder: with config.json, weights, and where it applies vocabulary and feature extractor.
        weights_file: safetensors or pytorch_model.bin in it; None finds them.
        language: of a model with adapters for several languages; None takes the one that is in the weights.

    Returns:
        A checkpoint of kind "ctc", "wav2vec2" (with quantiser) or "encoder". `state["alphabet"]` of a recogniser,
        `state["imported"]` (where it came from), `state["notes"]` (what the user should know), `state["head"]` and
        weights under "head." of a model with another head.

    Raises:
        CheckpointError: an unknown architecture, another sample rate, weights that are missing or no part of it.
    """
    values = _read_json(folder / CONFIG, required=True)
    kind = str(values.get("model_type"))
    _check_architecture(folder, values)
    extractor = _read_json(folder / "preprocessor_config.json") or _read_json(folder / "processor_config.json").get(
        "feature_extractor", {}
    )
    rate = extractor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise CheckpointError(
            f"{folder}: the model hears audio at {rate} Hz; Firstwords works at {SAMPLE_RATE} Hz, and there is no "
            "converting weights between the two; choose a model for 16 kHz"
        )
    notes: list[str] = []
    if not extractor:
        notes.append("no preprocessor_config.json: waveforms are normalised, as transformers does by default")
    config = _encoder_config(values, bool(extractor.get("do_normalize", True)))
    theirs = {
        name.removeprefix(PREFIXES[kind]): value
        for name, value in current_names(_weights(folder, weights_file)).items()
    }
    if kind == CONFORMER:
        config = with_conformer(config, values, folder)
        drop_unused(theirs, config, folder)
        notes += dropout_notes(values)
    tokenizer = _read_json(folder / "tokenizer_config.json")
    if language is not None:
        theirs |= current_names(_language_weights(folder, language, values))
    languages = _languages(folder)
    weights = to_ours(theirs, encoder_names(config), "encoder.")
    if "encoder.mask_embedding" not in weights:
        weights["encoder.mask_embedding"] = torch.rand(
            config.transformer.dim, generator=torch.Generator().manual_seed(0)
        )
        notes.append("no mask embedding in the weights: a new one was drawn")
    state: dict[str, Any] = {
        "imported": {"format": "Hugging Face", "model_type": kind, "name": folder.name},
        "notes": notes,
    }
    if languages:
        state["imported"] |= {"languages": languages, "language": language or tokenizer.get("target_lang")}
    if lm := _language_model(folder):
        state["language_model"] = lm
    if "lm_head.weight" in theirs:
        for name in [name for name in theirs if name.startswith(("quantizer.", "project_q.", "project_hid."))]:
            del theirs[name]
        result = _ctc(folder, values, config, weights, theirs, tokenizer, state)
    elif "quantizer.codevectors" in theirs:
        result = _pretraining(values, config, weights, theirs, state)
    else:
        head = next((name for part, name in HEADS.items() if any(key.startswith(part + ".") for key in theirs)), None)
        if head is not None:
            state["head"] = {"kind": head, "labels": labels_of(values), "config": head_values(values)}
            weights |= {f"head.{name}": theirs.pop(name) for name in list(theirs)}
            notes.append(f"its {head} head is kept beside the encoder")
        result = Checkpoint("encoder", to_dict(config), weights, state=state)
    _check_complete(folder, values, result, config, theirs)
    return result


def _check_architecture(folder: Path, values: Mapping[str, Any]) -> None:
    """Refuses by name what the network here cannot be."""
    kind = values.get("model_type")
    if kind not in PREFIXES:
        raise CheckpointError(
            f"{folder}: config.json describes a model of type {kind!r} "
            f"({', '.join(values.get('architectures') or ['no architecture'])}); read: {', '.join(PREFIXES)}"
        )
    wanted = {
        "hidden_act": "gelu", "feat_extract_activation": "gelu", "layer_norm_eps": 1e-5, "add_adapter": False,
        "conv_pos_batch_norm": False,
    }  # fmt: skip
    if kind == CONFORMER:
        del wanted["hidden_act"]  # of which it has several
    for key, value in wanted.items():
        if values.get(key, value) != value:
            raise CheckpointError(f"{folder}: config.json has {key} = {values[key]!r}; only {value!r} is read")


def _encoder_config(values: Mapping[str, Any], normalize: bool) -> EncoderConfig:
    kind = values["model_type"]
    group = values.get("feat_extract_norm", "group") == "group"
    return EncoderConfig(
        feature_encoder=FeatureEncoderConfig(
            channels=tuple(values.get("conv_dim", (512,) * 7)),
            kernels=tuple(values.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))),
            strides=tuple(values.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))),
            norm="group" if group else "layer",
            bias=bool(values.get("conv_bias", False)),
            gradient_scale=0.1 if group else 1.0,
        ),
        transformer=TransformerConfig(
            layers=values.get("num_hidden_layers", 12),
            dim=values.get("hidden_size", 768),
            feed_forward_dim=values.get("intermediate_size", 3072),
            heads=values.get("num_attention_heads", 12),
            norm_first=bool(values.get("do_stable_layer_norm", False)),
            position_kernel=values.get("num_conv_pos_embeddings", 128),
            position_groups=values.get("num_conv_pos_embedding_groups", 16),
            dropout=float(values.get("hidden_dropout", 0.1)),
            attention_dropout=float(values.get("attention_dropout", 0.1)),
            activation_dropout=float(values.get("activation_dropout", 0.1)),
            layerdrop=float(values.get("layerdrop", 0.1)),
            relative_buckets=values.get("num_buckets", 320) if kind == "wavlm" else 0,
            relative_distance=values.get("max_bucket_distance", 800),
            adapter_dim=values.get("adapter_attn_dim") or 0,
        ),
        input_dropout=float(values.get("feat_proj_dropout", 0.0)),
        normalize_waveform=normalize,
        normalize_epsilon=EPSILON,
        latent_norm=bool(values.get("feat_proj_layer_norm", True)),
    )


def _pretraining(
    values: Mapping[str, Any],
    encoder: EncoderConfig,
    weights: dict[str, Tensor],
    theirs: dict[str, Tensor],
    state: dict[str, Any],
) -> Checkpoint:
    """Masks keep our defaults: many published configurations hold a probability ten times too small."""
    dim = values.get("codevector_dim", 256)
    group = encoder.feature_encoder.norm == "group"
    config = Wav2Vec2Config(
        encoder=encoder,
        quantizer=QuantizerConfig(
            groups=values.get("num_codevector_groups", 2),
            entries=values.get("num_codevectors_per_group", 320),
            dim=dim,
            temperature_end=0.5 if dim <= 256 else 0.1,
        ),
        final_dim=values.get("proj_codevector_dim", 256),
        feature_dropout=float(values.get("feat_quantizer_dropout", 0.0)),
        contrast=ContrastConfig(
            temperature=values.get("contrastive_logits_temperature", 0.1), distractors=values.get("num_negatives", 100)
        ),
        diversity_weight=float(values.get("diversity_loss_weight", 0.1)),
        feature_penalty=10.0 if group else 0.0,
    )
    weights |= to_ours(theirs, PRETRAINING_NAMES)
    books = weights["quantizer.codebooks"]
    if books.shape[-2] == config.quantizer.groups * config.quantizer.entries:
        weights["quantizer.codebooks"] = books.reshape(config.quantizer.groups, -1, books.shape[-1])
    return Checkpoint("wav2vec2", to_dict(config), weights, state=state)


def _ctc(
    folder: Path,
    values: Mapping[str, Any],
    encoder: EncoderConfig,
    weights: dict[str, Tensor],
    theirs: dict[str, Tensor],
    tokenizer: Mapping[str, Any],
    state: dict[str, Any],
) -> Checkpoint:
    output = to_ours(theirs, CTC_NAMES)
    if len(output) < len(CTC_NAMES):
        raise CheckpointError(f"{folder}: lm_head has no bias; a recogniser of another make")
    rows = len(output["output.weight"])
    language = state["imported"].get("language")
    vocabulary = _vocabulary(folder, language)
    if vocabulary is None:
        state["notes"].append("no vocab.json: the model can be trained on, but not transcribe")
    else:
        names, blank, boundary = _symbols(folder, vocabulary, tokenizer, values, rows)
        phonemes = "Phoneme" in str(tokenizer.get("tokenizer_class")) or "phonemizer_lang" in tokenizer
        alphabet, order = imported_alphabet(
            names, blank, boundary, "phonemes" if phonemes else "characters", final_boundary=False
        )
        output["output.weight"] = reordered(output["output.weight"], order, 0.0)
        output["output.bias"] = reordered(output["output.bias"], order, NEVER)
        state["alphabet"] = alphabet.to_dict()
        if order != list(range(rows)):
            state["imported"]["outputs"] = order
        rows = len(alphabet)
    config = CTCConfig(encoder, rows, float(values.get("final_dropout", 0.0)))
    return Checkpoint("ctc", to_dict(config), weights | output, state=state)


def _symbols(
    folder: Path, vocabulary: dict[str, int], tokenizer: Mapping[str, Any], values: Mapping[str, Any], rows: int
) -> tuple[list[str | None], int, str | None]:
    """Name of each output, which is the blank, and the symbol between words."""
    vocabulary = dict(vocabulary)
    vocabulary |= {k: v for k, v in _read_json(folder / "added_tokens.json").items() if v not in vocabulary.values()}
    special = _read_json(folder / "special_tokens_map.json") | dict(tokenizer)
    beyond = sorted(name for name, number in vocabulary.items() if number >= rows)
    named = {number: name for name, number in vocabulary.items() if number < rows}
    common = {"<pad>", "<s>", "</s>", "<unk>"}
    extra = [name for name in beyond if name not in common and name not in map(_content, special.values())]
    if extra or not named:
        raise CheckpointError(
            f"{folder}: vocab.json names {len(vocabulary)} symbols ({', '.join(map(repr, extra[:5]))} beyond the end), "
            f"but the output layer has {rows}; they belong to different models or languages"
        )
    names: list[str | None] = [named.get(number) for number in range(rows)]
    for key, ours in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")):
        number = vocabulary.get(_content(special.get(key)), rows)
        if number < rows and ours not in names:
            names[number] = ours
    blank = vocabulary.get(_content(special.get("pad_token", "<pad>")), values.get("pad_token_id"))
    if not isinstance(blank, int) or not 0 <= blank < rows:
        raise CheckpointError(f"{folder}: nothing says which of the {rows} outputs is the blank (pad_token_id)")
    boundary = special.get("word_delimiter_token", "|")
    if special.get("do_lower_case"):
        lowered = [name.lower() if name and len(name) == 1 else name for name in names]
        if len(set(lowered)) == len(set(names)):
            names = lowered
    return names, blank, None if boundary is None else _content(boundary)


def _content(token: Any) -> str:
    """A token is written as text, or as a mapping with its `content`."""
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _vocabulary(folder: Path, language: str | None) -> dict[str, int] | None:
    values = _read_json(folder / "vocab.json")
    if not values:
        return None
    if all(isinstance(value, int) for value in values.values()):
        return values
    if not all(isinstance(value, dict) for value in values.values()):
        raise CheckpointError(f"{folder / 'vocab.json'}: expected the number of each symbol, or that for each language")
    if language not in values:
        raise CheckpointError(
            f"{folder}: has alphabets of {len(values)} languages but none of {language!r}; choose one with --adapter: "
            f"{_some(values)}"
        )
    return values[language]


def _languages(folder: Path) -> list[str]:
    """Those that a model with adapters knows."""
    files = (path.name.split(".") for path in folder.glob("adapter.*.*"))
    return sorted({parts[1] for parts in files if len(parts) == 3 and parts[2] in ("safetensors", "bin")})


def _language_weights(folder: Path, language: str, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """A language's adapters and output layer."""
    for ending in ("safetensors", "bin"):
        path = folder / f"adapter.{language}.{ending}"
        if path.is_file():
            start = PREFIXES[values["model_type"]]
            return {name.removeprefix(start): value for name, value in read_tensors(path).items()}
    known = _languages(folder)
    there = f"there are: {_some(known)}" if known else "it has no adapters at all"
    raise CheckpointError(f"{folder}: no adapter for {language!r} (adapter.{language}.safetensors); {there}")


def _weights(folder: Path, chosen: Path | None) -> dict[str, Tensor]:
    if chosen is not None:
        return read_tensors(chosen)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return read_tensors(folder / name)
        if (folder / f"{name}.index.json").is_file():
            parts = set(_read_json(folder / f"{name}.index.json", required=True).get("weight_map", {}).values())
            return {
                key: value for part in sorted(parts) for key, value in read_tensors(folder / Path(part).name).items()
            }
    raise CheckpointError(f"{folder}: config.json without weights (model.safetensors or pytorch_model.bin)")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or a pickled state dict, floating point as float32.

    Raises:
        CheckpointError: missing, cut short, or holding anything else.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file") from error
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}); it may be cut short: copy it again") from error
    else:
        found = read_pickled(path)
        if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
            raise CheckpointError(f"{path}: expected named tensors only, as in pytorch_model.bin")
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def _language_model(folder: Path) -> dict[str, Any] | None:
    """Weights and files of the n-gram model that pyctcdecode keeps beside a recogniser."""
    place = folder / "language_model"
    attributes = _read_json(place / "attrs.json")
    if not attributes:
        return None
    return {
        "weight": attributes.get("alpha"),
        "word_score": attributes.get("beta"),
        "unknown_score": attributes.get("unk_score_offset"),
        "files": sorted(path.name for path in place.iterdir() if path.name != "attrs.json"),
    }


def _check_complete(
    folder: Path, values: Mapping[str, Any], found: Checkpoint, config: EncoderConfig, left: Mapping[str, Tensor]
) -> None:
    """Every parameter must be there, and nothing may be left over."""
    wrong = [f"{theirs[0]} is missing" for our, theirs in encoder_names(config).items()
             if "encoder." + our not in found.weights]  # fmt: skip
    if found.kind == "wav2vec2":
        wrong += [f"{theirs[0]} is missing" for our, theirs in PRETRAINING_NAMES.items() if our not in found.weights]
    wrong += [f"{name} is no part of it" for name in left if not name.endswith("num_batches_tracked")]
    if wrong:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise CheckpointError(f"{folder}: config.json and the weights contradict each other: {shown}")


def _read_json(path: Path, required: bool = False) -> dict[str, Any]:
    if not path.is_file() and not required:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected keys and values")
    return values


def _some(names: Any, most: int = 12) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
