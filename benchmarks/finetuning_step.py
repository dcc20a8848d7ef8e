"""One update of CTC fine-tuning, feature encoder frozen: Firstwords against Hugging Face's Wav2Vec2ForCTC.

python benchmarks/finetuning_step.py --sizes base --crops 4x10 --precisions float32 --out results.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from measure import Parts, Step, autocast, device
from sizes import hugging_face, pretraining
from torch.nn.utils.rnn import pad_sequence
from updates import compare, learn

from firstwords.audio import SAMPLE_RATE
from firstwords.batching import by_length
from firstwords.losses.ctc import ctc_loss
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.nn.lengths import length_mask
from firstwords.nn.masking import SpanMaskConfig, draw_mask
from firstwords.nn.transformer import compile_blocks
from firstwords.training.data import pad

LABELS = 32
LABELS_A_SECOND = 14
TIME, CHANNELS = SpanMaskConfig(probability=0.65, length=10), SpanMaskConfig(0.25, 64, min_spans=0)


def labels(lengths: Sequence[float]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, LABELS, (round(LABELS_A_SECOND * one),), generator=generator) for one in lengths]


def noise(lengths: Sequence[float]) -> list[torch.Tensor]:
    return [0.1 * torch.randn(round(one * SAMPLE_RATE)) for one in lengths]


def ours(size: str, lengths: Sequence[float], precision: str, dropout: float, compiled: bool = False) -> Step:
    """In micro-batches of similar lengths, as the training loop's buckets are."""
    encoder = pretraining(size, dropout).model.encoder
    encoder = replace(encoder, feature_encoder=replace(encoder.feature_encoder, gradient_scale=0.0))
    model = CTCModel(CTCConfig(encoder, LABELS)).to(device()).train()
    if compiled:
        compile_blocks(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    random = np.random.default_rng(1)
    audio, targets = noise(lengths), labels(lengths)
    sizes = {number: len(waveform) for number, waveform in enumerate(audio)}
    batches = []
    for members in by_length(sizes, sum(sizes.values()), device()):
        waveforms, samples = pad([audio[number] for number in members])
        wanted = [targets[number] for number in members]
        counts = torch.tensor([len(one) for one in wanted])
        batches.append([part.to(device()) for part in (waveforms, samples, pad_sequence(wanted, True), counts)])

    def step() -> dict[str, float]:
        parts = Parts()
        for number, (waveforms, samples, wanted, counts) in enumerate(batches):
            frames = model.encoder.frames(samples).tolist()
            time = np.zeros((len(waveforms), max(frames)), dtype=bool)
            for row, valid in zip(time, frames, strict=True):
                row[:valid] = draw_mask(valid, TIME, random)
            channels = np.stack([draw_mask(model.encoder.dim, CHANNELS, random) for _ in frames])
            mask, channel_mask = (torch.from_numpy(one).to(device()) for one in (time, channels))
            parts.done("batch")
            with autocast(precision):
                emissions = model(waveforms, samples, mask, channel_mask)
                loss = ctc_loss(emissions.logits, emissions.lengths, wanted, counts).sum() / len(lengths)
            parts.done("forward")
            if number + 1 < len(batches):
                loss.backward()
                parts.done("backward")
        learn(loss, optimizer, parts)
        return parts.seconds

    return step


def theirs(size: str, lengths: Sequence[float], precision: str, dropout: float) -> Step:
    """In one padded batch, with an attention mask where the family wants one, as the example script's collator does."""
    from transformers import Wav2Vec2ForCTC

    config = hugging_face(
        size, dropout, vocab_size=LABELS, mask_feature_prob=0.25, mask_feature_length=64, pad_token_id=0
    )
    model = Wav2Vec2ForCTC(config).to(device()).train()
    model.freeze_feature_encoder()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    audio, samples = (part.to(device()) for part in pad(noise(lengths)))
    attention = length_mask(samples, audio.shape[1]).long() if config.feat_extract_norm == "layer" else None
    targets = pad_sequence(labels(lengths), True, -100).to(device())

    def step() -> dict[str, float]:
        parts = Parts()
        with autocast(precision):
            loss = model(audio, attention_mask=attention, labels=targets).loss
        parts.done("forward")
        learn(loss, optimizer, parts)
        return parts.seconds

    return step


if __name__ == "__main__":
    compare(ours, theirs, frozen=True)
