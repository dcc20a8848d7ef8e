"""What a recipe for a classifier says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from firstwords.config import check_shares
from firstwords.errors import ConfigError
from firstwords.models.classifier import HeadConfig
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.masking import SpanMaskConfig
from firstwords.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig, check_training


@dataclass(frozen=True)
class ClassifyDataConfig:
    """Which audio is learnt from, and what its classes are."""

    label: str = ""
    """Manifest field that names the class: speaker, language, text, or any other key; a.b is key b of the mapping a."""
    crop_seconds: float = 0.0
    """Longer training utterances are cut at random to this, anew each time (8 in SUPERB); 0 hears them whole."""
    max_seconds: float = 30.0
    """Longer utterances are left out, where they are not cropped."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from; utterances without any split always count."""
    valid: tuple[str, ...] = ("dev", "valid", "validation")
    """Splits to validate on."""
    held_out: float = 0.1
    """Share of the training utterances to validate on where no utterance is in a `valid` split."""
    valid_utterances: int = 2000
    """Most utterances of a validation."""


@dataclass(frozen=True)
class EncoderChangesConfig:
    """What learning changes in the encoder's configuration, where the encoder learns too."""

    dropout: float = 0.0
    """Source: as fine-tuning with CTC."""
    attention_dropout: float = 0.0
    """Source: as fine-tuning with CTC."""
    activation_dropout: float = 0.1
    """Source: as fine-tuning with CTC."""
    input_dropout: float = 0.0
    """Source: as fine-tuning with CTC."""
    layerdrop: float = 0.0
    """Probability that an update leaves a block out. Ours: none."""
    gradient_scale: float = 0.0
    """Of the feature encoder; 0 keeps it as pre-trained. Random weights always train with 1."""

    def apply(self, encoder: Any, random: bool) -> Any:
        """The configuration with these changes; those of encoders without a Transformer stay as they are."""
        if not isinstance(encoder, EncoderConfig):
            return encoder
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
            ),
        )


@dataclass(frozen=True)
class ClassifyConfig:
    """A run that trains a classifier, as a recipe describes it."""

    learn: Literal["head", "all"] = "head"
    """"head": the encoder stays as it is (SUPERB's probe); "all": it learns too."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """"random" keeps the architecture only: the baseline that never listened."""
    frontend: Literal["same", "log_mel"] = "same"
    """"log_mel": the other baseline: with learn "head" the head stands on 80 log-mel bands, with "all" the
    Transformer does, with random weights."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """From layers to classes."""
    adapt: EncoderChangesConfig = field(default_factory=EncoderChangesConfig)
    """Dropouts of an encoder that learns."""
    frozen: float = 0.0
    """Share of the updates in which only the head learns, where the encoder does learn."""
    mask: SpanMaskConfig = field(default_factory=lambda: SpanMaskConfig(probability=0.0, min_spans=0))
    """Time masking of an encoder that learns."""
    channel_mask: SpanMaskConfig = field(
        default_factory=lambda: SpanMaskConfig(probability=0.0, length=64, min_spans=0)
    )
    """Channel masking of an encoder that learns."""
    cache: Literal["auto", "never"] = "auto"
    """"auto": where the encoder stays, nothing is cropped and the head is a mean over time, each utterance is heard
    once and the means of its layers are kept; "never" hears it anew in every epoch. The result is the same."""
    data: ClassifyDataConfig = field(default_factory=ClassifyDataConfig)
    """Which audio, which classes."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            batch_seconds=256,
            bucket_seconds=64,
            micro_batch_seconds=64,
            schedule=ScheduleConfig("linear", 1e-3, 0.1),
            optimizer=OptimizerConfig(betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0, clip_norm=1.0),
        )
    )
    """How much at a time, how fast."""
    steps: int = 1000
    """Updates."""
    seed: int = 1
    """Of new weights, order, crops, masks and dropout."""


def check_classify(config: ClassifyConfig) -> None:
    """Raises ConfigError for settings that no run can have."""
    check_training(config.training, config.steps, config.seed)
    config.head.check()
    check_shares("", config, "frozen")
    check_shares("data", config.data, "held_out")
    if not config.data.label:
        raise ConfigError("data: label is empty: say with --label which field of the manifest names the class")
    if config.data.crop_seconds < 0 or not config.data.max_seconds > 0:
        raise ConfigError("data: crop_seconds must not be below 0, and max_seconds above it")
    masked = config.mask.probability > 0 or config.channel_mask.probability > 0
    if masked and config.learn == "head":
        raise ConfigError("mask and channel_mask are for an encoder that learns: --learn all, or probability 0")
