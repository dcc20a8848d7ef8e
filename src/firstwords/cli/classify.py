"""firstwords classify train|predict|evaluate"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from firstwords.audio import AUDIO_SUFFIXES
from firstwords.classification import evaluate_classifier, train_classifier
from firstwords.classifier import SpeechClassifier
from firstwords.cli.options import option, parse, several
from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest
from firstwords.corpus.parallel import AudioProgress
from firstwords.errors import AudioError, ConfigError, CorpusError
from firstwords.evaluation import in_splits
from firstwords.predictions import PredictionFormat, write_predictions
from firstwords.recipes import load_recipe
from firstwords.recording import Source, total_seconds
from firstwords.report.classification import plot_confusions, print_classification, print_verification
from firstwords.training.classify_config import ClassifyConfig
from firstwords.training.data import read_corpora
from firstwords.verification import read_trials

DEFAULT_RECIPE = "probe-small"
ACTIONS = {
    "train": "a head, or head and encoder, learn classes that a field of the manifest names",
    "predict": "classes of recordings, or of their stretches; vectors of speakers",
    "evaluate": "accuracy, macro-F1 and confusions with intervals; equal error rate of speaker verification",
}


@dataclass
class TrainArguments:
    """A classifier on a pre-trained encoder: speakers, keywords, languages, emotions, or any other field of a manifest.

    Every field of the recipe can be set here too. The same command goes on with a run that was stopped or killed.
    """

    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """A run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt; or a recipe, for random weights."""
    out: Path
    """Folder of the run."""
    config: Annotated[ClassifyConfig, tyro.conf.arg(name="")]
    label: str = ""
    """Field of the manifest that names the class (speaker, language, text, gender, ...); a.b is key b of mapping a.
    Short for --data.label."""
    recipe: str = DEFAULT_RECIPE
    """A recipe that comes with Firstwords (probe-small, xvector-small, classify-small, superb-sid, ...) or a YAML
    file."""


@dataclass
class PredictArguments:
    """Classes of recordings, one a line: name, class, probability, and the next likely classes.

    Of a head on frames (diarisation, events): stretches with their times. Recordings that cannot be used are named and
    left out.
    """

    classifier: tyro.conf.Positional[Path]
    """A run of classify train, or a Hugging Face folder or hub name with such a head."""
    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("RECORDING")]
    """Files, folders (searched for recordings), corpus folders or manifests."""
    format: PredictionFormat = "tsv"
    """Tab-separated text; JSON Lines with every class's probability; RTTM (stretches, for diarisation tools)."""
    out: Path | None = None
    """A file to write to instead of the terminal."""
    top: int = 3
    """tsv: classes to name."""
    vectors: Path | None = None
    """Write the vectors (of speakers: the x-vectors) too: a .npz with `ids` and `vectors`."""
    overlapping: bool = False
    """Of a head on frames: several classes may hold at once (speakers who talk over one another)."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""


@dataclass
class EvaluateArguments:
    """Accuracy, macro-F1, classes and confusions of a classifier; equal error rate of an x-vector head."""

    classifier: tyro.conf.Positional[Path]
    """A run of classify train, or a Hugging Face folder or hub name with such a head."""
    corpus: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("CORPUS")]
    """Corpus folders or manifests with the classes."""
    split: str = "test"
    """Which utterances; "all" takes every one. A corpus without splits is taken whole."""
    label: str | None = None
    """Field that names the class, where it is another than in training."""
    trials: Path | None = None
    """Pairs to verify: lines of 1 or 0 and two utterances' ids, as VoxCeleb's. Without, they are made of the split."""
    plot: Path | None = None
    """Draw the confusion matrix (.png, .svg, .pdf)."""
    json: Path | None = None
    """Write everything here too, every utterance with its class."""
    classes: int = 20
    """Classes to list, those with the lowest F1."""
    seed: int = 0
    """Of the choice of trials and of the intervals."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""


def run(arguments: list[str]) -> int:
    """Does what the first word says."""
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, ACTIONS))
        lines = [f"  firstwords classify {name:<{width}}  {what}" for name, what in ACTIONS.items()]
        print("\n".join(["Classes of utterances, speakers, and stretches of recordings.", "", *lines]))
        print("\nfirstwords classify ACTION --help says what each takes.")
        return 0
    action, *rest = arguments
    if action not in ACTIONS:
        raise ConfigError(f"no {action!r}; there are: {', '.join(ACTIONS)}")
    return {"train": _train, "predict": _predict, "evaluate": _evaluate}[action](rest)


def _train(arguments: list[str]) -> int:
    recipe = option(arguments, "recipe", DEFAULT_RECIPE)
    config = load_recipe(recipe, "classify", ClassifyConfig)
    default = TrainArguments(tyro.MISSING, tyro.MISSING, tyro.MISSING, config, config.data.label, recipe)
    chosen = parse(TrainArguments, arguments, "classify train", default)
    config = chosen.config
    if chosen.label:
        config = replace(config, data=replace(config.data, label=chosen.label))
    return train_classifier(chosen.corpus, chosen.source, chosen.out, config)


def _predict(arguments: list[str]) -> int:
    chosen = parse(PredictArguments, arguments, "classify predict", flags=True)
    sources = [source for place in chosen.recordings for source in _sources(place)]
    if not sources:
        raise CorpusError(f"no recording in {', '.join(map(str, chosen.recordings)) or 'the command: name some'}")
    classifier = SpeechClassifier.load(chosen.classifier, chosen.device)
    if chosen.format == "rttm" and classifier.kind != "frames":
        raise ConfigError("RTTM holds stretches of recordings; this classifier names whole recordings: --format tsv")
    skipped: list[str] = []

    def skip(name: str, error: AudioError) -> None:
        skipped.append(name)
        print(f"left out: {error}", file=sys.stderr)

    with AudioProgress(total_seconds(sources), "classifying") as progress:
        predictions = classifier.classify(
            sources, batch_seconds=chosen.batch_seconds, skip=skip, heard=progress.advance,
            overlapping=chosen.overlapping,
        )  # fmt: skip
        with nullcontext(sys.stdout) if chosen.out is None else open(chosen.out, "w", encoding="utf-8") as lines:
            write_predictions(predictions, lines, chosen.format, chosen.top, chosen.vectors)
    if progress.elapsed > 2:
        print(progress.summary, file=sys.stderr)
    if skipped:
        print(f"{len(skipped)} of {len(sources)} recordings were left out", file=sys.stderr)
    return 2 if len(skipped) == len(sources) else 0


def _sources(place: Path) -> Sequence[Source]:
    """The recordings that a file or folder stands for."""
    if (place.is_dir() and (place / MANIFEST_NAME).is_file()) or place.suffix == ".jsonl":
        return list(read_manifest(place))
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    return [place]


def _evaluate(arguments: list[str]) -> int:
    chosen = parse(EvaluateArguments, arguments, "classify evaluate", flags=True)
    split = None if chosen.split == "all" else chosen.split
    wanted = in_splits(read_corpora(chosen.corpus), split, ", ".join(map(str, chosen.corpus)))
    trials = None if chosen.trials is None else read_trials(chosen.trials)
    classifier = SpeechClassifier.load(chosen.classifier, chosen.device)
    found = evaluate_classifier(classifier, wanted, chosen.label, trials, chosen.batch_seconds, chosen.seed)
    console = Console(highlight=False)
    if found.score is not None:
        print_classification(found.score, console, chosen.classes)
    if found.verification is not None:
        print_verification(found.verification, console)
    shares = classifier.model.head.shares
    if len(shares) > 1:
        console.print("Layers heard, from the first block's input: " + " ".join(f"{share:.2f}" for share in shares))
    if found.unlabelled:
        print(f"{found.unlabelled} utterances without a class were left out", file=sys.stderr)
    for reason in found.skipped.values():
        print(f"left out: {reason}", file=sys.stderr)
    if chosen.json is not None:
        text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False)
        chosen.json.write_text(text + "\n", encoding="utf-8")
    if chosen.plot is not None:
        if found.score is None:
            raise CorpusError("no confusions to draw: none of these classes is known to the classifier")
        plot_confusions(chosen.plot, found.score, Path(chosen.classifier).name)
        print(f"drawn: {chosen.plot}", file=sys.stderr)
    return 0
