"""What a fine-tuning recipe says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.masking import SpanMaskConfig
from firstwords.text.normalization import NormalizationConfig
from firstwords.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig


@dataclass(frozen=True)
class FinetuneDataConfig:
    """Which transcribed audio is learnt from."""

    max_seconds: float = 30.0
    """Longer utterances are left out; cut them first."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from; utterances without any split always count."""
    valid: tuple[str, ...] = ("dev", "valid", "validation")
    """Splits to validate on."""
    held_out: float = 0.05
    """Share of the training utterances to validate on where no utterance is in a `valid` split."""
    hours: float = 0.0
    """Learn from so many hours only, chosen at random by the seed, speakers in turn; 0 takes all."""
    valid_utterances: int = 500
    """Most utterances of a validation."""


@dataclass(frozen=True)
class TextConfig:
    """How transcripts are spelt."""

    units: Literal["characters", "phonemes"] = "characters"
    """Labels: letters of `text`, or phones of the manifest's `phones`."""
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    """Case, punctuation, Unicode form."""
    final_boundary: bool = True
    """A word boundary after the last word too. Source: fairseq's .ltr files."""
    unknown: Literal["error", "drop"] = "error"
    """What to do with a validation utterance whose text has a character that no training text has."""


@dataclass(frozen=True)
class AdaptConfig:
    """What fine-tuning changes in the pre-trained encoder's configuration (fairseq's overrides)."""

    dropout: float = 0.0
    """Source: fairseq fine-tuning."""
    attention_dropout: float = 0.0
    """Source: fairseq fine-tuning."""
    activation_dropout: float = 0.1
    """Source: fairseq fine-tuning."""
    input_dropout: float = 0.0
    """Source: fairseq fine-tuning."""
    layerdrop: float = 0.1
    """Source: most published fine-tunings."""
    gradient_scale: float = 0.0
    """Of the feature encoder; 0 keeps it as pre-trained. Random weights always train with 1."""
    final_dropout: float = 0.0
    """Before the output layer. Source: fairseq."""
    method: Literal["all", "adapter", "lora"] = "all"
    """What learns: everything; bottleneck adapters after each block; or low-rank changes of queries and values. With
    the last two the encoder stays as it is, is not saved again, and serves many runs."""
    adapter_dim: int = 16
    """Width of the adapters; a model that has some keeps its own. Source: Massively Multilingual Speech."""
    low_rank: int = 8
    """Rank of the low-rank changes. Source: LoRA section 7.2 (ranks of 4 to 8 do as well as larger ones)."""
    fresh_blocks: int = 0
    """Top Transformer blocks that start anew; after short pre-training they know masks better than speech. Where it is
    all of them, so do the projection and the position convolution before them."""

    def apply(self, encoder: EncoderConfig, random: bool) -> EncoderConfig:
        """The encoder's configuration with these changes."""
        return replace(
            encoder,
            input_dropout=self.input_dropout,
            feature_encoder=replace(encoder.feature_encoder, gradient_scale=1.0 if random else self.gradient_scale),
            transformer=replace(
                encoder.transformer,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                activation_dropout=self.activation_dropout,
                layerdrop=self.layerdrop,
                adapter_dim=encoder.transformer.adapter_dim or self.adapter_dim * (self.method == "adapter"),
                low_rank=self.low_rank * (self.method == "lora"),
            ),
        )


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning run, as a recipe describes it."""

    weights: Literal["pretrained", "random"] = "pretrained"
    """"random" keeps the architecture only: the baseline that never listened."""
    frontend: Literal["same", "log_mel"] = "same"
    """"log_mel" puts the Transformer on 80 log-mel bands, with random weights: the other baseline."""
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    """Dropouts and what is frozen."""
    frozen: float = 0.75
    """Share of the updates in which only the output layer learns: 10 k of 13 k. Source: base_10m, base_1h."""
    mask: SpanMaskConfig = field(default_factory=SpanMaskConfig)
    """Time masking (modified SpecAugment)."""
    channel_mask: SpanMaskConfig = field(
        default_factory=lambda: SpanMaskConfig(probability=0.25, length=64, min_spans=0)
    )
    """Channel masking. Source: base_10m."""
    text: TextConfig = field(default_factory=TextConfig)
    """Labels."""
    data: FinetuneDataConfig = field(default_factory=FinetuneDataConfig)
    """Which transcribed audio."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            batch_seconds=1600,
            bucket_seconds=200,
            micro_batch_seconds=200,
            schedule=ScheduleConfig("tri-stage", 5e-5, 0.1),
            optimizer=OptimizerConfig(epsilon=1e-8, weight_decay=0.0),
        )
    )
    """How much at a time, how fast. Source: base_10m."""
    steps: int = 13_000
    """Updates. Source: base_10m."""
    seed: int = 1
    """Of new weights, order, masks and dropout."""
