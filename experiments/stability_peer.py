"""Hugging Face's example of pre-training, its update and its objective as they ship, on clips of one length.

What belongs to `run_wav2vec2_pretraining_no_trainer.py` (transformers, examples/pytorch/speech-pretraining) is kept:
the loss of each micro-batch is divided by the number of micro-batches, and after each backward pass all gradients
gathered so far are divided by that micro-batch's masked frames, so that every micro-batch but the last counts next to
nothing; no gradient is clipped; the optimiser takes no weight decay but its own default; no feature penalty; only the
layer-norm architecture; codebooks that start in [0, 1); recordings in random order. What its command line and its
configuration let a user choose is as our recipe has it: sizes, masks, temperatures, schedule, betas, epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from firstwords.corpus.utterance import Utterance
from firstwords.training.pretrain import PretrainConfig

MICRO_BATCHES = 4
"""Of an update; the script's README has 4 (base) and 8 (demo, large)."""


def train_peer(utterances: Sequence[Utterance], config: PretrainConfig) -> list[dict[str, Any]]:
    """Trains on the split "train"; returns a log as ours, the last line a validation on "dev"."""
    from transformers import Wav2Vec2ForPreTraining

    torch.manual_seed(config.seed)
    np.random.seed(config.seed)  # masks and distractors are drawn from numpy's global generator there
    model = Wav2Vec2ForPreTraining(hugging_face_config(config))
    training, validation = (normalized(utterances, split) for split in ("train", "dev"))
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.training.schedule.peak,
        betas=tuple(config.training.optimizer.betas),  # type: ignore[arg-type]
        eps=config.training.optimizer.epsilon,
    )
    warmup = round(config.training.schedule.warmup * config.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda n: n / max(1, warmup) if n < warmup else max(0.0, (config.steps - n) / (config.steps - warmup)),
    )
    clips = round(config.training.batch_seconds / (training.shape[1] / 16_000))
    size = max(1, clips // MICRO_BATCHES)
    records: list[dict[str, Any]] = []
    bits: list[float] = []
    done, quantizer = 0, config.model.quantizer
    model.set_gumbel_temperature(quantizer.temperature_start)
    while done < config.steps:
        micro_batches = torch.randperm(len(training)).split(size)
        for step, chosen in enumerate(micro_batches):
            output, masks, _ = forward(model, training[chosen])
            masked = int(masks.sum())
            (output.loss / MICRO_BATCHES).backward()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(1 / masked)
            bits.append(float(output.contrastive_loss.detach()) / masked / math.log(2))
            if (step + 1) % MICRO_BATCHES == 0 or step == len(micro_batches) - 1:
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                cooled = quantizer.temperature_start * quantizer.temperature_decay**done
                model.set_gumbel_temperature(max(cooled, quantizer.temperature_end))
                done += 1
                if done % config.training.log_every == 0:
                    records.append({"update": done, "bits": float(np.mean(bits))})
                    bits.clear()
                if done == config.steps:
                    break
    return [*records, {"update": done} | validate(model, validation)]


def hugging_face_config(config: PretrainConfig) -> Any:
    """The recipe's sizes and masks in the one architecture that the script takes."""
    from transformers import Wav2Vec2Config

    model = config.model
    features, transformer = model.encoder.feature_encoder, model.encoder.transformer
    return Wav2Vec2Config(
        conv_dim=tuple(features.channels), conv_kernel=tuple(features.kernels), conv_stride=tuple(features.strides),
        num_feat_extract_layers=len(features.channels), feat_extract_norm="layer", conv_bias=True,
        do_stable_layer_norm=True, hidden_size=transformer.dim, num_hidden_layers=transformer.layers,
        num_attention_heads=transformer.heads, intermediate_size=transformer.feed_forward_dim,
        num_conv_pos_embeddings=transformer.position_kernel,
        num_conv_pos_embedding_groups=transformer.position_groups,
        num_codevector_groups=model.quantizer.groups, num_codevectors_per_group=model.quantizer.entries,
        codevector_dim=model.final_dim, proj_codevector_dim=model.final_dim, num_negatives=model.contrast.distractors,
        contrastive_logits_temperature=model.contrast.temperature, diversity_loss_weight=model.diversity_weight,
        mask_time_prob=model.mask.probability, mask_time_length=model.mask.length,
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip


def normalized(utterances: Sequence[Utterance], split: str) -> torch.Tensor:
    """(clips, samples) with zero mean and unit variance each, as its feature extractor gives them."""
    clips = torch.stack([torch.from_numpy(one.read()) for one in utterances if one.split == split])
    return (clips - clips.mean(1, keepdim=True)) / (clips.var(1, unbiased=False, keepdim=True) + 1e-7).sqrt()


def forward(model: Any, audio: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The model's output with the masks (B, T) and distractors (B, T, K) of its own helpers."""
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    shape = (len(audio), int(model._get_feat_extract_output_lengths(audio.shape[1])))
    mask = _compute_mask_indices(shape, model.config.mask_time_prob, model.config.mask_time_length)
    negatives = _sample_negative_indices(shape, model.config.num_negatives, mask)
    masks, others = torch.from_numpy(mask), torch.from_numpy(negatives)
    return model(audio, mask_time_indices=masks, sampled_negative_indices=others), masks, others


@torch.no_grad()
def validate(model: Any, audio: torch.Tensor) -> dict[str, float]:
    """Loss, accuracy and codes in use on clips, in evaluation mode."""
    model.eval()
    random = np.random.get_state()
    np.random.seed(1)
    nats = correct = scored = 0.0
    perplexities = []
    for part in audio.split(16):
        output, masks, others = forward(model, part)
        nats += float(output.contrastive_loss)
        scored += int(masks.sum())
        perplexities.append(float(output.codevector_perplexity))
        targets, context = output.projected_quantized_states.flatten(0, 1), output.projected_states[masks]
        chosen, target = targets[others[masks].long()], targets[masks.flatten()]  # (N, K, f), (N, f)
        similar = torch.cosine_similarity(context[:, None], torch.cat([target[:, None], chosen], 1), dim=-1)
        similar[:, 1:][(chosen == target[:, None]).all(-1)] = -math.inf
        correct += int((similar.argmax(1) == 0).sum())
    np.random.set_state(random)
    model.train()
    return {
        "valid_bits": nats / scored / math.log(2),
        "valid_chance_bits": math.log2(model.config.num_negatives + 1),
        "valid_accuracy": correct / scored,
        "valid_codes_perplexity": float(np.mean(perplexities)),
    }
