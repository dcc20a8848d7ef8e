"""vq-wav2vec (Baevski et al. 2020): wav2vec whose latents are replaced by entries of codebooks, 100 codes a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.losses.noise_contrastive import NoiseContrastConfig, first_step
from firstwords.models.wav2vec import StepPredictions, Wav2VecEncoder, Wav2VecEncoderConfig
from firstwords.models.wav2vec2 import Encoded
from firstwords.nn.context_network import ContextNetwork
from firstwords.nn.dropout import dropout
from firstwords.nn.kmeans_quantizer import KMeansQuantizer
from firstwords.nn.lengths import length_mask
from firstwords.nn.quantizer import GumbelQuantizer, Quantized, QuantizerConfig


@dataclass(frozen=True)
class VqQuantizerConfig(QuantizerConfig):
    """Codebooks, and how a latent finds its entries."""

    kind: Literal["gumbel", "kmeans"] = "gumbel"
    """"gumbel": a scored choice with Gumbel softmax (section 3.1); "kmeans": the nearest entry (section 3.2)."""
    depth: int = 2
    """Gumbel: layers of the projection that scores entries. Source: fairseq's command."""
    factor: int = 2
    """Gumbel: width of the inner projections, times the input width. Source: fairseq."""
    shared: bool = True
    """One codebook for all groups. Source: vq-wav2vec section 5.1, and fairseq's command (combine_groups)."""
    commitment: float = 0.25
    """k-means: weight gamma of the commitment term. Source: vq-wav2vec section 3.2."""
    start: float = 0.01
    """k-means: standard deviation of the entries at the start, beside frames of 1 (fairseq); 0: frames of the first
    update in their place, so that none begins far from all (Forgy's start of k-means; ours, for short runs)."""
    annealing: Literal["exponential", "linear"] = "exponential"
    """Gumbel: the temperature falls by a factor at each update (fairseq), or by the same amount (vq-wav2vec)."""
    annealing_updates: int = 280_000
    """Linear annealing: updates from the first temperature to the last, 70 % of 400 k. Source: vq-wav2vec section 5."""

    def temperature(self, update: int) -> float:
        """max(start * decay^update, end), or from start to end on a line."""
        if self.annealing == "exponential":
            return super().temperature(update)
        done = min(1.0, update / max(1, self.annealing_updates))
        return self.temperature_start + (self.temperature_end - self.temperature_start) * done


@dataclass(frozen=True)
class VqWav2VecEncoderConfig(Wav2VecEncoderConfig):
    """Waveform to codes to context: what features are taken from."""

    quantizer: VqQuantizerConfig = field(default_factory=VqQuantizerConfig)
    """The quantiser q between the two networks."""


@dataclass(frozen=True)
class VqWav2VecConfig:
    """The pre-training model and its objective."""

    encoder: VqWav2VecEncoderConfig = field(default_factory=VqWav2VecEncoderConfig)
    """Waveform to context."""
    steps: int = 12
    """K, how many future codes are predicted: 12 in fairseq's command, 8 in the paper."""
    prediction_dropout: float = 0.0
    """On the predictions. Source: fairseq (dropout)."""
    contrast: NoiseContrastConfig = field(default_factory=NoiseContrastConfig)
    """Distractors and the kind of loss."""
    quantizer_weight: float = 0.0
    """Weight of the quantiser's own loss: k-means needs it (1, fairseq's command); Gumbel: G V - perplexity, off."""


class VqPredicted(NamedTuple):
    """What the losses need of one forward pass."""

    predictions: Tensor
    """(B, T, K, D): what each frame expects its future vectors to be."""
    targets: Tensor
    """(B, T, D): the quantised latents."""
    lengths: Tensor
    """(B,) valid frames."""
    quantized: Quantized
    """Of the N valid frames, in order."""


class VqWav2VecEncoder(Wav2VecEncoder):
    """Encoder network, quantiser and context network."""

    config: VqWav2VecEncoderConfig

    def __init__(self, config: VqWav2VecEncoderConfig) -> None:
        super().__init__(config)
        latent_dim, chosen = self.feature_encoder.output_dim, config.quantizer
        self.code_dim = chosen.dim or latent_dim
        self.quantizer: GumbelQuantizer | KMeansQuantizer
        if chosen.kind == "kmeans":
            self.quantizer = KMeansQuantizer(chosen, latent_dim, chosen.commitment, chosen.start)
        else:
            self.quantizer = GumbelQuantizer(chosen, latent_dim, self.code_dim)
        if self.code_dim != latent_dim:
            self.context_network = ContextNetwork(config.context_network, self.code_dim)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        layer: int | None = None,
        states: list[Tensor] | None = None,
    ) -> Encoded:
        """Context of waveforms; the arguments are those of Wav2VecEncoder, but layer 0 is the quantised latents."""
        lengths = _lengths(waveforms, lengths)
        frames = self.frames(lengths)
        vectors, _ = self.quantize(self.feature_encoder(waveforms, lengths), frames)
        return self.contextualize(vectors, frames, layer, states)

    def quantize(
        self, latents: Tensor, frames: Tensor, temperature: float = 1.0, noise: Tensor | None = None
    ) -> tuple[Tensor, Quantized]:
        """Quantised latents (B, T, D), 0 beyond the valid frames, and what the quantiser made of those.

        Args:
            latents: (B, T, C).
            frames: (B,) valid ones.
            temperature: of the Gumbel softmax; used in training only.
            noise: standard Gumbel noise (N, G, V) of the valid frames; None draws it. Used in training only.
        """
        if isinstance(self.quantizer, KMeansQuantizer):
            latents = self.quantizer.project(latents, frames)
        valid = length_mask(frames, latents.shape[1])
        chosen = latents[valid]
        if isinstance(self.quantizer, KMeansQuantizer):
            quantized = self.quantizer(chosen)
        else:
            quantized = self.quantizer(chosen, temperature, noise)
        vectors = quantized.vectors.new_zeros(*valid.shape, self.code_dim)
        vectors = vectors.masked_scatter(valid[:, :, None], quantized.vectors)
        return vectors, quantized

    @torch.no_grad()
    def codes(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codebook entries (B, T, G) of waveforms (B, samples), 0 beyond each one's frames; never with noise."""
        lengths = _lengths(waveforms, lengths)
        latents, frames = self.feature_encoder(waveforms, lengths), self.frames(lengths)
        valid = length_mask(frames, latents.shape[1])
        if isinstance(self.quantizer, KMeansQuantizer):
            chosen = self.quantizer.nearest(self.quantizer.project(latents, frames)[valid])
        else:
            chosen = self.quantizer.entry_logits(latents[valid]).argmax(-1)
        codes = chosen.new_zeros(*valid.shape, self.config.quantizer.groups)
        codes[valid] = chosen
        return codes


class VqWav2Vec(nn.Module):
    """The pre-training model: encoder with its quantiser, and which codes it expects to hear next."""

    def __init__(self, config: VqWav2VecConfig) -> None:
        super().__init__()
        check_shares("model", config, "prediction_dropout")
        self.config = config
        self.encoder = VqWav2VecEncoder(config.encoder)
        self.predictions = StepPredictions(self.encoder.dim, self.encoder.code_dim, config.steps)

    @property
    def offset(self) -> int:
        """Frames from a context to the first that it predicts (3 for the published models)."""
        features = self.encoder.feature_encoder
        return first_step(self.config.contrast, features.receptive_field, features.hop)

    def forward(
        self, waveforms: Tensor, lengths: Tensor, temperature: float = 1.0, noise: Tensor | None = None
    ) -> VqPredicted:
        """Predictions and targets of waveforms.

        Args:
            waveforms: (B, samples).
            lengths: (B,) valid samples.
            temperature: of the Gumbel softmax.
            noise: standard Gumbel noise (N, G, V) of the valid frames; None draws it.
        """
        frames = self.encoder.frames(lengths)
        vectors, quantized = self.encoder.quantize(
            self.encoder.feature_encoder(waveforms, lengths), frames, temperature, noise
        )
        predictions = self.predictions(self.encoder.contextualize(vectors, frames).features)
        return VqPredicted(
            dropout(predictions, self.config.prediction_dropout, self.training), vectors, frames, quantized
        )

    def codes(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codebook entries (B, T, G) of waveforms (B, samples), see VqWav2VecEncoder."""
        return self.encoder.codes(waveforms, lengths)

    @torch.no_grad()
    def code_statistics(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Only the (G, V) sum of entry probabilities (Gumbel): a first look at a batch that comes in parts."""
        assert isinstance(self.encoder.quantizer, GumbelQuantizer)
        latents = self.encoder.feature_encoder(waveforms, lengths)
        valid = length_mask(self.encoder.frames(lengths), latents.shape[1])
        return self.encoder.quantizer.entry_logits(latents[valid]).softmax(-1).sum(0)


def _lengths(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
    return lengths
