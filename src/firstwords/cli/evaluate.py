"""firstwords evaluate RUN CORPUS --split test"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from firstwords.cli.options import DecoderOptions, decoder_config, parse, say_note, several
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.options import DecoderConfig
from firstwords.errors import CorpusError
from firstwords.evaluation import Evaluation, evaluate, in_splits, is_corpus, read_evaluation
from firstwords.models.inference import Precision
from firstwords.recognizer import Recognizer
from firstwords.report.comparison import print_comparison
from firstwords.report.evaluation import print_score
from firstwords.report.utterances import write_utterances
from firstwords.training.data import read_corpora


@dataclass
class Arguments:
    """Word and character error rates of recognisers, with intervals, commonest errors, and speakers.

    Several recognisers, or JSON files of earlier evaluations (other settings), are compared on the same utterances:
    firstwords evaluate runs/a runs/b greedy.json corpus/
    """

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run or checkpoint, a Hugging Face folder or hub name, a fairseq .pt; or the JSON file of an earlier
    evaluation."""
    more: Annotated[tyro.conf.Positional[tuple[Path, ...]], several("[RECOGNIZER] CORPUS")]
    """More of those, and corpus folders or manifests with transcripts."""
    split: str = "test"
    """Which utterances; "all" takes every one. A corpus without splits is taken whole."""
    unknown: Literal["error", "count"] = "error"
    """References with characters that the alphabet lacks: refuse, or count what cannot be written as errors."""
    decoder: DecoderOptions = field(default_factory=DecoderConfig)
    json: Path | None = None
    """Write everything here too, every utterance with its texts (of several recognisers: of the last)."""
    html: Path | None = None
    """Write a page of every utterance, worst first, to listen to and to read."""
    worst: int = 5
    """Utterances to show word by word, those with the most errors."""
    adapter: str | None = None
    """Which language or speaker, of a model with adapters for several."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    precision: Precision = "auto"
    """Of the network; "auto" takes bfloat16 where the hardware is fast at it."""
    batch_seconds: float = 60.0
    """Most audio that the network sees at once."""


def run(arguments: list[str]) -> None:
    """Transcribes, scores, prints."""
    chosen = parse(Arguments, arguments, "evaluate", flags=True)
    corpora = [place for place in chosen.more if is_corpus(place)]
    systems = [chosen.recognizer, *(place for place in chosen.more if not is_corpus(place))]
    listening = [place for place in systems if place.suffix != ".json"]
    wanted: list[Utterance] = []
    if corpora:
        split = None if chosen.split == "all" else chosen.split
        wanted = in_splits(read_corpora(corpora), split, ", ".join(map(str, corpora)))
    elif listening:
        raise CorpusError(f"no corpus to evaluate {listening[0]} on: firstwords evaluate RUN CORPUS")
    config = decoder_config(chosen.decoder)
    results: dict[str, Evaluation] = {}
    for place in systems:
        if place.suffix == ".json":
            results[str(place)] = read_evaluation(place)
            continue
        recognizer = Recognizer.load(
            place, chosen.device, lm=config, precision=chosen.precision, adapter=chosen.adapter
        )
        results[str(place)] = evaluate(recognizer, wanted, chosen.unknown, chosen.batch_seconds, config.nbest)
        say_note(recognizer.decoder)
    console, last = Console(highlight=False), list(results.values())[-1]
    if len(results) == 1:
        print_score(last.score, console, worst=chosen.worst)
    print_comparison(results, console)
    if last.untranscribed:
        print(f"{last.untranscribed} utterances without a transcript were left out", file=sys.stderr)
    for reason in last.skipped.values():
        print(f"left out: {reason}", file=sys.stderr)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(last.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if chosen.html is not None:
        write_utterances(chosen.html, results, wanted)
        print(f"wrote {chosen.html}", file=sys.stderr)
