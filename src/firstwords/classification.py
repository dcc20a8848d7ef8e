"""`firstwords classify` as functions: a classifier trained, and scored on a corpus or on trials of speakers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from firstwords.checkpoints.models import load_any_encoder
from firstwords.class_scoring import ClassificationScore, Classified, classification_score
from firstwords.classifier import SpeechClassifier
from firstwords.commands import run_task
from firstwords.config import to_dict
from firstwords.corpus.labels import label_of, labels_of, stretches_of
from firstwords.corpus.parallel import track
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CheckpointError, ConfigError, CorpusError
from firstwords.models.encoders import encoder_kind
from firstwords.models.log_mel import LogMelConfig
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.recipes import recipe_names
from firstwords.training.classify import Classification
from firstwords.training.classify_config import ClassifyConfig, check_classify
from firstwords.training.data import Skipped, choose_splits, fingerprint, read_corpora, with_durations
from firstwords.training.launch import in_processes
from firstwords.training.objectives import CODE_BERT, objective_of, pretraining_recipe
from firstwords.training.pooled import FOLDER, layer_means_of
from firstwords.training.processes import Processes
from firstwords.training.run import Run
from firstwords.verification import Trial, VerificationScore, make_trials, verification_score

FRAME_SECONDS = 0.01
"""Step at which stretches are compared with those of the reference."""


def train_classifier(corpora: Sequence[Path], source: str, out: Path, config: ClassifyConfig) -> int:
    """Trains a classifier on an encoder, or goes on with the run in `out`.

    Args:
        corpora: corpus folders or manifests.
        source: a run (folder or checkpoint), a model of others, or the name of a pre-training recipe: its architecture
            with random weights.
        out: folder of the run.
        config: what a recipe describes; `config.data.label` says what is learnt.

    Returns:
        0 when all updates are done, 128 + n when signal n stopped it (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps the run from starting or going on.
    """
    check_classify(config)
    return in_processes(config.training.processes, _train, corpora, source, out, config)


def _train(corpora: Sequence[Path], source: str, out: Path, config: ClassifyConfig) -> int:
    """`train_classifier` in one of its processes."""
    processes = Processes(config.training.device)
    encoder, weights, notes = _starting_point(source, config)
    skipped = Skipped()
    utterances = with_durations(read_corpora(corpora), skipped)
    training, validation = _splits(utterances, config)
    task = Classification(config, encoder, weights, training, validation, processes, skipped, source)
    console = Console(highlight=False, markup=False, soft_wrap=True, quiet=not processes.main)
    for note in [*notes, *task.notes]:
        console.print(note)
    facts = fingerprint(task.training) | {"classes": len(task.labels)}
    tensorboard = config.training.tensorboard
    run = Run(out, "classify", config, facts | {"source": source}, processes.main, tensorboard)
    if task.cacheable and run.status.get("state") != "finished":
        everything = [*task.training, *task.validation]
        sizes = config.training
        task.hear(
            layer_means_of(
                task.model, everything, out / FOLDER, processes, skipped, sizes.micro_batch_seconds, sizes.precision
            )
        )
    return run_task(task, config, run, facts, len(task.validation), skipped, processes)


def _splits(utterances: Sequence[Utterance], config: ClassifyConfig) -> tuple[list[Utterance], list[Utterance]]:
    """As other runs choose them; what is held out of the training split is held out of those that have a class."""
    data = config.data
    training, validation = choose_splits(utterances, data.train, data.valid, 0.0)
    if validation or not data.held_out:
        return training, validation
    if config.head.kind == "frames":
        labelled = [u for u in training if stretches_of(u, data.label)]
    else:
        labelled = [u for u in training if label_of(u, data.label) is not None]
    _, held_out = choose_splits(labelled, data.train, (), data.held_out) if labelled else ([], [])
    chosen = {u.id for u in held_out}
    return [u for u in training if u.id not in chosen], held_out


def _starting_point(source: str, config: ClassifyConfig) -> tuple[tuple[str, Any], dict[str, Tensor] | None, list[str]]:
    """Kind and configuration of the encoder, its weights unless they shall be random, and what the user should know."""
    if config.frontend == "log_mel" and config.learn == "head":
        return ("log_mel", LogMelConfig(normalize=config.head.kind != "mean")), None, []
    notes: list[str] = []
    weights: dict[str, Tensor] | None = None
    recipes = [name for name in recipe_names("pretrain") if name not in recipe_names("pretrain", CODE_BERT)]
    if not Path(source).exists() and source in recipes:
        recipe: Any = pretraining_recipe(source)
        kind, settings = objective_of(recipe), recipe.model.encoder
    elif not Path(source).exists() and (near := difflib.get_close_matches(source, recipes, n=1)):
        raise CheckpointError(f"{source}: no run here, and no recipe; did you mean {near[0]!r}?")
    else:
        encoder, checkpoint = load_any_encoder(source)
        notes = [f"{source}: {note}" for note in checkpoint.state.get("notes", ()) if "head is kept" not in note]
        kind, settings = encoder_kind(encoder)
        if kind != "code-bert":  # whose own configuration is that of the model that makes its codes
            settings = encoder.config
        weights = dict(encoder.state_dict()) if config.weights == "pretrained" else None
    if config.frontend == "log_mel":
        if not isinstance(settings, EncoderConfig):
            raise ConfigError(f"frontend log_mel: {source} has no Transformer that could stand on log-mel bands")
        settings, weights = replace(settings, frontend="log_mel"), None
    if config.learn == "all":
        settings = config.adapt.apply(settings, random=weights is None)
    return (kind, settings), weights, notes


@dataclass(frozen=True)
class ClassEvaluation:
    """Scores, and what was left out of them."""

    score: ClassificationScore | None
    """None where no class is known to the classifier (speakers that it never met)."""
    verification: VerificationScore | None
    """Of an x-vector head, or where trials were given."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Utterances whose recording could not be used, with the reason."""
    unlabelled: int = 0
    """Utterances without a class."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        values: dict[str, Any] = self.score.to_dict() if self.score else {}
        verification = to_dict(self.verification) if self.verification else None
        return values | {"verification": verification, "skipped": self.skipped, "unlabelled": self.unlabelled}


def evaluate_classifier(
    classifier: SpeechClassifier,
    utterances: Sequence[Utterance],
    label: str | None = None,
    trials: Sequence[Trial] | None = None,
    batch_seconds: float = 60.0,
    seed: int = 0,
) -> ClassEvaluation:
    """Classifies utterances and scores them against the classes that their manifest names.

    Args:
        classifier: what is tested.
        utterances: those without a class are left out and counted.
        label: field that names the class; None takes the one that the classifier was trained with.
        trials: pairs to verify; None makes them of all utterances, for an x-vector head.
        batch_seconds: most audio that the network sees at once.
        seed: of the choice of trials and of the bootstraps.

    Raises:
        CorpusError: nothing to score, or a trial of an utterance that is not there.
        ConfigError: nothing says which field names the class.
    """
    chosen = label or classifier.label_field
    if not chosen:
        raise ConfigError("this classifier does not say which field of a manifest names its classes: --label FIELD")
    if classifier.kind == "frames":
        return _evaluate_frames(classifier, utterances, chosen, batch_seconds, seed)
    references = labels_of(utterances, chosen)
    wanted = [u for u in utterances if u.id in references]
    if trials is not None:
        wanted = _in_trials(utterances, trials)
    speakers = {u.id: u.speaker for u in utterances}
    skipped: dict[str, str] = {}

    def skip(name: str, error: AudioError) -> None:
        skipped[name] = str(error)

    found: list[Classified] = []
    vectors: dict[str, np.ndarray] = {}
    predictions = classifier.classify(wanted, batch_seconds=batch_seconds, skip=skip)
    for one in track(predictions, len(wanted), "classifying"):
        vectors[one.id] = one.embedding / (np.linalg.norm(one.embedding) + 1e-12)
        if one.id in references:
            found.append(Classified(one.id, references[one.id], one.label, speakers[one.id], one.probability))
    if not vectors:
        raise CorpusError(
            f"none of {len(wanted)} recordings can be used; first: {next(iter(skipped.values()), 'none')}"
        )
    verification = None
    if trials is not None or classifier.kind == "x-vector":
        verification = verify(vectors, references, trials, seed)
    score = None
    if found and {one.reference for one in found} & set(classifier.labels):
        score = classification_score(found, classifier.labels, seed=seed, by_speaker=chosen != "speaker")
    elif verification is None:
        asked = ", ".join(sorted(set(references.values()))[:5])
        raise CorpusError(
            f"no utterance has a class that the classifier knows ({chosen}: {asked}); it knows: "
            f"{', '.join(classifier.labels[:8])}"
        )
    return ClassEvaluation(score, verification, skipped, len(utterances) - len(references))


def verify(
    vectors: Mapping[str, np.ndarray], speakers: Mapping[str, str], trials: Sequence[Trial] | None = None, seed: int = 0
) -> VerificationScore | None:
    """The equal error rate of cosines of vectors (E,) of unit length; None where no pairs of both kinds can be made.

    Args:
        vectors: by the utterance's id.
        speakers: of each id.
        trials: which pairs; those whose vectors are missing are left out. None makes them (`make_trials`).
        seed: of the choice of trials and of the bootstrap.
    """
    if trials is None:
        trials = make_trials({name: speakers[name] for name in vectors if name in speakers}, seed)
        if len({trial.same for trial in trials}) < 2:
            return None
    used = [t for t in trials if t.first in vectors and t.second in vectors]
    if not used:
        raise CorpusError("none of the trials' recordings can be used")
    scores = np.array([float(vectors[t.first] @ vectors[t.second]) for t in used])
    known = all(name in speakers for t in used for name in (t.first, t.second))
    return verification_score(used, scores, speakers if known else None, seed=seed)


def _in_trials(utterances: Sequence[Utterance], trials: Sequence[Trial]) -> list[Utterance]:
    by_id = {u.id: u for u in utterances}
    names = dict.fromkeys(name for trial in trials for name in (trial.first, trial.second))
    missing = [name for name in names if name not in by_id]
    if missing:
        raise CorpusError(
            f"{len(missing)} of {len(names)} utterances of the trials are not in the corpus (or its split): "
            f"{', '.join(missing[:5])}"
        )
    return [by_id[name] for name in names]


def _evaluate_frames(
    classifier: SpeechClassifier, utterances: Sequence[Utterance], label: str, batch_seconds: float, seed: int
) -> ClassEvaluation:
    """Every hundredth of a second that has a class is a decision, counted for its utterance's speaker."""
    references = {u.id: stretches for u in utterances if (stretches := stretches_of(u, label))}
    if not references:
        raise CorpusError(f"none of {len(utterances)} utterances has stretches under {label!r}")
    wanted = [u for u in utterances if u.id in references]
    skipped: dict[str, str] = {}

    def skip(name: str, error: AudioError) -> None:
        skipped[name] = str(error)

    found: list[Classified] = []
    predictions = classifier.classify(wanted, batch_seconds=batch_seconds, skip=skip)
    for one in track(predictions, len(wanted), "classifying"):
        for number in range(int(one.duration / FRAME_SECONDS)):
            time = (number + 0.5) * FRAME_SECONDS
            right = [name for start, end, name in references[one.id] if start <= time < end]
            heard = [s.label for s in one.stretches if s.start <= time < s.end]
            if right and heard:
                found.append(Classified(f"{one.id} {time:.3f}", right[0], heard[0], one.id))
    score = classification_score(found, classifier.labels, resamples=500, seed=seed)
    return ClassEvaluation(score, None, skipped, len(utterances) - len(references))
