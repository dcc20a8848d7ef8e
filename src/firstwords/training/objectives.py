"""The objectives of `firstwords pretrain`: a recipe names its own, wav2vec 2.0's where it names none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firstwords.recipes import WAV2VEC2, load_recipe
from firstwords.training.audio_only import AudioOnly, AudioOnlyConfig
from firstwords.training.code_bert import CodePretrainConfig
from firstwords.training.continued import Start, pretraining_start, vq_wav2vec_start, wav2vec_start
from firstwords.training.pretrain import PretrainConfig, Pretraining
from firstwords.training.vq_wav2vec import VqWav2VecPretrainConfig, VqWav2VecPretraining
from firstwords.training.wav2vec import Wav2VecPretrainConfig, Wav2VecPretraining


@dataclass(frozen=True)
class Objective:
    """What a run of one objective is made of."""

    config: type[AudioOnlyConfig]
    """What its recipes fill."""
    task: Callable[..., AudioOnly[Any]]
    """Of (config, training, validation, processes, skipped, weights)."""
    start: Callable[[str, Any], Start]
    """Where it goes on from a model, given its place and the recipe's `model`."""


OBJECTIVES = {
    WAV2VEC2: Objective(PretrainConfig, Pretraining, pretraining_start),
    "wav2vec": Objective(Wav2VecPretrainConfig, Wav2VecPretraining, wav2vec_start),
    "vq-wav2vec": Objective(VqWav2VecPretrainConfig, VqWav2VecPretraining, vq_wav2vec_start),
}
"""Those on audio alone, by the name that recipes use."""
CODE_BERT = "code-bert"
"""The objective that learns from codes instead."""


def pretraining_recipe(name: str) -> AudioOnlyConfig | CodePretrainConfig:
    """The configuration that a pre-training recipe describes, whatever its objective; see `load_recipe`."""
    known: dict[str, type[AudioOnlyConfig | CodePretrainConfig]] = {CODE_BERT: CodePretrainConfig}
    return load_recipe(name, "pretrain", known | {name: objective.config for name, objective in OBJECTIVES.items()})


def objective_of(config: AudioOnlyConfig) -> str:
    """The name of the objective that a configuration belongs to."""
    return next(name for name, objective in OBJECTIVES.items() if type(config) is objective.config)


def named_objective(config: AudioOnlyConfig) -> str | None:
    """The objective's name as a recipe would give it: None for wav2vec 2.0."""
    objective = objective_of(config)
    return None if objective == WAV2VEC2 else objective
