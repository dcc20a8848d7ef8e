"""What `firstwords tune` found, kept in a recogniser's folder and used again with the same language model."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.checkpoints.own import checkpoint_path
from firstwords.config import from_dict
from firstwords.decoding.hypothesis import Decoder
from firstwords.decoding.options import DecoderConfig, make_decoder
from firstwords.decoding.settings import SearchSettings
from firstwords.errors import CheckpointError, ConfigError, LanguageModelError
from firstwords.text.alphabet import Alphabet

NAME = "decoder.json"
"""Of the file in the recogniser's folder."""
_SAMPLE = 1 << 20


@dataclass(frozen=True)
class Tuned:
    """Weights for one language model."""

    lm: str
    """The file's name when it was tuned."""
    fingerprint: str
    """Of its content, so that a copy elsewhere is known again."""
    open_vocabulary: bool
    lexicon: bool
    """Whether a lexicon was given."""
    lm_weight: float
    word_score: float
    unknown_score: float
    beam: int
    error_rate: float
    """WER (PER with phonemes) on the utterances it was tuned on."""
    utterances: int
    temperature: float = 1.0
    """Under which word confidences tell best which words are right."""


def fingerprint(path: Path) -> str:
    """Tells language models apart: size, and a digest of the first and last megabyte. Of a run: of its checkpoint.

    Raises:
        LanguageModelError: it cannot be read.
    """
    if path.is_dir():
        path = checkpoint_path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            digest.update(file.read())
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{size}-{digest.hexdigest()[:32]}"


def read_tuned(folder: Path) -> list[Tuned]:
    """What was found for this recogniser; none where there is no file.

    Raises:
        CheckpointError: the file is broken.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        return [from_dict(Tuned, one, NAME) for one in values["tuned"]]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not what firstwords tune writes ({error}); delete it and tune again") from error


def write_tuned(folder: Path, found: Tuned) -> Path:
    """Adds what was found, in the place of what was there for the same model and kind of search.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = folder / NAME
    others = [one for one in read_tuned(folder) if _key(one) != _key(found)]
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(json.dumps({"tuned": [asdict(one) for one in [*others, found]]}, indent=1) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def remember(
    place: Path,
    config: DecoderConfig,
    settings: SearchSettings,
    error_rate: float,
    utterances: int,
    temperature: float = 1.0,
) -> Path:
    """Writes what was found for a recogniser; returns the file.

    Args:
        place: the recogniser's folder, or a checkpoint in it.
        config: with the language model that was tuned for.
        settings: the best ones.
        error_rate: with them.
        utterances: that they were tried on.
        temperature: of word confidences.

    Raises:
        CheckpointError: it cannot be written.
    """
    assert config.lm is not None
    found = Tuned(
        config.lm.name, fingerprint(config.lm), config.open_vocabulary, config.lexicon is not None,
        settings.lm_weight, settings.word_score, settings.unknown_score, settings.beam,
        error_rate, utterances, temperature,
    )  # fmt: skip
    return write_tuned(place if place.is_dir() else place.parent, found)


def with_tuned(config: DecoderConfig, place: Path) -> DecoderConfig:
    """`config` with what was tuned for its language model where it leaves values open.

    Args:
        place: the recogniser's folder, or a checkpoint in it.
    """
    one = _found(config, place)
    if one is None:
        return config
    return replace(
        config,
        lm_weight=one.lm_weight if config.lm_weight is None else config.lm_weight,
        word_score=one.word_score if config.word_score is None else config.word_score,
        unknown_score=one.unknown_score if config.unknown_score is None else config.unknown_score,
        beam=one.beam if config.beam is None else config.beam,
    )


def temperature_for(lm: str | Path | DecoderConfig, place: Path) -> float:
    """The temperature of word confidences that was fitted with this language model; 1 where none was."""
    one = _found(_config(lm), place)
    return one.temperature if one else 1.0


def _found(config: DecoderConfig, place: Path) -> Tuned | None:
    """What was tuned for a language model and kind of search, if anything was."""
    if config.lm is None or not config.lm.exists():
        return None
    known = read_tuned(place if place.is_dir() else place.parent)
    wanted = (fingerprint(config.lm), config.open_vocabulary, config.lexicon is not None) if known else None
    return next((one for one in known if _key(one) == wanted), None)


def _config(lm: str | Path | DecoderConfig) -> DecoderConfig:
    return lm if isinstance(lm, DecoderConfig) else DecoderConfig(lm=Path(lm))


def decoder_for(
    lm: str | Path | DecoderConfig, place: Path, alphabet: Alphabet, transitions: np.ndarray | None = None
) -> Decoder:
    """The decoder of a recogniser in `place` with a language model, or as a configuration says; tuned if it was.

    Raises:
        FirstwordsError: as `make_decoder`.
    """
    return make_decoder(with_tuned(_config(lm), place), alphabet, transitions)


def _key(one: Tuned) -> tuple[str, bool, bool]:
    return one.fingerprint, one.open_vocabulary, one.lexicon
