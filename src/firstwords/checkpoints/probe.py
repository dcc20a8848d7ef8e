"""Two models on the same sounds: are they the same model?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstwords.audio import SAMPLE_RATE
from firstwords.checkpoints.huggingface_heads import TIED
from firstwords.checkpoints.models import (
    AnyEncoder,
    acoustic_of,
    any_encoder_of,
    classifier_of,
    ctc_of,
    encoder_of,
    pretraining_of,
    vq_wav2vec_of,
    wav2vec_of,
    wav2vec_u_of,
)
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.runtimes import Network
from firstwords.checkpoints.vocabulary import NEVER
from firstwords.errors import CheckpointError
from firstwords.losses.additive_margin import cosines
from firstwords.nn.lengths import normalize_waveform

FEATURE_SCALE = 10.0
"""By which samples are as loud as features are."""

Outputs = list[Tensor]
"""What a model makes of each probe waveform: (T, V)."""


def probe() -> list[Tensor]:
    """Two sounds of different lengths, always the same: gliding harmonics, a pause, noise; (samples,) at 16 kHz."""
    random = np.random.default_rng(20)
    sounds = []
    for seconds, pitch in ((2.0, 130.0), (1.3, 210.0)):
        time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        phase = 2 * np.pi * pitch * (time + 0.05 * np.sin(5 * time))
        sound = sum(np.sin(k * phase) / k for k in range(1, 12)) * (np.sin(6 * time) > -0.6)
        sounds.append(torch.from_numpy((0.1 * sound + 0.003 * random.standard_normal(len(time))).astype(np.float32)))
    return sounds


def largest_difference(ours: Outputs, theirs: Outputs) -> float:
    """As a share of the largest value; infinite where shapes differ or values are not numbers."""
    if [value.shape for value in ours] != [value.shape for value in theirs]:
        return float("inf")
    largest = max(float(value.abs().max()) for value in ours)
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / max(largest, 1e-12)
    return difference if np.isfinite(difference) else float("inf")


@torch.inference_mode()
def run_checkpoint(checkpoint: Checkpoint, where: str, waveforms: list[Tensor]) -> Outputs:
    """Logits of a recogniser or classifier (of an x-vector head the vector, and the cosines with the classes' centres);
    projected context and targets, side by side, of a pre-trained model; else features.

    Of wav2vec (2019) and vq-wav2vec: latents, quantised there, context and all predictions. Of wav2vec-U, which reads
    features: the generator's logits for the samples cut into vectors, and the discriminator's judgement of them.
    """
    if checkpoint.kind == "ctc":
        recogniser = ctc_of(checkpoint, where).eval()
        return [recogniser(_normalized(w, recogniser.encoder)).logits[0] for w in waveforms]
    if checkpoint.kind == "wav2vec2":
        model = pretraining_of(checkpoint, where).eval()
        outputs = []
        for waveform in waveforms:
            given = _normalized(waveform, model.encoder)
            normed = model.encoder.latent_norm(model.encoder.feature_encoder(given, torch.tensor([given.shape[1]])))
            parts = [model.context_projection(model.encoder(given).features[0])]
            if model.config.quantize_targets:
                parts.append(model.target_projection(model.quantizer(normed[0], 1.0).vectors))
            outputs.append(torch.cat(parts, 1))
        return outputs
    if checkpoint.kind == "acoustic":
        acoustic = acoustic_of(checkpoint, where).eval()
        return [acoustic(waveform[None]).logits[0] for waveform in waveforms]
    if checkpoint.kind == "classifier":
        classifier = classifier_of(checkpoint, where).eval()
        decisions = [classifier(waveform[None]) for waveform in waveforms]
        if checkpoint.config["head"]["kind"] == "x-vector":
            scale = classifier.config.head.scale
            return [torch.cat([decision.embeddings, decision.logits / scale], 1) for decision in decisions]
        return [decision.logits.flatten(0, -2) for decision in decisions]
    if checkpoint.kind == "wav2vec-u":
        unsupervised = wav2vec_u_of(checkpoint, where).eval()
        width = unsupervised.config.input_dim
        outputs = []
        for waveform in waveforms:
            features = waveform[: len(waveform) // width * width].view(1, -1, width) * FEATURE_SCALE
            logits, _ = unsupervised(features, torch.tensor([features.shape[1]]))
            judged = unsupervised.discriminator(logits.softmax(-1), torch.tensor([[logits.shape[2]]]))
            outputs.append(torch.cat([logits[0, 0], judged.reshape(1, -1).expand(logits.shape[2], -1)], 1))
        return outputs
    if checkpoint.kind in ("wav2vec", "vq-wav2vec"):
        older = (wav2vec_of if checkpoint.kind == "wav2vec" else vq_wav2vec_of)(checkpoint, where).eval()
        results = [older(_normalized(w, older.encoder), torch.tensor([len(w)])) for w in waveforms]
        contexts = [older.encoder(_normalized(w, older.encoder)).features for w in waveforms]
        return [
            torch.cat([result.targets[0], context[0], result.predictions[0].flatten(1)], 1)
            for result, context in zip(results, contexts, strict=True)
        ]
    encoder = any_encoder_of(checkpoint, where).eval()
    return [encoder(_normalized(w, encoder)).features[0] for w in waveforms]


@torch.inference_mode()
def run_transformers(
    folder: Path, checkpoint: Checkpoint, where: str, waveforms: list[Tensor], language: str | None = None
) -> Outputs | None:
    """The same by transformers; None where it is not installed. `checkpoint` is our reading of the folder."""
    try:
        import transformers
    except ImportError:
        return None
    transformers.utils.logging.disable_progress_bar()
    encoder = encoder_of(checkpoint, where)
    if checkpoint.kind == "ctc":
        more = {} if language is None else {"target_lang": language, "ignore_mismatched_sizes": True}
        recogniser = _loaded(transformers.AutoModelForCTC, folder, **more)
        outputs = [recogniser(_normalized(waveform, encoder)).logits[0] for waveform in waveforms]
        order = checkpoint.state.get("imported", {}).get("outputs")
        return outputs if order is None else [_like_ours(value, order) for value in outputs]
    if checkpoint.kind == "wav2vec2":
        model = _loaded(transformers.AutoModelForPreTraining, folder)
        results = [model(_normalized(waveform, encoder)) for waveform in waveforms]
        return [torch.cat([r.projected_states[0], r.projected_quantized_states[0]], 1) for r in results]
    if checkpoint.kind == "acoustic":
        acoustic = acoustic_of(checkpoint, where).eval()
        return [acoustic(waveform[None]).logits[0] for waveform in waveforms]
    if checkpoint.kind == "classifier":
        head = checkpoint.config["head"]["kind"]
        names = {"mean": "AudioClassification", "frames": "AudioFrameClassification", "x-vector": "AudioXVector"}
        tied = {TIED: checkpoint.config["head"]["final_norm"]}  # else each version of it takes another last layer
        classifier = _loaded(getattr(transformers, f"AutoModelFor{names[head]}"), folder, **tied)
        decisions = [classifier(_normalized(waveform, encoder)) for waveform in waveforms]
        if head == "x-vector":
            centres = classifier.objective.weight
            return [torch.cat([d.embeddings, cosines(d.logits, centres)], 1) for d in decisions]
        return [d.logits.flatten(0, -2) for d in decisions]
    bare = _loaded(transformers.AutoModel, folder)
    return [bare(_normalized(waveform, encoder)).last_hidden_state[0] for waveform in waveforms]


def _loaded(kind: Any, folder: Path, **more: Any) -> Any:
    """A model of transformers, which has errors of a dozen classes for a folder that it does not like."""
    try:
        return kind.from_pretrained(folder, **more).eval()
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{folder}: transformers cannot load it to compare with ({reason[0]})") from error


def run_padded(network: Network, waveforms: list[Tensor]) -> Outputs:
    """All waveforms as one padded batch, each result cut to its own frames."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    values, frames = network(torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), lengths)
    return [row[: int(count)] for row, count in zip(values, frames, strict=True)]


def run_classifier_padded(network: Network, head: Mapping[str, Any], waveforms: list[Tensor]) -> Outputs:
    """As `run_padded`, of a classifier with such a head: what `run_checkpoint` gives."""
    if head["kind"] == "frames":
        return run_padded(network, waveforms)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    values, _, *more = network(torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), lengths)
    if head["kind"] == "x-vector":
        values = torch.cat([values, more[0] / head["scale"]], 1)
    return list(values[:, None])


def _normalized(waveform: Tensor, encoder: AnyEncoder) -> Tensor:
    """(1, samples) as the model wants it."""
    config = encoder.config
    given = waveform[None]
    return normalize_waveform(given, epsilon=config.normalize_epsilon) if config.normalize_waveform else given


def _like_ours(logits: Tensor, order: Sequence[int | None]) -> Tensor:
    """A foreign model's outputs in the order of our alphabet; those that only we have are as low as ours."""
    columns = [logits[:, number] if number is not None else torch.full_like(logits[:, 0], NEVER) for number in order]
    return torch.stack(columns, 1)
