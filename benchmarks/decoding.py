"""Beam search with a word n-gram model: Firstwords against flashlight-text and pyctcdecode, on the same emissions.

    python benchmarks/decoding.py RUN CORPUS --lm lm.arpa --split test --beams 25 100 500 --out results.json

Same beam, same language-model weight (pyctcdecode takes natural logarithms), same word score, no pruning of labels,
and the same words. pyctcdecode (pip install --no-deps pyctcdecode pygtrie kenlm) always writes words outside its list,
at a cost, and sums over paths; "its pruning" is its defaults, narrower than ours. Where it is not installed its row
says so. All decode in one process, except "2 processes", Firstwords' own pool.
"""

from __future__ import annotations

import functools
import pickle
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from measure import Contender, Step, Timing, interleave, processor, save, show, to_json

from firstwords.decoding.options import DecoderConfig
from firstwords.scoring import ErrorCounts, word_errors


@dataclass
class Settings:
    """What to decode, and how."""

    recognizer: tyro.conf.Positional[Path]
    """A fine-tuning run."""
    corpus: tyro.conf.Positional[Path]
    """Transcribed utterances."""
    lm: Path
    """ARPA file over words."""
    split: str = "test"
    """Which utterances."""
    most: int = 40
    """Utterances, the longest."""
    beams: tuple[int, ...] = (25, 100, 500)
    """Hypotheses kept at each frame."""
    lm_weight: float = 1.5
    """Of log10 p."""
    word_score: float = 0.9
    """Of each word."""
    processes: int = 2
    """Of the pool."""
    open_vocabulary: bool = False
    """Compare our search for open vocabularies too (the only one that pyctcdecode has)."""
    rounds: int = 3
    """Measured rounds."""
    out: Path | None = None
    """JSON."""


def main() -> None:
    settings = tyro.cli(Settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "emissions.pickle"
        path.write_bytes(pickle.dumps(listen(settings)))
        results = []
        for beam in settings.beams:
            config = DecoderConfig(
                lm=settings.lm.resolve(), lm_weight=settings.lm_weight, word_score=settings.word_score, beam=beam
            )
            chosen: list[tuple[str, Any]] = [
                ("flashlight-text", plain_flashlight),
                ("firstwords", ours),
                ("firstwords, own search", functools.partial(ours, search="own")),
                ("pyctcdecode", pyctcdecode),
                (
                    "pyctcdecode, its pruning",
                    functools.partial(pyctcdecode, beam_prune_logp=-10.0, token_min_logp=-5.0),
                ),
            ]
            if settings.open_vocabulary:
                chosen.insert(4, ("firstwords, open", functools.partial(ours, open_vocabulary=True)))
            contenders = [Contender(name, prepare, (path, config)) for name, prepare in chosen]
            timings = interleave(contenders, settings.rounds, 1)
            heard = pickle.loads(path.read_bytes())
            seconds = sum(len(one.emissions) for one in heard[0]) * 0.02
            timings.insert(2, pooled(path, config, settings, timings[0]))
            rates = {one.name: one.parts[0]["WER"] for one in timings if one.parts and one.parts[0]}
            for one in timings:
                one.parts = []
            show(f"beam {beam}, {len(heard[0])} utterances of {seconds:.0f} s in all, {processor()}", timings,
                 "flashlight-text")  # fmt: skip
            print("  WER, per cent: " + ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items()), flush=True)
            facts = {"beam": beam, "seconds": seconds, "utterances": len(heard[0]), "wer": rates}
            results.append(to_json(timings, "flashlight-text", **facts))
            save(settings.out, results)


def listen(settings: Settings) -> tuple[Any, ...]:
    """Emissions and references, and the alphabet."""
    from firstwords.evaluation import in_splits
    from firstwords.listening import listen as heard_in
    from firstwords.recognizer import Recognizer
    from firstwords.training.data import read_corpora

    recognizer = Recognizer.load(settings.recognizer)
    utterances = in_splits(read_corpora([settings.corpus]), settings.split, settings.corpus)
    longest = sorted(utterances, key=lambda one: -(one.duration or 0.0))[: settings.most]
    return heard_in(recognizer, longest, lambda name, error: None), recognizer.alphabet


def rated(heard: Any, texts: list[str]) -> dict[str, float]:
    """WER in per cent, shown where the parts of a step are."""
    total = sum((word_errors(one.reference, text) for one, text in zip(heard, texts, strict=True)), ErrorCounts())
    return {"WER": 100 * total.rate}


def ours(path: Path, config: DecoderConfig, **more: Any) -> Step:
    from firstwords.decoding.options import make_decoder

    heard, alphabet = pickle.loads(path.read_bytes())
    decoder = make_decoder(replace(config, **more), alphabet)
    emissions = [one.emissions for one in heard]

    def step() -> dict[str, float]:
        return rated(heard, [alphabet.decode(readings[0].labels) for readings in decoder(emissions)])

    return step


def pooled(path: Path, config: DecoderConfig, settings: Settings, base: Timing) -> Timing:
    """The pool, in this process, since the contenders' own may have no children; after the others, not between them."""
    timing = Timing(f"firstwords, {settings.processes} processes")
    step = ours(path, config, processes=settings.processes)
    for number in range(-1, len(base.seconds)):
        started = time.perf_counter()
        parts = step() or {}
        if number >= 0:
            timing.seconds.append(time.perf_counter() - started)
            timing.parts.append(parts)
    return timing


def plain_flashlight(path: Path, config: DecoderConfig) -> Step:
    """As fairseq's and torchaudio's decoders use it, without the free boundary behind the last frame."""
    from itertools import groupby

    import numpy as np
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconDecoder,
        LexiconDecoderOptions,
        SmearingMode,
        Trie,
    )
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    heard, alphabet = pickle.loads(path.read_bytes())
    words = vocabulary(config, alphabet)
    index = Dictionary()
    for word in [*words, "<unk>"]:
        index.add_entry(word)
    model = KenLM(str(config.lm), index)
    trie = Trie(len(alphabet), alphabet.boundary)
    start = model.start(False)
    for word in words:
        number = index.get_index(word)
        spelling = [*(alphabet.symbols.index(letter) for letter in word), alphabet.boundary]
        trie.insert(spelling, number, model.score(start, number)[1])
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        config.beam, len(alphabet), config.beam_threshold, config.lm_weight, config.word_score, float("-inf"), 0.0,
        False, CriterionType.CTC,
    )  # fmt: skip
    decoder = LexiconDecoder(options, trie, model, alphabet.boundary, 0, index.get_index("<unk>"), [], False)
    emissions = [np.ascontiguousarray(one.emissions.numpy()) for one in heard]

    def step() -> dict[str, float]:
        texts = []
        for one in emissions:
            best = decoder.decode(one.ctypes.data, *one.shape)[0]
            texts.append(alphabet.decode(label for label, _ in groupby(best.tokens)))
        return rated(heard, texts)

    return step


def pyctcdecode(
    path: Path, config: DecoderConfig, beam_prune_logp: float = -50.0, token_min_logp: float = -100.0
) -> Step:
    import math

    from pyctcdecode import build_ctcdecoder

    heard, alphabet = pickle.loads(path.read_bytes())
    labels = ["" if n == 0 else " " if n == alphabet.boundary else s for n, s in enumerate(alphabet.symbols)]
    arpa = config.lm
    decoder = build_ctcdecoder(
        labels, str(arpa), vocabulary(config, alphabet), alpha=config.lm_weight / math.log(10), beta=config.word_score
    )
    emissions = [one.emissions.numpy() for one in heard]

    def step() -> dict[str, float]:
        texts = [
            decoder.decode(one, config.beam, beam_prune_logp=beam_prune_logp, token_min_logp=token_min_logp)
            for one in emissions
        ]
        return rated(heard, [" ".join(text.split()) for text in texts])

    return step


def vocabulary(config: DecoderConfig, alphabet: Any) -> list[str]:
    """The model's words that the alphabet spells."""
    from firstwords.decoding.lexicon import spell_words
    from firstwords.decoding.vocabulary import read_vocabulary

    assert config.lm is not None
    return list(spell_words(read_vocabulary(config.lm), alphabet, str(config.lm), "skip").words)


if __name__ == "__main__":
    main()
