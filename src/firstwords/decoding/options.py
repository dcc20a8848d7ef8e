"""Which decoder: language model, lexicon, weights, beam; and the decoder made of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from firstwords.decoding.beam import BeamDecoder, Engine, OwnSearch, flashlight_engine, flashlight_is_there
from firstwords.decoding.hypothesis import Decoder
from firstwords.decoding.lexicon import Lexicon, Unspellable, read_lexicon, spell_words
from firstwords.decoding.ngram import NgramModel
from firstwords.decoding.settings import SearchSettings
from firstwords.decoding.vocabulary import Kind, is_kenlm_binary, kind_of, read_vocabulary
from firstwords.decoding.word_model import MARKS, WordModel
from firstwords.errors import ConfigError, LanguageModelError
from firstwords.text.alphabet import Alphabet

DEFAULTS = SearchSettings()
SYMBOL_WEIGHT, SYMBOL_WORD_SCORE = 1.0, 0.0
"""Without tuning, for models over characters or phones. Ours."""


@dataclass(frozen=True)
class DecoderConfig:
    """How emissions become text. Without a language model, a lexicon, hot words or a beam: greedily."""

    lm: Path | None = None
    """Language model over words or over the alphabet's symbols: an ARPA file (.gz too), a KenLM binary (with
    --lexicon), or a run of `firstwords lm --transformer --characters`, which is asked inside the beam."""
    lexicon: Path | None = None
    """Words that may be written, one a line, with their spelling behind them if it is not the alphabet's own. Without
    it: the language model's words."""
    open_vocabulary: bool = False
    """Words that are in no lexicon may be written too, letter by letter."""
    lm_weight: float | None = None
    """Of log10 p(words). Without it: what `firstwords tune` found, else 2 (words, as in fairseq) or 1 (symbols)."""
    word_score: float | None = None
    """Added for each word. Without it: what `firstwords tune` found, else -1 (as in fairseq), 0 without word model."""
    unknown_score: float | None = None
    """With an open vocabulary, added for each word outside the lexicon. Without it: tuned, else -10."""
    silence_score: float = 0.0
    """Added at each frame that is read as a word boundary."""
    beam: int | None = None
    """Hypotheses kept at each frame. Without it: what `firstwords tune` found, else 50; the papers test with 1500."""
    beam_threshold: float = DEFAULTS.beam_threshold
    """Hypotheses are dropped that are this far below the best, in nats."""
    token_beam: int = 0
    """Labels that may go on at each frame, the likeliest; 0 for all."""
    log_add: bool = False
    """Sum the probabilities of all paths to a hypothesis instead of taking the best path's."""
    nbest: int = 1
    """Readings of each utterance."""
    rescore: Path | None = None
    """Rank the readings anew with this language model, which sees whole sentences: a Hugging Face model folder, or a
    run of `firstwords lm --transformer`. Weight and word score are the same as in the search."""
    rescore_share: float = 0.5
    """Of that model in the language score; the rest is --lm's."""
    rescore_nbest: int = 50
    """Readings that it ranks."""
    hot_words: tuple[str, ...] = ()
    """Words to expect; they may be written whatever the lexicon says."""
    hot_word_boost: float = 5.0
    """Added to the score of each hot word, in nats."""
    unspellable: Unspellable = "few"
    """Words that the alphabet cannot spell: leave out a few (1 in 20) and refuse more, refuse any, or leave out all."""
    search: Literal["auto", "flashlight", "own"] = "auto"
    """flashlight-text where it is installed and can do what is asked, or our own search."""
    processes: int | None = None
    """Processes that decode beside the network; 0 for this one. Without it: 0 from Python, else one for each core."""

    @property
    def greedy(self) -> bool:
        """Whether nothing asks for a beam search."""
        chosen = (self.lm, self.lexicon, self.beam, self.rescore)
        return all(one is None for one in chosen) and not self.hot_words and self.nbest == 1

    def settings(self, kind: Kind) -> SearchSettings:
        """Weights and limits, all of them decided. Raises ConfigError where one is out of range."""
        symbols = kind == "symbols"
        word_score = SYMBOL_WORD_SCORE if symbols or self.lm is None else DEFAULTS.word_score
        weight = SYMBOL_WEIGHT if symbols else DEFAULTS.lm_weight
        for name, value, least in (
            ("beam", self.beam, 1), ("nbest", self.nbest, 1), ("token-beam", self.token_beam, 0),
            ("processes", self.processes, 0), ("lm-weight", self.lm_weight, 0.0),
        ):  # fmt: skip
            if value is not None and value < least:
                raise ConfigError(f"--{name} {value}: {least} is the least")
        if self.beam_threshold <= 0:
            raise ConfigError(f"--beam-threshold {self.beam_threshold}: must be above 0")
        beam = DEFAULTS.beam if self.beam is None else self.beam
        return SearchSettings(
            lm_weight=weight if self.lm_weight is None else self.lm_weight,
            word_score=word_score if self.word_score is None else self.word_score,
            unknown_score=DEFAULTS.unknown_score if self.unknown_score is None else self.unknown_score,
            silence_score=self.silence_score,
            beam=max(beam, self.nbest),
            beam_threshold=self.beam_threshold,
            token_beam=self.token_beam,
            log_add=self.log_add,
            nbest=self.nbest,
        )


def make_decoder(config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None = None) -> Decoder:
    """The decoder that `config` describes.

    Args:
        config: which.
        alphabet: of the emissions.
        transitions: (V, V) of a recogniser trained with ASG; None for CTC.

    Raises:
        ConfigError: values that contradict each other or are out of range.
        LanguageModelError: a model that cannot be read, or is over another alphabet's symbols.
        TextError: a lexicon or vocabulary that does not fit the alphabet; the differing symbols are named.
    """
    if config.greedy and transitions is not None:
        from firstwords.decoding.viterbi import ViterbiDecoder

        return ViterbiDecoder(transitions)
    if config.greedy:
        from firstwords.decoding.greedy import GreedyDecoder  # here, for decoding processes start faster without torch

        return GreedyDecoder()
    if config.rescore is not None:
        return _rescored(config, alphabet, transitions)
    if config.processes:
        from firstwords.decoding.workers import DecoderPool

        return DecoderPool(config, alphabet, transitions)
    return make_beam_decoder(config, alphabet, transitions)


def _rescored(config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None) -> Decoder:
    from firstwords.decoding.rescored import RescoringDecoder, load_sentence_model

    assert config.rescore is not None
    if not 0 <= config.rescore_share <= 1:
        raise ConfigError(f"--rescore-share {config.rescore_share}: from 0 to 1")
    model = load_sentence_model(config.rescore)
    many = replace(config, rescore=None, nbest=max(config.nbest, config.rescore_nbest))
    search = make_decoder(many, alphabet, transitions)
    network = config.lm is None or _is_run(config.lm)
    settings = config.settings("symbols" if network else _kind(config, _vocabulary(config), alphabet))
    share = config.rescore_share if config.lm is not None else 1.0
    return RescoringDecoder(search, model, alphabet, settings.lm_weight, settings.word_score, share, config.nbest)


def make_beam_decoder(config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None = None) -> BeamDecoder:
    """The same, in this process and never greedy."""
    if config.lm is not None and _is_run(config.lm):
        return _with_network(config, alphabet, transitions)
    vocabulary = _vocabulary(config)
    kind = _kind(config, vocabulary, alphabet)
    if config.open_vocabulary and kind == "symbols":
        raise ConfigError("--open-vocabulary is for models over words; one over symbols always writes any word")
    settings = config.settings(kind)
    lexicon = _lexicon(config, vocabulary, alphabet) if kind == "words" else None
    boosts, hot = _hot_words(config, alphabet)
    if lexicon is not None and boosts:
        lexicon = lexicon.with_words(boosts, alphabet)
    engine: Engine
    unlike = [] if transitions is None else _unlike_flashlight(kind, alphabet, lexicon)
    if _flashlight(config, kind, settings, unlike):
        engine = flashlight_engine(kind, alphabet, config.lm, lexicon, boosts, transitions)
    else:
        model: WordModel | None = NgramModel.load(config.lm) if config.lm else None
        hot_ = hot if boosts else None
        engine = OwnSearch(alphabet, kind, model, lexicon, config.open_vocabulary, boosts, hot_, transitions)
    return BeamDecoder(engine, settings, len(alphabet), lexicon.left_out if lexicon else "")


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".safetensors"


def _unlike_flashlight(kind: Kind, alphabet: Alphabet, lexicon: Lexicon | None) -> list[str]:
    """What of a recogniser trained with ASG flashlight-text (0.0.7) does not search, or not rightly."""
    reasons = []
    if kind == "words" and not alphabet.final_boundary:
        reasons.append("ASG emissions that end without a word boundary")
    if lexicon is not None and any(a == b for one in lexicon.spellings for a, b in pairwise(one)):
        reasons.append("a label that follows itself, as in an alphabet without symbols for repetitions")
    if kind == "symbols":
        reasons.append("transition scores without a lexicon, which it leaves out of the score")
    return reasons


def _with_network(config: DecoderConfig, alphabet: Alphabet, transitions: np.ndarray | None) -> BeamDecoder:
    """A search that asks a Transformer over symbols at every step (shallow fusion)."""
    from firstwords.decoding.transformer import TransformerScorer

    assert config.lm is not None
    if config.lexicon or config.open_vocabulary or config.search == "flashlight":
        raise ConfigError(f"{config.lm}: a network over symbols takes neither a lexicon nor flashlight-text")
    model = TransformerScorer.load(config.lm)
    if model.unit == "pieces":
        raise ConfigError(
            f"{config.lm}: a model over pieces of words, which cannot be asked symbol by symbol; train one with "
            "--characters"
        )
    kind_of(set(model.vocabulary) - MARKS, alphabet, str(config.lm))
    boosts, hot = _hot_words(config, alphabet)
    hot_ = hot if boosts else None
    engine = OwnSearch(alphabet, "symbols", model, boosts=boosts, hot=hot_, transitions=transitions)
    return BeamDecoder(engine, config.settings("symbols"), len(alphabet))


def _kind(config: DecoderConfig, vocabulary: list[str] | None, alphabet: Alphabet) -> Kind:
    """What the search goes through."""
    if config.lexicon is not None:
        return "words"
    return "symbols" if vocabulary is None else kind_of(vocabulary, alphabet, str(config.lm))


def _vocabulary(config: DecoderConfig) -> list[str] | None:
    """The language model's words where they are needed and can be known."""
    if config.lm is None:
        return None
    if not is_kenlm_binary(config.lm):
        return read_vocabulary(config.lm)
    if config.lexicon is None:
        raise LanguageModelError(f"{config.lm}: a KenLM binary does not say its words; name them with --lexicon FILE")
    return None


def _lexicon(config: DecoderConfig, vocabulary: list[str] | None, alphabet: Alphabet) -> Lexicon:
    if config.lexicon is not None:
        return read_lexicon(config.lexicon, alphabet, config.unspellable)
    return spell_words(vocabulary or [], alphabet, str(config.lm), config.unspellable)


def _hot_words(config: DecoderConfig, alphabet: Alphabet) -> tuple[dict[str, float], Lexicon]:
    """Each hot word's boost; and all of them spelt, each spelling once."""
    if not config.hot_words:
        return {}, Lexicon((), ())
    words = [word for text in config.hot_words for word in alphabet.normalize(text).split()]
    spelt = spell_words(list(dict.fromkeys(words)), alphabet, "hot words", "error")
    return dict.fromkeys(spelt.words, config.hot_word_boost), spelt


def _flashlight(config: DecoderConfig, kind: Kind, settings: SearchSettings, unlike: list[str]) -> bool:
    """Whether flashlight-text decodes; `unlike`: what else it cannot do.

    Raises:
        ConfigError: it was asked for, but is not there or cannot do this.
        LanguageModelError: a KenLM binary, which only it can read.
    """
    reasons = list(unlike)
    if config.open_vocabulary:
        reasons.append("an open vocabulary")
    if kind == "symbols" and settings.word_score:
        reasons.append("a word score without a lexicon")
    if kind == "symbols" and config.hot_words:
        reasons.append("hot words without a lexicon")
    there = flashlight_is_there()
    usable = there and not reasons and config.search != "own"
    if config.lm is not None and not usable and is_kenlm_binary(config.lm):
        why = f"it does not know {reasons[0]}" if reasons else "it is not in use here"
        raise LanguageModelError(
            f"{config.lm}: KenLM binaries are read by flashlight-text alone, and {why}; give the .arpa file"
        )
    if config.search == "flashlight" and not usable:
        if not there:
            raise ConfigError(
                "--search flashlight: not installed: pip install flashlight-text (Python 3.12 or earlier)"
            )
        raise ConfigError(f"--search flashlight: it does not know {reasons[0]}; --search own does")
    return usable


def with_settings(config: DecoderConfig, settings: SearchSettings) -> DecoderConfig:
    """The configuration with weights and beam filled in."""
    return replace(
        config,
        lm_weight=settings.lm_weight,
        word_score=settings.word_score,
        unknown_score=settings.unknown_score,
        beam=settings.beam,
    )
