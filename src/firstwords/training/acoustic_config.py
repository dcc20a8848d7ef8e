"""What a recipe for an acoustic model says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from firstwords.decoding.lexicon import Unspellable
from firstwords.decoding.options import DecoderConfig
from firstwords.errors import ConfigError
from firstwords.losses.asg import Scale
from firstwords.models.wav2letter import FeaturesConfig, NetworkConfig
from firstwords.training.config import ScheduleConfig, SGDConfig, TrainingConfig, check_training
from firstwords.training.finetune_config import FinetuneDataConfig, TextConfig


@dataclass(frozen=True)
class AcousticTextConfig(TextConfig):
    """How transcripts are spelt."""

    first_boundary: bool = True
    """A word boundary before the first word too, which takes the silence there; ASG has no blank that could. Source:
    wav2letter recipes/wsj (`surround`)."""
    repetitions: int = 2
    """Symbols for repeated labels: "ann" is a n 1. Source: wav2vec section 4.1; wav2letter's `replabel`."""


@dataclass(frozen=True)
class ValidationConfig:
    """How validation utterances are decoded; the best checkpoint is the one with the fewest word errors then."""

    lm: Path | None = None
    """Language model, as `firstwords evaluate --lm` takes it: a 4-gram in the paper. None: the best path, and the best
    checkpoint is the one with the fewest label errors."""
    lexicon: Path | None = None
    """Words with their spellings, which phones need."""
    lm_weight: float | None = None
    """Of log10 p(words). None: 2, or 1 for a model over symbols."""
    word_score: float | None = None
    """Added for each word. None: -1, or 0 for a model over symbols."""
    silence_score: float = 0.0
    """Added at each frame that is read as a word boundary."""
    beam: int = 50
    """Hypotheses kept at each frame."""
    unspellable: Unspellable = "few"
    """Words of the model or lexicon that the alphabet cannot spell: leave out a few (1 in 20) and refuse more, refuse
    any, or leave out all."""

    def decoder(self) -> DecoderConfig:
        """The same for `make_decoder`; without a language model it asks for the best path."""
        if self.lm is None:
            return DecoderConfig()
        return DecoderConfig(
            lm=self.lm,
            lexicon=self.lexicon,
            lm_weight=self.lm_weight,
            word_score=self.word_score,
            silence_score=self.silence_score,
            beam=self.beam,
            unspellable=self.unspellable,
            processes=0,
        )


@dataclass(frozen=True)
class AcousticDataConfig(FinetuneDataConfig):
    """Which transcribed audio is learnt from."""

    cache_gigabytes: float = 2.0
    """Features kept in memory, by each process; those of further utterances are computed anew in every epoch."""


@dataclass(frozen=True)
class AcousticTrainingConfig(TrainingConfig):
    """One run of the training loop with SGD."""

    optimizer: SGDConfig = field(default_factory=SGDConfig)  # type: ignore[assignment]
    """Stochastic gradient descent."""
    patience: int = 0
    """Validations without a better one after which training ends; 0 goes to the last update."""


@dataclass(frozen=True)
class AcousticRecipe:
    """A training of an acoustic model, as a recipe describes it."""

    layer: int | None = None
    """The encoder's block whose output is heard (0: the input of the first); none: the encoder's output."""
    weighted: bool = False
    """A sum of all layers instead, with weights that are learnt."""
    normalize: bool = True
    """Zero mean and unit variance of every feature over the utterance."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The convolutions."""
    criterion: Literal["asg", "ctc"] = "asg"
    """Auto Segmentation Criterion, or CTC to compare with."""
    scale: Scale = "target_sqrt"
    """What an utterance's loss is divided by. Source: wav2letter recipes (`onorm target`, `sqnorm`)."""
    self_transition: float = 0.0
    """Where ASG's score of staying with a label starts. Source: wav2letter's `transdiag` (WSJ: 5)."""
    linear_updates: int = 0
    """First updates in which every target is stretched evenly over its frames (ASG only). Source: `linseg`, 1 epoch."""
    text: AcousticTextConfig = field(default_factory=AcousticTextConfig)
    """Labels."""
    data: AcousticDataConfig = field(default_factory=AcousticDataConfig)
    """Which transcribed audio."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """How validation utterances are decoded."""
    training: AcousticTrainingConfig = field(
        default_factory=lambda: AcousticTrainingConfig(
            batch_seconds=49,
            bucket_seconds=49,
            micro_batch_seconds=49,
            schedule=ScheduleConfig("tri-stage", 0.12, 0.0, 1.0),
            optimizer=SGDConfig(momentum=0.9, clip_norm=1.0),
        )
    )
    """How much at a time, how fast. Source: wav2vec section 4.2, TIMIT: 16 utterances, of 3.1 s on average."""
    steps: int = 231_000
    """Updates: 1,000 epochs of 3,696 utterances."""
    seed: int = 1
    """Of new weights, order and dropout."""

    @property
    def features(self) -> FeaturesConfig:
        """What the model is told about its features."""
        return FeaturesConfig(self.layer, self.weighted, self.normalize)


def check_recipe(config: AcousticRecipe) -> None:
    """Raises ConfigError for settings that contradict each other or are out of range."""
    check_training(config.training, config.steps, config.seed)
    if config.weighted and config.layer is not None:
        raise ConfigError(f"layer {config.layer} and weighted: a sum of all layers has no single one; take one of both")
    for name, value in (
        ("linear_updates", config.linear_updates), ("training.patience", config.training.patience),
        ("data.cache_gigabytes", config.data.cache_gigabytes),
    ):  # fmt: skip
        if value < 0:
            raise ConfigError(f"{name} must not be below 0, found {value}")
    if not 0 <= config.text.repetitions <= 9:
        raise ConfigError(f"text: repetitions must be from 0 to 9, found {config.text.repetitions}")
