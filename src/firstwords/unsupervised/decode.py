"""`firstwords unsupervised decode` as functions: what the chosen member hears in recordings, as phones or words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import torch

from firstwords.checkpoints.models import load_wav2vec_u
from firstwords.corpus.feature_store import Features, FeatureWriter, read_features
from firstwords.corpus.prepared import SPLITS, Prepared, read_prepared
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.settings import SearchSettings
from firstwords.encoder import choose_device
from firstwords.errors import CheckpointError, ConfigError
from firstwords.models.wav2vec_u import SPECIALS
from firstwords.text.normalization import normalize_text
from firstwords.training.data import Skipped
from firstwords.unsupervised.audio import Listener, Segmenter
from firstwords.unsupervised.prepare import settings_of, true_phones
from firstwords.unsupervised.readings import (
    TUNED_ON,
    DecoderParts,
    error_rate,
    greedy_phones,
    read_all,
    text_floor,
    tuned,
)
from firstwords.unsupervised.voices import VOICES, Voices, speakers_of

DECODE_STRIDE = 2
"""Of the generator's convolution in 2.0 when a language model reads along. Source: wav2vec-U 2.0."""
Read = Literal["greedy", "phones", "words"]


@dataclass(frozen=True)
class ReadingConfig:
    """How emissions are read."""

    read: Read = "words"
    """The best phone of each step; phones by an n-gram model; words by a lexicon and an n-gram model."""
    lm: Path | None = None
    """A language model in place of the prepared one: over words, or over phones with --read phones."""
    lexicon: Path | None = None
    """Words and their phones in place of the prepared lexicon."""
    lm_weight: float | None = None
    """Of log10 p(words or phones); without it found by tuning, which needs no labels."""
    word_score: float | None = None
    """Added for each word (or phone); without it found by tuning."""
    beam: int = 50
    """Hypotheses kept at each step."""
    processes: int | None = None
    """Processes that decode; without it one for each core."""


@dataclass(frozen=True)
class Decoded:
    """What utterances were read as."""

    phones: dict[str, list[str]]
    """By id, silences left out."""
    words: dict[str, list[str]] | None
    settings: SearchSettings | None
    """The weights in use; None for greedy."""


class PhoneModel:
    """The chosen member of a sweep, with the folder that it learnt from.

    Args:
        run: the sweep's folder, or its best checkpoint.
        prepared: the folder, where it is no longer where it was.

    Raises:
        CheckpointError: no such model, or its folder is gone.
        CorpusError: the folder is broken.
    """

    def __init__(self, run: Path, prepared: Path | None = None, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.model, checkpoint = load_wav2vec_u(run)
        self.model.to(self.device).eval()
        self.facts: dict[str, Any] = checkpoint.state
        """What is known of the member: its number, penalties, judgement, and the sweep's verdict."""
        state = self.facts
        place = prepared or Path(state.get("prepared", {}).get("place", ""))
        if not (place / "prepared.json").is_file():
            raise CheckpointError(
                f"{run}: learnt from {place or 'a folder that it does not name'}, which is not there; say where it is "
                "with --prepared"
            )
        self.prepared: Prepared = read_prepared(place)
        self.phones = tuple(state["phones"])
        if self.phones != self.prepared.phones:
            raise CheckpointError(
                f"{run}: its phones are not those of {place}: the folder was prepared again with other text; train "
                "again, or name the right folder with --prepared"
            )

    @torch.inference_mode()
    def emissions(self, features: np.ndarray, stride: int | None = None) -> np.ndarray:
        """Log probabilities (T', P) of phones for features (T, D), the four specials left out."""
        x = torch.from_numpy(np.array(features, dtype=np.float32))[None].to(self.device)
        logits, lengths = self.model(x, torch.tensor([x.shape[1]], device=self.device), stride)
        spoken = logits[0, 0, : int(lengths[0]), len(SPECIALS) :]
        return spoken.float().log_softmax(-1).cpu().numpy()

    def stride(self, read: Read) -> int | None:
        """Of the convolution; None is the model's own."""
        return DECODE_STRIDE if self.prepared.kind == "2.0" and read != "greedy" else None

    def rate(self, read: Read) -> Literal["pooled", "unpooled"]:
        """Which features are read: with a language model those before pairs were pooled. Source: wav2vec-U."""
        return "pooled" if read == "greedy" else "unpooled"


def parts_of(prepared: Prepared, config: ReadingConfig) -> DecoderParts:
    """The decoder for a reading that is not greedy."""
    settings = SearchSettings(
        lm_weight=2.0 if config.lm_weight is None else config.lm_weight,
        word_score=0.0 if config.word_score is None else config.word_score,
        beam=config.beam,
    )
    words = config.read == "words"
    model = config.lm or (prepared.word_model if words else prepared.phone_model(6))
    return DecoderParts(prepared.phones, model, (config.lexicon or prepared.lexicon) if words else None, settings)


def read_emissions(
    prepared: Prepared, ids: Sequence[str], emissions: Sequence[np.ndarray], config: ReadingConfig
) -> Decoded:
    """Reads utterances' log probabilities (T, P); weights that are not given are tuned on some of them."""
    if config.read == "greedy":
        return Decoded({name: greedy_phones(one, prepared.phones) for name, one in zip(ids, emissions, strict=True)},
                       None, None)  # fmt: skip
    parts = parts_of(prepared, config)
    if config.lm_weight is None or config.word_score is None:
        step = max(1, len(ids) // TUNED_ON)
        some = [emissions[n] for n in range(0, len(ids), step)][:TUNED_ON]
        found, _ = tuned(parts, some, text_floor(prepared, parts.make()))
        chosen = replace(
            found,
            lm_weight=found.lm_weight if config.lm_weight is None else config.lm_weight,
            word_score=found.word_score if config.word_score is None else config.word_score,
        )
        parts = replace(parts, settings=chosen)
    readings = list(read_all(parts, emissions, len(ids), config.processes))
    phones = {name: list(reading.phones) for name, reading in zip(ids, readings, strict=True)}
    words = {name: list(reading.words or ()) for name, reading in zip(ids, readings, strict=True)}
    return Decoded(phones, words if config.read == "words" else None, parts.settings)


class Emissions(Sequence[np.ndarray]):
    """Emissions that are computed when they are asked for: those of a corpus need not fit in memory."""

    def __init__(self, features: Features, compute: Callable[[np.ndarray], np.ndarray]) -> None:
        self.features, self.compute = features, compute

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, number: Any) -> Any:
        return self.compute(self.features[number])


def emissions_of(model: PhoneModel, features: Features, read: Read) -> Emissions:
    """What the member says of features, utterance by utterance."""
    stride = model.stride(read)
    return Emissions(features, lambda one: model.emissions(one, stride))


def features_of(
    prepared: Prepared, utterances: Sequence[Utterance], rate: Literal["pooled", "unpooled"], scratch: Path,
    skipped: Skipped, device: str = "auto",
) -> Features:  # fmt: skip
    """Features of any utterances, made as the prepared ones were: by the same encoder, clusters and components.

    Speakers are adapted anew, each with all that these utterances hold of them.

    Args:
        scratch: a folder for them.
        skipped: told of utterances without speech.

    Raises:
        CheckpointError: the encoder is gone.
    """
    config = settings_of(prepared)
    listener = Listener(config.encoder, config.layer, config.audio, device)
    segmenter = Segmenter.load(prepared.folder) if prepared.kind == "1.0" else None
    heard: Iterator[tuple[str, np.ndarray]] = (
        (u.id, values) for u, values in listener(utterances, lambda u, why: skipped.add(u.id, why))
    )
    if config.audio.speaker_adaptation != "none":
        with FeatureWriter(scratch, "cepstra") as writer:
            for name, values in heard:
                writer.add(name, values)
        voices = Voices.load(prepared.folder / VOICES)
        heard = voices.adapted(read_features(scratch, "cepstra"), speakers_of(utterances))
    with FeatureWriter(scratch, rate) as writer:
        for name, values in heard:
            if segmenter is not None:
                found = segmenter(values)
                values = (found.pooled if rate == "pooled" else found.unpooled).numpy()
            writer.add(name, values)
    return read_features(scratch, rate)


def prepared_features(
    prepared: Prepared, utterances: Sequence[Utterance], rate: Literal["pooled", "unpooled"]
) -> Features | None:
    """Features of utterances that are all in the prepared folder already; None where one is not.

    Only to be asked with utterances of the corpora that were prepared: ids of others may be the same.
    """
    found = {split: prepared.features(split, rate) for split in SPLITS}
    places = [next(((split, one.places[u.id]) for split, one in found.items() if u.id in one.places), None)
              for u in utterances]  # fmt: skip
    if any(place is None for place in places):
        return None
    rows = [found[place[0]][place[1]] for place in places if place is not None]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return Features(np.concatenate(rows), lengths, tuple(u.id for u in utterances))


@dataclass(frozen=True)
class Rates:
    """Error rates where the truth is known; None where it is not."""

    phones: float | None
    words: float | None


def rates_of(prepared: Prepared, utterances: Sequence[Utterance], decoded: Decoded) -> Rates:
    """Phone and word error rates against the manifest."""
    truth = true_phones(utterances, set(prepared.phones), settings_of(prepared).text)
    texts = {u.id: normalize_text(u.text).split() for u in utterances if u.text}
    return Rates(error_rate(truth, decoded.phones), error_rate(texts, decoded.words) if decoded.words else None)


def write_decoded(
    decoded: Decoded, utterances: Sequence[Utterance], lines: TextIO, format: Literal["text", "jsonl"]
) -> None:
    """One line an utterance: its id, a tab and what was read; or JSON with `id`, `text`, `phones`."""
    for utterance in utterances:
        if utterance.id not in decoded.phones:
            continue
        phones = " ".join(decoded.phones[utterance.id])
        text = phones if decoded.words is None else " ".join(decoded.words[utterance.id])
        if format == "text":
            lines.write(f"{utterance.id}\t{text}\n")
        else:
            line = {"id": utterance.id} | ({} if decoded.words is None else {"text": text}) | {"phones": phones}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def labelled(decoded: Decoded, utterances: Sequence[Utterance], split: str | None = None) -> Iterator[Utterance]:
    """Utterances with what was read as their transcripts, true ones taken away."""
    for utterance in utterances:
        if decoded.phones.get(utterance.id):
            kept = {k: v for k, v in utterance.extras.items() if k not in ("phones", "words")}
            words = None if decoded.words is None else " ".join(decoded.words[utterance.id])
            yield replace(
                utterance, text=words or None, split=split or utterance.split,
                extras=kept | {"phones": " ".join(decoded.phones[utterance.id])},
            )  # fmt: skip


def check_reading(config: ReadingConfig) -> None:
    """Raises ConfigError."""
    if config.beam < 1 or (config.lm_weight is not None and config.lm_weight < 0):
        raise ConfigError(f"beam {config.beam}, lm-weight {config.lm_weight}: at least 1, and not below 0")
    if config.read == "greedy" and config.lm is not None:
        raise ConfigError("--read greedy takes no --lm; --read phones or words does")
