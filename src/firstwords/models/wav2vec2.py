"""wav2vec 2.0 (Baevski et al. 2020): masked latents of speech told from distractors, the targets quantised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.losses.contrastive import ContrastConfig, ContrastIndices
from firstwords.nn.dropout import dropout
from firstwords.nn.feature_encoder import FeatureEncoder, FeatureEncoderConfig
from firstwords.nn.lengths import length_mask
from firstwords.nn.log_mel import LogMel
from firstwords.nn.masking import SpanMaskConfig
from firstwords.nn.quantizer import GumbelQuantizer, QuantizerConfig
from firstwords.nn.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class EncoderConfig:
    """Waveform to context representations: what a pre-trained model keeps for fine-tuning."""

    frontend: Literal["waveform", "log_mel"] = "waveform"
    """"waveform": the learnt feature encoder; "log_mel": 80 log-mel bands, as a baseline."""
    feature_encoder: FeatureEncoderConfig = field(default_factory=FeatureEncoderConfig)
    """Convolutions over the waveform."""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """Context network."""
    input_dropout: float = 0.1
    """On the projected latents that enter the Transformer. Source: BASE pre-training."""
    normalize_waveform: bool = False
    """Zero mean, unit variance per utterance: off for BASE, on for layer-norm models (LV-60k, XLSR)."""
    normalize_epsilon: float = 1e-5
    """Added to that variance: 1e-5 in fairseq's models, 1e-7 in Hugging Face's."""
    latent_norm: bool = True
    """Layer norm on the latents before they are projected; a few distilled HuBERT models have none."""


@dataclass(frozen=True)
class Wav2Vec2Config:
    """The pre-training model and its objective."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Waveform to context representations."""
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    """Codebooks of the targets."""
    final_dim: int = 256
    """Width f in which context and targets are compared: 256 BASE, 768 LARGE."""
    feature_dropout: float = 0.1
    """On the latents that the quantiser sees. Source: BASE."""
    quantize_targets: bool = True
    """Quantised targets; continuous ones are an ablation of the paper (8.58 against 7.97 WER)."""
    quantize_inputs: bool = False
    """Quantised Transformer inputs too, by a quantiser of their own; an ablation of the paper (12.18)."""
    mask: SpanMaskConfig = field(default_factory=SpanMaskConfig)
    """Frames hidden from the Transformer."""
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    """Distractors and which frames are scored."""
    diversity_weight: float = 0.1
    """Weight alpha of the diversity loss. Source: wav2vec 2.0 section 4.2."""
    feature_penalty: float = 10.0
    """Weight of the mean squared latent: 10 for BASE and LARGE LS-960, 0 for LV-60k (fairseq loss_weights)."""


class Encoded(NamedTuple):
    """Context representations of a batch."""

    features: Tensor
    """(B, T, D)."""
    lengths: Tensor
    """(B,) valid frames."""


class Pretrained(NamedTuple):
    """What the losses need of one forward pass; P scored frames, N candidate targets (ContrastIndices)."""

    context: Tensor
    """(P, f) projected context representations at scored frames."""
    targets: Tensor
    """(N, f) projected targets."""
    codes: Tensor | None
    """(N, G) codebook entries of the targets; None where targets are continuous."""
    probabilities: Tensor | None
    """(G, V) sum over the N frames of the entries' probabilities, with gradient."""
    counts: Tensor | None
    """(G, V) how often each entry was the most probable."""
    squares: Tensor
    """Sum of the squared latents over valid frames."""


class Wav2Vec2Encoder(nn.Module):
    """Feature encoder, projection and Transformer; the part that fine-tuning keeps."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        check_shares("encoder", config, "input_dropout")
        self.config = config
        self.feature_encoder = LogMel() if config.frontend == "log_mel" else FeatureEncoder(config.feature_encoder)
        latent_dim, self.dim = self.feature_encoder.output_dim, config.transformer.dim
        self.layers = config.transformer.layers
        self.latent_norm: nn.Module = nn.LayerNorm(latent_dim) if config.latent_norm else nn.Identity()
        self.projection = nn.Linear(latent_dim, self.dim)
        self.mask_embedding = nn.Parameter(torch.rand(self.dim))
        self.transformer = Transformer(config.transformer)

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.feature_encoder.frames(samples)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        layer: int | None = None,
        kept: Sequence[bool] | None = None,
        states: list[Tensor] | None = None,
    ) -> Encoded:
        """Context representations of waveforms.

        Args:
            waveforms: (B, samples), 16 kHz, normalised if the configuration says so, zero beyond `lengths`.
            lengths: (B,) valid samples; None means all.
            mask: (B, T) bool, frames replaced by the mask embedding.
            channel_mask: (B, D) bool, channels set to 0 in all frames.
            layer: stop after so many blocks (0: the Transformer's input) without the final norm; None runs all.
            kept: LayerDrop's choice; None draws it when training.
            states: gets the Transformer's input and each block's output appended (see `Transformer`).
        """
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        x = self.projection(self.latent_norm(self.feature_encoder(waveforms, lengths)))
        return self.contextualize(x, self.frames(lengths), mask, channel_mask, layer, kept, states)

    def contextualize(
        self,
        x: Tensor,
        lengths: Tensor,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        layer: int | None = None,
        kept: Sequence[bool] | None = None,
        states: list[Tensor] | None = None,
    ) -> Encoded:
        """Masks projected latents (B, T, D) and runs the Transformer over `lengths` (B,) valid frames."""
        x = dropout(x, self.config.input_dropout, self.training)
        if mask is not None:
            x = torch.where(mask[:, :, None], self.mask_embedding.to(x.dtype), x)
        if channel_mask is not None:
            x = x.masked_fill(channel_mask[:, None, :], 0)
        return Encoded(self.transformer(x, lengths, layer, kept, states), lengths)


class Wav2Vec2(nn.Module):
    """The pre-training model: encoder, quantiser, and the projections in which they are compared."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        check_shares("model", config, "feature_dropout")
        self.config = config
        self.encoder = Wav2Vec2Encoder(config.encoder)
        latent_dim, dim = self.encoder.feature_encoder.output_dim, self.encoder.dim
        target_dim = latent_dim
        if config.quantize_targets:
            target_dim = config.quantizer.dim or config.final_dim
            self.quantizer = GumbelQuantizer(config.quantizer, latent_dim, target_dim)
        if config.quantize_inputs:
            width = config.quantizer.dim or dim
            self.input_quantizer = GumbelQuantizer(config.quantizer, latent_dim, width)
            self.encoder.projection = nn.Linear(width, dim)
        self.target_projection = nn.Linear(target_dim, config.final_dim)
        self.context_projection = nn.Linear(dim, config.final_dim)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        mask: Tensor,
        indices: ContrastIndices,
        temperature: float,
        noise: Tensor | None = None,
        kept: Sequence[bool] | None = None,
    ) -> Pretrained:
        """Context at scored frames and targets at candidate frames.

        Args:
            waveforms: (B, samples), see Wav2Vec2Encoder.
            lengths: (B,) valid samples.
            mask: (B, T) bool, frames hidden from the Transformer. The quantiser always sees unmasked latents.
            indices: which frames are candidates and which are scored.
            temperature: of the Gumbel softmax.
            noise: standard Gumbel noise (N, G, V) for the target quantiser; None draws it.
            kept: LayerDrop's choice; None draws it when training.
        """
        latents = self.encoder.feature_encoder(waveforms, lengths)
        frames = self.encoder.frames(lengths)
        squares = (latents.float().square() * length_mask(frames, latents.shape[1])[:, :, None]).sum()
        normed = self.encoder.latent_norm(latents)
        inputs = normed
        if self.config.quantize_inputs:
            quantized = self.input_quantizer(normed.flatten(0, 1), temperature)
            inputs = quantized.vectors.view(*normed.shape[:2], -1).to(normed.dtype)
        context = self.encoder.contextualize(self.encoder.projection(inputs), frames, mask, kept=kept).features
        scored = context.flatten(0, 1).index_select(0, indices.scored)
        targets = self._targets(normed, indices, temperature, noise)
        return Pretrained(self.context_projection(scored), *targets, squares)

    @torch.no_grad()
    def codes(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codebook entries (B, T, G) of waveforms (B, samples), of the highest logits; `lengths` (B,) samples."""
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        normed = self.encoder.latent_norm(self.encoder.feature_encoder(waveforms, lengths))
        logits = self.quantizer.entry_logits(normed.flatten(0, 1))
        return logits.argmax(-1).view(*normed.shape[:2], -1)

    def code_statistics(self, waveforms: Tensor, lengths: Tensor, indices: ContrastIndices) -> Tensor:
        """Only the (G, V) sum of entry probabilities, with no gradient: a first look at a batch that comes in parts."""
        with torch.no_grad():
            normed = self.encoder.latent_norm(self.encoder.feature_encoder(waveforms, lengths))
            return self.quantizer.entry_logits(self._candidates(normed, indices)).softmax(-1).sum(0)

    def _candidates(self, normed: Tensor, indices: ContrastIndices) -> Tensor:
        features = normed.flatten(0, 1).index_select(0, indices.pool)
        return dropout(features, self.config.feature_dropout, self.training)

    def _targets(
        self, normed: Tensor, indices: ContrastIndices, temperature: float, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        features = self._candidates(normed, indices)
        if not self.config.quantize_targets:
            return self.target_projection(features), None, None, None
        quantized = self.quantizer(features, temperature, noise)
        targets = self.target_projection(quantized.vectors)
        return targets, quantized.codes, quantized.probabilities, quantized.counts
