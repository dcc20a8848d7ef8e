"""One update of wav2vec 2.0 pre-training: Firstwords against Hugging Face's Wav2Vec2ForPreTraining.

    python benchmarks/pretraining_step.py --sizes base --crops 4x10 --precisions float32 --dropouts 0 --out results.json

Both sides: masks and distractors drawn on the host, forward pass, all losses, backward pass, AdamW. Random weights,
noise for audio. Ours also reads its crops from WAV files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from measure import Parts, Step, autocast, device
from sizes import hugging_face, pretraining
from updates import compare, learn

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.nn.transformer import compile_blocks
from firstwords.training.data import Skipped
from firstwords.training.pretrain import Pretraining
from firstwords.training.processes import Processes


def ours(size: str, lengths: Sequence[float], precision: str, dropout: float, compiled: bool = False) -> Step:
    """One update as the training loop does it, its batch included."""
    seconds = one_length(lengths)
    config = pretraining(size, dropout)
    config = replace(config, data=replace(config.data, min_seconds=min(seconds, 0.5), crop_seconds=seconds))
    folder = tempfile.TemporaryDirectory()
    corpus = write_noise(Path(folder.name), len(lengths), seconds)
    task = Pretraining(config, corpus, [], Processes("auto"), Skipped())
    model = task.model.to(device()).train()
    if compiled:
        compile_blocks(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    update = 0

    def step() -> dict[str, float]:
        nonlocal update
        parts = Parts()
        assert folder  # kept while the step lives
        batch = task.make_batch(corpus, round(seconds * SAMPLE_RATE), (1, update))
        assert batch is not None
        parts.done("batch")
        counts = task.count([batch])
        with autocast(precision):
            loss, _ = task.loss(model, batch, update, counts, task.survey([batch], update, counts))
        parts.done("forward")
        learn(loss, optimizer, parts)
        update += 1
        return parts.seconds

    return step


def one_length(lengths: Sequence[float]) -> float:
    """Pre-training crops the utterances of an update alike."""
    if len(set(lengths)) > 1:
        raise ValueError("pre-training has crops of one length")
    return lengths[0]


def write_noise(folder: Path, utterances: int, seconds: float) -> list[Utterance]:
    """WAV files of noise."""
    random = np.random.default_rng(1)
    made = []
    for number in range(utterances):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * random.standard_normal(round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
        made.append(Utterance(id=str(number), audio=path, duration=seconds))
    return made


def theirs(size: str, lengths: Sequence[float], precision: str, dropout: float) -> Step:
    """The same with transformers, as its example script does it."""
    from transformers import Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    utterances, seconds = len(lengths), one_length(lengths)
    config = hugging_face(size, dropout)
    model = Wav2Vec2ForPreTraining(config).to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    audio = 0.1 * torch.randn(utterances, round(seconds * SAMPLE_RATE), device=device())
    frames = int(model._get_feat_extract_output_lengths(audio.shape[1]))

    def step() -> dict[str, float]:
        parts = Parts()
        mask = _compute_mask_indices((utterances, frames), config.mask_time_prob, config.mask_time_length)
        negatives = _sample_negative_indices((utterances, frames), config.num_negatives, mask)
        masks, others = torch.from_numpy(mask).to(device()), torch.from_numpy(negatives).to(device())
        parts.done("batch")
        with autocast(precision):
            loss = model(audio, mask_time_indices=masks, sampled_negative_indices=others).loss
        parts.done("forward")
        learn(loss / int(mask.sum()), optimizer, parts)
        return parts.seconds

    return step


if __name__ == "__main__":
    compare(ours, theirs)
