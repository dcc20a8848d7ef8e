"""Writing a Hugging Face folder that transformers loads as it would one of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from firstwords import __version__
from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.huggingface import CONFIG, EPSILON, PREFIXES
from firstwords.checkpoints.huggingface_conformer import CONFORMER, conformer_values, unused_weights
from firstwords.checkpoints.huggingface_heads import KINDS, WITHOUT, classifier_checkpoint, huggingface_head
from firstwords.checkpoints.huggingface_names import CTC_NAMES, PRETRAINING_NAMES, encoder_names, to_theirs
from firstwords.checkpoints.models import encoder_config
from firstwords.checkpoints.own import Checkpoint
from firstwords.config import from_dict
from firstwords.errors import CheckpointError
from firstwords.models.heads import CTCConfig
from firstwords.models.wav2vec2 import EncoderConfig, Wav2Vec2Config
from firstwords.text.alphabet import BLANK, BOUNDARY, Alphabet

CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM", CONFORMER: "Wav2Vec2Conformer"}
"""Model types and how transformers' classes for them begin."""


def write_huggingface(checkpoint: Checkpoint, folder: Path, where: str) -> list[str]:
    """Writes config.json, model.safetensors, feature extractor and, for a recogniser, tokenizer into `folder`.

    Args:
        checkpoint: a recogniser, a pre-trained model, a classifier, or an encoder.
        folder: is made; files of the same names are replaced.
        where: what to call the checkpoint in errors.

    Returns:
        What the user should know, in sentences.

    Raises:
        CheckpointError: the model is one that transformers has no class for, or the disk is full.
    """
    encoder = encoder_config(checkpoint, where)
    kind = _model_type(checkpoint, encoder)
    if "head" in checkpoint.state and (kind, KINDS[checkpoint.state["head"]["kind"]]) not in WITHOUT:
        checkpoint = classifier_checkpoint(checkpoint, where)
    _check_exportable(checkpoint, encoder, kind, where)
    weights, config = _weights(checkpoint, encoder, kind), _config(checkpoint, encoder, kind)
    files: dict[str, Any] = {CONFIG: config, "preprocessor_config.json": _feature_extractor(encoder)}
    if checkpoint.kind == "ctc" and "alphabet" in checkpoint.state:
        alphabet = Alphabet.from_dict(checkpoint.state["alphabet"], f"{where}: alphabet")
        files |= _tokenizer(alphabet)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in files.items():
            text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=name != "vocab.json")
            (folder / name).write_text(text + "\n", encoding="utf-8")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); free some space") from error
    notes = []
    if encoder.normalize_waveform and encoder.normalize_epsilon != EPSILON:
        notes.append(
            f"transformers adds {EPSILON:g} to a waveform's variance, this model was trained with "
            f"{encoder.normalize_epsilon:g}: outputs differ on very quiet recordings"
        )
    if "head" in checkpoint.state:
        notes.append(f"only the encoder is written, without its {checkpoint.state['head']['kind']} head")
    if checkpoint.kind == "ctc" and "alphabet" not in checkpoint.state:
        notes.append("no alphabet, so no tokenizer was written")
    return notes


def _model_type(checkpoint: Checkpoint, encoder: EncoderConfig) -> str:
    known = checkpoint.state.get("imported", {}).get("model_type")
    if known in PREFIXES:
        return str(known)
    if encoder.transformer.block == "conformer":
        return CONFORMER
    if encoder.transformer.relative_buckets:
        return "wavlm"
    return "wav2vec2" if encoder.latent_norm else "hubert"


def _check_exportable(checkpoint: Checkpoint, encoder: EncoderConfig, kind: str, where: str) -> None:
    """Refuses by name what no class of transformers can be."""
    faults = []
    if encoder.frontend != "waveform":
        faults.append(f"a {encoder.frontend} front end")
    if encoder.transformer.adapter_dim and (kind != "wav2vec2" or not encoder.transformer.norm_first):
        faults.append("adapters in a " + ("Conformer" if kind == CONFORMER else "post-norm Transformer"))
    if kind == CONFORMER and not encoder.latent_norm:
        faults.append("a Conformer on latents without a norm")
    if kind == CONFORMER and encoder.transformer.dim % encoder.transformer.position_groups:
        faults.append("position_groups that do not divide its width (it has a position convolution, unused)")
    if checkpoint.kind == "wav2vec2":
        model = from_dict(Wav2Vec2Config, checkpoint.config, where)
        if kind not in ("wav2vec2", CONFORMER):
            faults.append(f"a quantiser on {CLASSES[kind]}")
        if not model.quantize_targets or model.quantize_inputs:
            faults.append("continuous targets or quantised inputs")
        if model.quantizer.depth != 1:
            faults.append("a quantiser with several layers")
    if checkpoint.kind == "classifier" and (kind, checkpoint.config["head"]["kind"]) in WITHOUT:
        faults.append(f"a head of kind {checkpoint.config['head']['kind']} on {CLASSES[kind]}")
    if checkpoint.kind == "classifier" and checkpoint.config["head"]["normalize"]:
        faults.append("layers normalised before the head (head.normalize)")
    if faults:
        raise CheckpointError(f"{where}: transformers has no model with {' and '.join(faults)}")


def _weights(checkpoint: Checkpoint, encoder: EncoderConfig, kind: str) -> dict[str, Tensor]:
    bare = checkpoint.kind == "encoder"
    theirs = to_theirs(checkpoint.weights, encoder_names(encoder), "encoder.", "" if bare else PREFIXES[kind])
    if kind == CONFORMER:
        theirs |= {("" if bare else PREFIXES[kind]) + name: value for name, value in unused_weights(encoder).items()}
    if checkpoint.kind == "ctc":
        theirs |= to_theirs(checkpoint.weights, CTC_NAMES)
    if checkpoint.kind == "wav2vec2":
        theirs |= to_theirs(checkpoint.weights, PRETRAINING_NAMES)
    if checkpoint.kind == "classifier":
        theirs |= huggingface_head(checkpoint, "checkpoint")[1]
    return theirs


def _config(checkpoint: Checkpoint, encoder: EncoderConfig, kind: str) -> dict[str, Any]:
    convolutions, transformer = encoder.feature_encoder, encoder.transformer
    if checkpoint.kind == "classifier":
        ending, _, more = huggingface_head(checkpoint, "checkpoint")
    else:
        ending, more = {"ctc": "ForCTC", "wav2vec2": "ForPreTraining", "encoder": "Model"}[checkpoint.kind], {}
    values: dict[str, Any] = {
        "architectures": [CLASSES[kind] + ending],
        "model_type": kind,
        "firstwords_version": __version__,
        "conv_dim": list(convolutions.channels),
        "conv_kernel": list(convolutions.kernels),
        "conv_stride": list(convolutions.strides),
        "num_feat_extract_layers": len(convolutions.channels),
        "feat_extract_norm": convolutions.norm,
        "feat_extract_activation": "gelu",
        "conv_bias": convolutions.bias,
        "hidden_size": transformer.dim,
        "num_hidden_layers": transformer.layers,
        "num_attention_heads": transformer.heads,
        "intermediate_size": transformer.feed_forward_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "do_stable_layer_norm": transformer.norm_first,
        "num_conv_pos_embeddings": transformer.position_kernel,
        "num_conv_pos_embedding_groups": transformer.position_groups,
        "hidden_dropout": transformer.dropout,
        "attention_dropout": transformer.attention_dropout,
        "activation_dropout": transformer.activation_dropout,
        "layerdrop": transformer.layerdrop,
        "feat_proj_dropout": encoder.input_dropout,
        "apply_spec_augment": True,
        "mask_time_prob": 0.05,
        "mask_time_length": 10,
        "mask_feature_prob": 0.0,
        "ctc_loss_reduction": "mean",
        "ctc_zero_infinity": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    values |= more
    if kind == "hubert":
        values["feat_proj_layer_norm"] = encoder.latent_norm
    if kind == CONFORMER:
        values |= conformer_values(transformer)
    if kind == "wavlm":
        values |= {"num_buckets": transformer.relative_buckets, "max_bucket_distance": transformer.relative_distance}
    if transformer.adapter_dim:
        values["adapter_attn_dim"] = transformer.adapter_dim
    if checkpoint.kind == "ctc":
        ctc = from_dict(CTCConfig, checkpoint.config, "checkpoint")
        values |= {"vocab_size": ctc.labels, "final_dropout": ctc.final_dropout}
    if checkpoint.kind == "wav2vec2":
        model = from_dict(Wav2Vec2Config, checkpoint.config, "checkpoint")
        values |= {
            "num_codevector_groups": model.quantizer.groups,
            "num_codevectors_per_group": model.quantizer.entries,
            "codevector_dim": model.quantizer.dim or model.final_dim,
            "proj_codevector_dim": model.final_dim,
            "feat_quantizer_dropout": model.feature_dropout,
            "contrastive_logits_temperature": model.contrast.temperature,
            "num_negatives": model.contrast.distractors,
            "diversity_loss_weight": model.diversity_weight,
            "mask_time_prob": model.mask.probability,
            "mask_time_length": model.mask.length,
        }
    return values


def _feature_extractor(encoder: EncoderConfig) -> dict[str, Any]:
    """Models with group norm want no attention mask: their statistics would still be taken over the padding."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "processor_class": "Wav2Vec2Processor",
        "do_normalize": encoder.normalize_waveform,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": encoder.feature_encoder.norm == "layer",
        "sampling_rate": SAMPLE_RATE,
    }


def _tokenizer(alphabet: Alphabet) -> dict[str, Any]:
    """The blank is called <pad> there, and other specials are named only where the model has outputs for them."""
    names = ["<pad>" if symbol == BLANK else symbol for symbol in alphabet.symbols]
    for number, name in enumerate(names):
        if number and name == "<pad>":  # fairseq's second symbol; Hugging Face swapped the names of the first two
            names[number] = "<s>" if "<s>" not in names else f"<unused {number}>"
    tokens = {
        key: symbol if symbol in names else None
        for key, symbol in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
    } | {"pad_token": "<pad>"}
    phonemes = alphabet.units == "phonemes"
    config = tokens | {
        "tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer" if phonemes else "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        "word_delimiter_token": BOUNDARY,
        "do_lower_case": False,
    }
    config |= (
        {"do_phonemize": False, "phone_delimiter_token": " "} if phonemes else {"replace_word_delimiter_char": " "}
    )
    return {
        "vocab.json": {name: number for number, name in enumerate(names)},
        "tokenizer_config.json": config,
        "special_tokens_map.json": {key: value for key, value in tokens.items() if value is not None},
    }
