"""Settings that every objective shares: how long, how much at a time, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firstwords.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the updates."""

    kind: Literal["linear", "tri-stage", "cosine"] = "linear"
    """After the warm-up "linear" decay to 0 (wav2vec 2.0), half a "cosine" (wav2vec); "tri-stage": hold, then fall."""
    peak: float = 5e-4
    """Highest learning rate. Source: BASE."""
    warmup: float = 0.08
    """Share of the updates in which the rate rises: 32 k of 400 k. Source: BASE."""
    hold: float = 0.4
    """tri-stage: share of the updates at the peak. Source: wav2vec 2.0 section 4.3."""
    first_scale: float = 0.01
    """tri-stage, cosine: rate at update 0, as a share of the peak. Source: fairseq."""
    last_scale: float = 0.05
    """tri-stage, cosine: rate at the end, as a share of the peak. Source: fairseq."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, weight decay on every parameter."""

    betas: tuple[float, ...] = (0.9, 0.98)
    """Averaging of gradients and of their squares. Source: fairseq wav2vec2 configurations."""
    epsilon: float = 1e-6
    """Added to the denominator: 1e-6 in pre-training, 1e-8 in fine-tuning. Source: fairseq."""
    weight_decay: float = 0.01
    """Decoupled, on biases, norms and codebooks too: 0.01 in pre-training, 0 in fine-tuning. Source: fairseq."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 leaves gradients as they are. Source: fairseq."""


@dataclass(frozen=True)
class LoopConfig:
    """One run of the training loop, whatever it reads."""

    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """"auto" takes bfloat16 where the hardware multiplies it fast (recent GPUs, CPUs with AMX)."""
    device: str = "auto"
    """"auto" (a GPU if there is one), "cpu", "cuda"."""
    processes: int = 1
    """Processes of this machine that share each update: one for each GPU, or core where the model is small."""
    workers: int = 2
    """Threads of each process that read and decode recordings ahead of the model."""
    log_every: int = 50
    """Updates between two lines of the log."""
    validate_every: int = 1000
    """Updates between two validations."""
    save_every: int = 500
    """Updates between two checkpoints."""
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the run's folder (pip install 'firstwords[tensorboard]')."""


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """One run of the training loop over recordings."""

    batch_seconds: float = 5600.0
    """Audio of one update, over all processes and micro-batches: 64 GPUs x 1.4 M samples. Source: BASE."""
    bucket_seconds: float = 87.5
    """Audio of utterances that share a length; pre-training crops to the shortest. Source: BASE (1.4 M samples)."""
    micro_batch_seconds: float = 87.5
    """Most audio in one forward pass of one process; lower it to fit memory, it changes no gradient."""


SPLITTING = (
    "micro_batch_seconds", "micro_batch_symbols", "device", "processes", "workers", "log_every", "validate_every",
    "save_every", "tensorboard",
)  # fmt: skip
"""Fields that a continued run may change: they share out the work and change no result."""


def check_training(config: TrainingConfig, steps: int, seed: int = 0) -> None:
    """Raises ConfigError for settings that no run over recordings can have."""
    for name in ("batch_seconds", "bucket_seconds", "micro_batch_seconds"):
        if not getattr(config, name) > 0:  # nor NaN
            raise ConfigError(f"training: {name} must be above 0 seconds, found {getattr(config, name)}")
    check_loop(config, steps, seed)


def check_loop(config: LoopConfig, steps: int, seed: int = 0) -> None:
    """Raises ConfigError for settings that no run can have."""
    for name in ("log_every", "validate_every", "save_every", "processes", "workers"):
        if getattr(config, name) < 1:
            raise ConfigError(f"training: {name} must be at least 1, found {getattr(config, name)}")
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, found {steps}")
    if seed < 0:
        raise ConfigError(f"seed must not be below 0, found {seed}")
    schedule, optimizer = config.schedule, config.optimizer
    if len(optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in optimizer.betas):
        raise ConfigError(f"training: optimizer: betas takes two numbers from 0 to below 1, found {optimizer.betas}")
    for name, value in (("peak", schedule.peak), ("last_scale", schedule.last_scale)):
        if not value > 0:
            raise ConfigError(f"training: schedule: {name} must be above 0, found {value}")
    stages = schedule.warmup + schedule.hold * (schedule.kind == "tri-stage")
    if not (schedule.warmup >= 0 and schedule.hold >= 0 and stages <= 1):
        raise ConfigError(
            "training: schedule: warmup and hold are shares of the steps, from 0 to 1 together, "
            f"found {schedule.warmup} and {schedule.hold}"
        )
    for name in ("clip_norm", "weight_decay", "epsilon"):
        if not getattr(optimizer, name) >= 0:
            raise ConfigError(f"training: optimizer: {name} must not be below 0, found {getattr(optimizer, name)}")
