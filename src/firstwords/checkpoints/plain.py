"""The network in plain operators, for other runtimes: the modules of `nn` take short cuts that no exporter follows."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.errors import CheckpointError
from firstwords.models.classifier import Classifier
from firstwords.models.heads import CTCModel
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.nn.conformer import SelfAttention
from firstwords.nn.transformer import TransformerBlock


class PlainNetwork(nn.Module):
    """Waveforms as recorded to logits (or features, of an encoder alone), equal to the model it is made from.

    Normalisation of the waveform is part of it, and what lies beyond an utterance's end changes nothing.
    """

    def __init__(self, model: CTCModel | Wav2Vec2Encoder) -> None:
        super().__init__()
        encoder = model.encoder if isinstance(model, CTCModel) else model
        if encoder.config.frontend != "waveform":
            raise CheckpointError(f"a model with a {encoder.config.frontend} front end cannot be exported")
        self.encoder: Any = encoder.eval()
        self.output = model.output if isinstance(model, CTCModel) else nn.Identity()
        self.outputs: tuple[str, ...] = ("logits" if isinstance(model, CTCModel) else "features", "frames")
        self.shortest = encoder.feature_encoder.receptive_field

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits or features (B, T, V), and valid frames (B,).

        Args:
            waveforms: (B, samples) at 16 kHz.
            lengths: (B,) valid samples, int64.
        """
        features, frames = self.features(waveforms, lengths)
        return self.output(features), frames

    def features(self, waveforms: Tensor, lengths: Tensor, states: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) and valid frames (B,); `states` gets layers as Wav2Vec2Encoder's does."""
        config = self.encoder.config
        valid = _inside(lengths, waveforms.shape[1]).to(waveforms.dtype)
        x = waveforms * valid
        if config.normalize_waveform:
            count = lengths[:, None].to(x.dtype)
            x = (x - x.sum(1, keepdim=True) / count) * valid
            x = x * torch.rsqrt(x.square().sum(1, keepdim=True) / count + config.normalize_epsilon)
        x, frames = self._latents(x, lengths)
        x = self.encoder.projection(self.encoder.latent_norm(x))
        return self._context(x, frames, states), frames

    def _latents(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoder = self.encoder.feature_encoder
        config = encoder.config
        x = x[:, None]
        for number, layer in enumerate(encoder.layers):
            kernel, stride = config.kernels[number], config.strides[number]
            x = F.conv1d(x, layer.weight, layer.bias, stride)
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            if config.norm == "layer":
                x = encoder.norms[number](x.transpose(1, 2)).transpose(1, 2)
            elif number == 0:
                norm = encoder.norms[0]
                inside = _inside(lengths, x.shape[2])[:, None].to(x.dtype)
                count = lengths[:, None, None].to(x.dtype)
                x = x - (x * inside).sum(2, keepdim=True) / count
                variance = (x.square() * inside).sum(2, keepdim=True) / count
                x = x * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
            x = F.gelu(x)
        return x.transpose(1, 2), lengths

    def _context(self, x: Tensor, frames: Tensor, states: list[Tensor] | None) -> Tensor:
        transformer = self.encoder.transformer
        inside = _inside(frames, x.shape[1])
        x = x * inside[:, :, None].to(x.dtype)
        if transformer.config.block == "conformer":
            return self._conformer(x, inside, states)
        position = transformer.position
        weight = torch._weight_norm(position.direction, position.gain, 2)
        padding = position.direction.shape[2] // 2
        y = F.conv1d(x.transpose(1, 2), weight, position.bias, padding=padding, groups=position.groups)
        x = x + F.gelu(y[:, :, : x.shape[1]]).transpose(1, 2)
        norm_first = transformer.config.norm_first
        x = x if norm_first else transformer.norm(x)
        bias = torch.zeros_like(inside, dtype=x.dtype).masked_fill(~inside, -math.inf)[:, None, None]
        relative = None if transformer.relative_positions is None else transformer.relative_positions(x.shape[1])
        if states is not None:
            states.append(x)
        for block in transformer.blocks:
            if norm_first:
                x = x + self._attention(block, block.attention_norm(x), bias, relative)
                x = x + self._feed_forward(block, block.feed_forward_norm(x))
            else:
                x = block.attention_norm(x + self._attention(block, x, bias, relative))
                x = block.feed_forward_norm(x + self._feed_forward(block, x))
            x = x if block.adapter is None else block.adapter(x)
            if states is not None:
                states.append(x)
        return transformer.norm(x) if norm_first else x

    def _conformer(self, x: Tensor, inside: Tensor, states: list[Tensor] | None) -> Tensor:
        transformer = self.encoder.transformer
        positions = transformer.positions(x)
        bias = torch.zeros_like(inside, dtype=x.dtype).masked_fill(~inside, -math.inf)[:, None, None]
        if states is not None:
            states.append(x)
        for block in transformer.blocks:
            x = x + 0.5 * block.first(x)
            x = x + self._conformer_attention(block.attention, x, bias, positions)
            x = x + block.convolution(x, inside[:, :, None])
            x = block.norm(x + 0.5 * block.second(x))
            x = x if block.adapter is None else block.adapter(x)
            if states is not None:
                states.append(x)
        return transformer.norm(x)

    def _conformer_attention(
        self, attention: SelfAttention, x: Tensor, bias: Tensor, positions: Tensor | None
    ) -> Tensor:
        heads, frames = attention.config.heads, x.shape[1]
        query, key, value = (
            part.unflatten(2, (heads, -1)).transpose(1, 2) for part in attention.parts(attention.norm(x), positions)
        )
        if attention.config.conformer.positions == "relative" and positions is not None:
            distances = attention.distances(positions).unflatten(1, (heads, -1)).permute(1, 2, 0)
            by_distance = (query + attention.distance_bias[:, None]) @ distances
            places = torch.arange(frames, device=x.device)
            columns = (frames - 1 - places[:, None] + places).expand(x.shape[0], heads, -1, -1)
            scores = (query + attention.content_bias[:, None]) @ key.transpose(2, 3) + by_distance.gather(3, columns)
        else:
            scores = query @ key.transpose(2, 3)
        mixed = (scores / math.sqrt(query.shape[3]) + bias).softmax(-1) @ value
        return attention.attention_output(mixed.transpose(1, 2).flatten(2))

    def _attention(self, block: TransformerBlock, x: Tensor, bias: Tensor, relative: Tensor | None) -> Tensor:
        heads = block.config.heads
        projected = block.attention_inputs(x)
        if block.low_rank is not None:
            projected = projected + block.low_rank(x)
        query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=2))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        if relative is not None and block.position_gate is not None:
            scores = scores + block.position_gate(x, relative, None)
        mixed = (scores + bias).softmax(-1) @ value
        return block.attention_output(mixed.transpose(1, 2).flatten(2))

    def _feed_forward(self, block: TransformerBlock, x: Tensor) -> Tensor:
        return block.feed_forward_out(F.gelu(block.feed_forward_in(x)))


class PlainTimeDelay(nn.Module):
    """A TimeDelayLayer as a convolution over a picture of one row: the exporter cannot prove that conv1d's output is
    longer than one frame, and refuses."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        layer = self.convolution
        rows = x.transpose(1, 2)[:, :, None]
        y = F.conv2d(rows, layer.weight[:, :, None], layer.bias, dilation=(1, layer.dilation[0]))
        return F.relu(y[:, :, 0].transpose(1, 2))


class PlainClassifier(nn.Module):
    """Waveforms as recorded to scores of classes, equal to the classifier it is made from.

    `outputs` names what it gives: "logits" (B, C), of a head on frames (B, T, C), and "frames" (B,), how many are
    valid; of an x-vector head "embeddings" (B, E), "frames" and "logits".
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        if not isinstance(model.encoder, Wav2Vec2Encoder):
            raise CheckpointError(
                f"a classifier on an encoder of kind {model.config.encoder_kind!r} cannot be exported; those on "
                "wav2vec 2.0, HuBERT and WavLM can"
            )
        self.plain = PlainNetwork(model.encoder)
        self.head = copy.deepcopy(model.head).eval()
        if model.config.head.kind == "x-vector":
            self.head.tdnn = nn.ModuleList(PlainTimeDelay(layer.convolution) for layer in self.head.tdnn)  # type: ignore[arg-type]
        settings = model.config.head
        self.outputs = ("embeddings", "frames", "logits") if settings.kind == "x-vector" else ("logits", "frames")
        self.shortest = self.plain.shortest + (settings.context - 1) * model.encoder.feature_encoder.hop

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """What `outputs` names, of waveforms (B, samples) at 16 kHz of which `lengths` (B,) samples are valid."""
        settings = self.head.config
        states: list[Tensor] = []
        features, frames = self.plain.features(waveforms, lengths, states)
        if settings.layers == "last":
            states = [features]
        elif settings.final_norm:
            states[-1] = features
        if settings.normalize:
            states = [F.layer_norm(state, state.shape[-1:]) for state in states]
        decision = self.head(states, frames)
        found = {"logits": decision.logits, "embeddings": decision.embeddings, "frames": frames}
        return tuple(found[name] for name in self.outputs)


def _inside(lengths: Tensor, size: int) -> Tensor:
    return torch.arange(size, device=lengths.device) < lengths[:, None]
