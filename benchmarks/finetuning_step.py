"""One update of CTC fine-tuning, feature encoder frozen: Firstwords against Hugging Face's Wav2Vec2ForCTC.

python benchmarks/finetuning_step.py --sizes base --crops 4x10 --precisions float32 --out results.json
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from measure import Parts, Step, autocast, device
from sizes import hugging_face, pretraining
from updates import compare, learn

from firstwords.audio import SAMPLE_RATE
from firstwords.losses.ctc import ctc_loss
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.nn.masking import SpanMaskConfig, draw_mask
from firstwords.nn.transformer import compile_blocks

LABELS = 32
LABELS_A_SECOND = 14
TIME, CHANNELS = SpanMaskConfig(probability=0.65, length=10), SpanMaskConfig(0.25, 64, min_spans=0)


def labels(utterances: int, seconds: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, LABELS, (utterances, round(LABELS_A_SECOND * seconds)), generator=generator)


def ours(size: str, utterances: int, seconds: float, precision: str, dropout: float, compiled: bool = False) -> Step:
    encoder = pretraining(size, dropout).model.encoder
    encoder = replace(encoder, feature_encoder=replace(encoder.feature_encoder, gradient_scale=0.0))
    model = CTCModel(CTCConfig(encoder, LABELS)).to(device()).train()
    if compiled:
        compile_blocks(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    audio = 0.1 * torch.randn(utterances, round(seconds * SAMPLE_RATE), device=device())
    targets = labels(utterances, seconds).to(device())
    target_lengths = torch.full((utterances,), targets.shape[1], device=device())
    lengths = torch.full((utterances,), audio.shape[1], device=device())
    frames = int(model.encoder.frames(audio.shape[1]))
    random = np.random.default_rng(1)

    def step() -> dict[str, float]:
        parts = Parts()
        mask, channels = (
            torch.from_numpy(np.stack([draw_mask(size, kind, random) for _ in range(utterances)])).to(device())
            for size, kind in ((frames, TIME), (model.encoder.dim, CHANNELS))
        )
        parts.done("batch")
        with autocast(precision):
            emissions = model(audio, lengths, mask, channels)
            loss = ctc_loss(emissions.logits, emissions.lengths, targets, target_lengths).sum() / utterances
        parts.done("forward")
        learn(loss, optimizer, parts)
        return parts.seconds

    return step


def theirs(size: str, utterances: int, seconds: float, precision: str, dropout: float) -> Step:
    from transformers import Wav2Vec2ForCTC

    config = hugging_face(
        size, dropout, vocab_size=LABELS, mask_feature_prob=0.25, mask_feature_length=64, pad_token_id=0
    )
    model = Wav2Vec2ForCTC(config).to(device()).train()
    model.freeze_feature_encoder()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    audio = 0.1 * torch.randn(utterances, round(seconds * SAMPLE_RATE), device=device())
    targets = labels(utterances, seconds).to(device())

    def step() -> dict[str, float]:
        parts = Parts()
        with autocast(precision):
            loss = model(audio, labels=targets).loss
        parts.done("forward")
        learn(loss, optimizer, parts)
        return parts.seconds

    return step


if __name__ == "__main__":
    compare(ours, theirs)
