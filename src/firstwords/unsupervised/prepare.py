"""What `firstwords unsupervised prepare` does: a corpus and a text to a prepared folder, step by step.

A step is done again only where something that it depends on has changed; prepared.json keeps a hash of that.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firstwords import __version__
from firstwords.config import from_dict, to_dict
from firstwords.corpus.feature_store import FeatureWriter, have_features, read_features, write_lines
from firstwords.corpus.prepared import FACTS, SPLITS, Kind, Prepared, read_facts, read_prepared, write_facts
from firstwords.corpus.utterance import Utterance
from firstwords.encoder import choose_device
from firstwords.errors import ConfigError, CorpusError, MissingExtraError
from firstwords.text.alphabet import BOUNDARY, transcript_of
from firstwords.text.ipa import ipa_units
from firstwords.text.normalization import normalize_text
from firstwords.text.phonemes import look_up, pronounce, read_pronunciations
from firstwords.training.data import Skipped, choose_splits, fingerprint, read_corpora, with_durations
from firstwords.unsupervised.audio import (
    AudioConfig,
    Listener,
    fit_segmenter,
    write_mfcc_units,
    write_segments,
    write_speech_features,
)
from firstwords.unsupervised.cepstra import MFCC
from firstwords.unsupervised.steps import Steps, digest, stamp
from firstwords.unsupervised.text import FEW_SENTENCES, TextConfig, TextSummary, prepare_text
from firstwords.unsupervised.voices import VOICES, by_speaker, fit_voices, speakers_of

FEW_UTTERANCES, FEW_HOURS = 500, 1.0
"""Below either, people are told what to expect."""
MOST_STEPS = 18.0
"""Steps a second above which they are finer than phones. Source: wav2vec-U 2.0 (14 to 16 work, 25 to 28 fail)."""
KNOWN_SHARE = 0.9
"""Share of a manifest's phones that the text must have too, for error rates against them to mean anything."""


@dataclass(frozen=True)
class PrepareConfig:
    """How a prepared folder is made."""

    encoder: str
    """A run, a checkpoint, a Hugging Face folder or name, a fairseq .pt; or "mfcc", cepstra instead of a model."""
    layer: int
    """Which block's output is taken, from 1; fairseq's layer 14 is 15 here. Cepstra have no layer but 0."""
    kind: Kind = "1.0"
    """1.0: segments of principal components; 2.0: features as they are."""
    text: TextConfig = field(default_factory=TextConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    train: tuple[str, ...] = ("train",)
    """Splits that train; utterances without any split always do."""
    valid: tuple[str, ...] = ("dev", "valid", "validation")
    """Splits that the models are compared on, without labels."""
    held_out: float = 0.05
    """Share of the training utterances held out for that where the corpus has no such split."""
    keep_raw: bool = False
    """1.0: keep the encoder's own features (raw/), for another number of clusters or dimensions."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""


@dataclass(frozen=True)
class Preparation:
    """What came of it."""

    prepared: Prepared
    warnings: tuple[str, ...]
    """What its user should know."""
    done: tuple[str, ...]
    """Steps that were done; the others had been before."""
    skipped: Skipped


def prepare(corpora: Sequence[Path], texts: Sequence[Path], out: Path, config: PrepareConfig) -> Preparation:
    """Prepares a folder, or brings it up to date.

    Args:
        corpora: corpus folders or manifests; transcripts are not looked at, but to log error rates beside.
        texts: what is read: a sentence a line.
        out: the folder.

    Raises:
        FirstwordsError: corpora, texts or models that cannot be used, values out of range.
    """
    config.audio.check()
    config.text.check()
    facts = read_facts(out) if (out / FACTS).is_file() else {}
    if facts.get("kind", config.kind) != config.kind:
        raise CorpusError(f"{out}: prepared for {facts['kind']}; take another folder for {config.kind}")
    steps = Steps(out, facts | {"kind": config.kind, "firstwords": __version__}, write_facts)
    skipped = Skipped()
    utterances = with_durations(read_corpora(corpora), skipped)
    splits = dict(zip(SPLITS, choose_splits(utterances, config.train, config.valid, config.held_out), strict=True))
    if not splits["valid"]:
        raise CorpusError("a single utterance cannot be both learnt from and held out; give more recordings")
    _text(steps, texts, config)
    heard = {split: fingerprint(part) for split, part in splits.items()}
    speech = [heard, stamp(config.encoder), config.layer, config.audio.remove_silence]
    if config.audio.speaker_adaptation != "none":
        if config.kind != "1.0":
            raise ConfigError(f"--speaker-adaptation {config.audio.speaker_adaptation}: for --kind 1.0 only")
        speech.append(config.audio.speaker_adaptation)
    if config.kind == "1.0":
        _segments(steps, splits, speech, config, skipped)
    else:
        _frames(steps, splits, speech, config, skipped)
    _true_phones(steps, splits, heard, config)
    prepared_warnings = _warnings(steps, config)
    recorded = {split: {"utterances": len(part), "hours": round(sum(u.duration or 0 for u in part) / 3600, 4)}
                for split, part in splits.items()}  # fmt: skip
    steps.facts |= {"finished": True, "recorded": recorded, "warnings": prepared_warnings, "config": to_dict(config),
                    "corpora": [str(corpus.resolve()) for corpus in corpora],
                    "texts": [str(text.resolve()) for text in texts]}  # fmt: skip
    write_facts(out, steps.facts)
    if skipped:
        skipped.write_to(out / "skipped.tsv")
    return Preparation(read_prepared(out), tuple(prepared_warnings), tuple(steps.done), skipped)


def _text(steps: Steps, texts: Sequence[Path], config: PrepareConfig) -> None:
    lexicon = stamp(config.text.lexicon) if config.text.lexicon else None
    if steps.due("text", [stamp(text) for text in texts], to_dict(config.text), lexicon):
        summary: TextSummary = prepare_text(texts, steps.folder / "text", config.text, config.kind)
        steps.finish("text", text=to_dict(summary))


def _segments(
    steps: Steps, splits: dict[str, list[Utterance]], speech: list[Any], config: PrepareConfig, skipped: Skipped
) -> None:
    """Version 1.0."""
    audio, out = config.audio, steps.folder
    fitted = [
        speech,
        audio.clusters,
        audio.iterations,
        audio.restarts,
        audio.dim,
        audio.cluster_seed,
        audio.steps_per_second,
        audio.segmentation,
        "durations",  # written since they are told of changes too
    ]
    if steps.current("segments", fitted):
        return
    raw = out / "raw"
    if steps.due("features", speech, there=all(have_features(raw, split) for split in SPLITS)):
        seconds = _listen(splits, raw, digest(speech), config, skipped)
        steps.finish("features", **_amounts(raw, seconds))
    if audio.speaker_adaptation == "none":
        steps.facts.pop("speakers", None)
    else:
        raw = _adapted(steps, splits, speech, config)
    if steps.due("segments", fitted):
        features = read_features(raw, "train")
        seconds = steps.facts.get("frame_seconds", 0.02)
        segmenter = fit_segmenter(features, audio, seconds, choose_device(config.device))
        segmenter.save(out)
        for split in SPLITS:
            write_segments(read_features(raw, split), segmenter, out, split)
        steps.finish(
            "segments", dim=min(audio.dim, features.dim), encoder_dim=features.dim, clusters=audio.clusters,
            segmentation=audio.segmentation, variance_kept=float(segmenter.components.shares.sum()),
        )  # fmt: skip
    if not config.keep_raw:
        shutil.rmtree(out / "raw", ignore_errors=True)


def _adapted(steps: Steps, splits: dict[str, list[Utterance]], speech: list[Any], config: PrepareConfig) -> Path:
    """Where the raw features are after speakers were made alike."""
    raw, adapted = steps.folder / "raw", steps.folder / "raw" / "adapted"
    if steps.due("speakers", speech, config.audio.cluster_seed, there=all(have_features(adapted, s) for s in SPLITS)):
        speakers = speakers_of([utterance for part in splits.values() for utterance in part])
        features = read_features(raw, "train")
        voices = fit_voices(features, speakers, config.audio.cluster_seed)
        voices.save(steps.folder / VOICES)
        for split in SPLITS:
            with FeatureWriter(adapted, split) as writer:
                for name, values in voices.adapted(read_features(raw, split), speakers):
                    writer.add(name, values)
        steps.finish("speakers", speakers=len(by_speaker(features, speakers)))
    return adapted


def _frames(
    steps: Steps, splits: dict[str, list[Utterance]], speech: list[Any], config: PrepareConfig, skipped: Skipped
) -> None:
    """Version 2.0."""
    out, audio = steps.folder, config.audio
    if steps.due("features", speech):
        seconds = _listen(splits, out, digest(speech), config, skipped)
        dim = read_features(out, "train").dim
        steps.finish("features", dim=dim, encoder_dim=dim, **_amounts(out, seconds))
    depends = [speech, audio.mfcc_clusters, audio.iterations, audio.restarts, audio.cluster_seed]
    if steps.due("mfcc-units", depends):
        listener = Listener(config.encoder, config.layer, audio, config.device)
        write_mfcc_units(listener, splits["train"], out, audio, digest(speech))
        shutil.rmtree(out / "mfcc", ignore_errors=True)
        steps.finish("mfcc-units", mfcc_clusters=audio.mfcc_clusters)


def _listen(
    splits: dict[str, list[Utterance]], folder: Path, key: str, config: PrepareConfig, skipped: Skipped
) -> float:
    """The encoder's features of both splits; returns the seconds from one to the next."""
    audio = config.audio
    listener = Listener(config.encoder, config.layer, audio, config.device)
    for split, utterances in splits.items():
        write_speech_features(listener, utterances, folder, split, key, lambda u, why: skipped.add(u.id, why))
        if not len(read_features(folder, split)):
            raise CorpusError(
                f"none of {len(utterances)} utterances of {split} has speech that could be found; the first reasons:\n"
                f"{skipped}\nIf they do hold speech, keep the silences: --remove-silence no"
            )
    return listener.frame_seconds


def _amounts(folder: Path, frame_seconds: float) -> dict[str, Any]:
    """Utterances and hours of speech left without silences."""
    lengths = {split: read_features(folder, split).lengths for split in SPLITS}
    return {
        "utterances": {split: len(one) for split, one in lengths.items()},
        "hours": {split: round(float(one.sum()) * frame_seconds / 3600, 4) for split, one in lengths.items()},
        "frame_seconds": frame_seconds,
    }


def _true_phones(
    steps: Steps, splits: dict[str, list[Utterance]], heard: dict[str, Any], config: PrepareConfig
) -> None:
    """SPLIT.phones where the manifest has phones of the text's kind, or transcripts."""
    if not steps.due("true phones", heard, to_dict(config.text), steps.keys["text"]):
        return
    known = set(steps.facts["text"]["inventory"])
    for split, utterances in splits.items():
        path = steps.folder / f"{split}.phones"
        found = true_phones(utterances, known, config.text)
        if found:
            write_lines(path, (f"{name}\t{' '.join(phones)}" for name, phones in found.items()))
        else:
            path.unlink(missing_ok=True)
    steps.finish("true phones")


def true_phones(utterances: Sequence[Utterance], known: set[str], text: TextConfig) -> dict[str, list[str]]:
    """Phones of utterances by id: the manifest's, where they are spelt as the text's are, else of the transcripts."""
    given = {u.id: spelt for u in utterances if (spelt := transcript_of(u, "phonemes"))}
    units = {name: [unit for phone in spelt.split() if phone != BOUNDARY for unit in ipa_units(phone, text.keep_length)]
             for name, spelt in given.items()}  # fmt: skip
    total = sum(map(len, units.values()))
    if total and sum(unit in known for phones in units.values() for unit in phones) >= KNOWN_SHARE * total:
        return units
    spoken = {u.id: normalize_text(u.text) for u in utterances if u.text}
    spoken = {name: sentence for name, sentence in spoken.items() if sentence}
    try:
        if text.lexicon is not None:
            pronounced = look_up(spoken.values(), read_pronunciations(text.lexicon))
        else:
            pronounced = pronounce(spoken.values(), text.language, text.keep_length)
        return {name: [p for _, phones in found for p in phones]
                for name, found in zip(spoken, pronounced, strict=True) if found}  # fmt: skip
    except (MissingExtraError, ConfigError):
        return {}  # they would only be logged


def _warnings(steps: Steps, config: PrepareConfig) -> list[str]:
    """What makes it likely that training will not converge."""
    facts, found = steps.facts, []
    utterances, hours = facts["utterances"]["train"], facts["hours"]["train"]
    if utterances < FEW_UTTERANCES or hours < FEW_HOURS:
        found.append(
            f"{utterances} utterances with {hours:.2f} h of speech to learn from: the published runs had 3,000 "
            "utterances (TIMIT) to 100 hours and more. With so little most or all members do not converge; the verdict "
            "of `unsupervised train` says so without labels"
        )
    text = facts["text"]
    if text["sentences"] < FEW_SENTENCES:
        found.append(
            f"{text['sentences']} sentences of text: a discriminator learns so few by heart; give some ten thousand, "
            "any text of the language will do"
        )
    left = text["foreign"] + text["unpronounced"] + text["rare"]
    if left > 0.2 * (left + text["sentences"]):
        found.append(
            f"{left:,} of {left + text['sentences']:,} sentences left out: {text['foreign']:,} in another script, "
            f"{text['unpronounced']:,} that could not be pronounced, {text['rare']:,} with rare phones"
        )
    rate = len(read_features(steps.folder, "train").values) / max(1e-9, 3600 * hours)
    if facts["kind"] == "1.0" and rate > MOST_STEPS:
        found.append(
            f"{rate:.0f} steps a second, where 14 are wanted and 25 are known to fail: neighbouring frames are often "
            "in different clusters. Make the steps longer: --steps-per-second 14; or --segmentation changes; or take "
            "another layer"
        )
    if facts["kind"] == "1.0" and facts["dim"] < 512 and config.encoder != MFCC:
        found.append(
            f"segments have {facts['dim']} dimensions: the encoder's features have {facts['encoder_dim']}, and the "
            "published generators read 512"
        )
    return found


def settings_of(prepared: Prepared) -> PrepareConfig:
    """How a folder was prepared. Raises ConfigError where its facts do not say."""
    return from_dict(PrepareConfig, prepared.facts.get("config", {}), f"{prepared.folder / FACTS}: config")
