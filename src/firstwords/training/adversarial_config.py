"""Settings of a wav2vec-U sweep: the networks, the grid of penalties and seeds, how long, and who goes on."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, field

from firstwords.errors import ConfigError
from firstwords.models.wav2vec_u import DiscriminatorConfig, GeneratorConfig, SegmentationConfig
from firstwords.training.matching import MatchingConfig


@dataclass(frozen=True)
class Penalties:
    """Weights of one member's losses."""

    gradient: float
    """lambda, of the gradient penalty."""
    smoothness: float
    """gamma, of differences between neighbouring steps."""
    diversity: float
    """eta, of using few symbols."""
    auxiliary: float
    """delta, of the auxiliary targets (2.0)."""

    def __str__(self) -> str:
        words = [f"lambda {self.gradient:g}", f"gamma {self.smoothness:g}", f"eta {self.diversity:g}"]
        return ", ".join(words + [f"delta {self.auxiliary:g}"] * bool(self.auxiliary))


@dataclass(frozen=True)
class GridConfig:
    """What the members of a sweep differ in: every combination is trained with every seed."""

    gradient: tuple[float, ...] = (1.5, 2.0)
    """lambda. Source: wav2vec-U section 4.2."""
    smoothness: tuple[float, ...] = (0.5, 0.75, 1.0)
    """gamma. Source: wav2vec-U section 4.2."""
    diversity: tuple[float, ...] = (2.0, 4.0)
    """eta. Source: wav2vec-U section 4.2."""
    auxiliary: tuple[float, ...] = (0.0,)
    """delta, for the auxiliary targets of 2.0. Source: w2vu2.yaml has 0.5."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of weights, order, text and dropout; members of one seed begin and read alike. Source: section 4.2."""

    def members(self) -> list[tuple[int, Penalties]]:
        """(seed, penalties) of every member, seed by seed."""
        values = (self.gradient, self.smoothness, self.diversity, self.auxiliary)
        return [(seed, Penalties(*chosen)) for seed in self.seeds for chosen in itertools.product(*values)]


@dataclass(frozen=True)
class AdamConfig:
    """One of the two optimisers; the rate is constant."""

    rate: float
    """Learning rate. Source: w2vu.yaml."""
    weight_decay: float
    """Decoupled. Source: w2vu.yaml."""
    betas: tuple[float, ...] = (0.5, 0.98)
    """Averaging of gradients and of their squares. Source: w2vu.yaml."""
    epsilon: float = 1e-6
    """Added to the denominator. Source: w2vu.yaml."""


@dataclass(frozen=True)
class ChoiceConfig:
    """Judging members without labels."""

    validate_every: int = 1000
    """Updates between two looks at what members say on the valid split. Source: wav2vec-U."""
    stop_after: tuple[float, ...] = (0.15, 0.3, 0.5)
    """Shares of the updates after which the worse half of the members stops. A member that will converge shows it
    early (docs/unsupervised.md)."""
    keep: int = 4
    """Members that are never stopped for being worse than others."""
    valid_utterances: int = 2000
    """Most utterances of the valid split that are looked at."""


@dataclass(frozen=True)
class AdversarialConfig:
    """A sweep, as a recipe describes it."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """From features to symbols."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """From symbols to whether they are text."""
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    """From steps to phones."""
    grid: GridConfig = field(default_factory=GridConfig)
    """The members."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    """A start from deciphered clusters in place of random weights; off in the published recipes."""
    generator_optimizer: AdamConfig = AdamConfig(4e-4, 0.0)
    """Steps of even updates."""
    discriminator_optimizer: AdamConfig = AdamConfig(5e-4, 1e-4)
    """Steps of odd updates."""
    clip_norm: float = 5.0
    """Largest norm of a member's gradients, those of both networks taken together. Source: w2vu.yaml."""
    batch: int = 160
    """Utterances of an update, and as many sentences; smaller ones fail. Source: w2vu.yaml."""
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    """Who is best, and who stops."""
    steps: int = 150_000
    """Updates, of both networks together. Source: w2vu.yaml."""
    device: str = "auto"
    """"auto" (a GPU if there is one), "cpu", "cuda"."""
    members_at_once: int = 0
    """Members of one seed in one computation; 0: all on a GPU, one after another on a CPU, where more gain nothing."""
    log_every: int = 100
    """Updates between two lines of the log."""
    save_every: int = 1000
    """Updates between two checkpoints."""


def check_adversarial(config: AdversarialConfig) -> None:
    """Raises ConfigError for settings that no sweep can have."""
    for name in ("batch", "steps", "log_every", "save_every"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, found {getattr(config, name)}")
    if config.members_at_once < 0:
        raise ConfigError(f"members_at_once must not be below 0, found {config.members_at_once}")
    if not config.clip_norm > 0:
        raise ConfigError(f"clip_norm must be above 0, found {config.clip_norm}")
    for name, values in asdict(config.grid).items():
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"grid: {name} needs one value or several different ones, found {list(values)}")
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ConfigError(f"grid: {name} must not be below 0, found {list(values)}")
    choice = config.choice
    if choice.validate_every < 1 or choice.valid_utterances < 1 or choice.keep < 1:
        raise ConfigError("choice: validate_every, valid_utterances and keep must be at least 1")
    if list(choice.stop_after) != sorted(choice.stop_after) or not all(0 < share < 1 for share in choice.stop_after):
        raise ConfigError(f"choice: stop_after are rising shares between 0 and 1, found {list(choice.stop_after)}")
    for name in ("generator_optimizer", "discriminator_optimizer"):
        one: AdamConfig = getattr(config, name)
        if len(one.betas) != 2 or not all(0 <= beta < 1 for beta in one.betas):
            raise ConfigError(f"{name}: betas takes two numbers from 0 to below 1, found {list(one.betas)}")
        if not (one.rate > 0 and one.weight_decay >= 0 and one.epsilon >= 0):
            raise ConfigError(f"{name}: rate must be above 0, weight_decay and epsilon not below")
