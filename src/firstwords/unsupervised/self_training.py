"""`firstwords unsupervised self-train`: HMMs, then a recogniser, learn from what was decoded (wav2vec-U, 4.4).

The chosen member's phones train HMMs on features frame by frame; the HMMs' phones are better, and train the next HMMs;
these read words; the words train the encoder itself with CTC, on recordings with their silences. No step sees a label.
Each is judged without labels, and beside it, where a manifest has transcripts, its error rates are logged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from firstwords.commands import finetune
from firstwords.config import to_dict
from firstwords.corpus.feature_store import Features, FeatureWriter, have_features, read_features, write_lines
from firstwords.corpus.manifest import MANIFEST_NAME, write_manifest
from firstwords.corpus.prepared import SILENCE, SPLITS, Prepared
from firstwords.corpus.utterance import Utterance
from firstwords.decoding.options import DecoderConfig
from firstwords.errors import ConfigError, CorpusError
from firstwords.nn.pca import fit_pca
from firstwords.recognizer import Recognizer
from firstwords.report.preparation import Stage
from firstwords.text.normalization import normalize_text
from firstwords.text.phonemes import look_up, pronounce, read_pronunciations
from firstwords.training.data import Skipped, read_corpora, with_durations
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.hmm import HMMConfig, TrainedHMM, log_posteriors, train_hmm
from firstwords.training.phone_choice import Judgement, PhoneJudge
from firstwords.training.run import BEST
from firstwords.unsupervised.cepstra import MFCC
from firstwords.unsupervised.decode import (
    Decoded,
    Emissions,
    PhoneModel,
    ReadingConfig,
    emissions_of,
    labelled,
    read_emissions,
)
from firstwords.unsupervised.prepare import settings_of, true_phones
from firstwords.unsupervised.readings import error_rate
from firstwords.unsupervised.steps import read_steps, stamp

FACTS = "self-training.json"
FRAME_SECONDS = 0.02
"""From one of the HMM's frames to the next, as wav2vec 2.0's features come."""
CTC_UNITS = Literal["letters", "phones", "none"]


@dataclass(frozen=True)
class SelfTrainConfig:
    """What is done with a sweep's chosen member."""

    utterances: int = 0
    """Training utterances that are read and learnt from, spread over all of them; 0: all. Kaldi's stages in wav2vec-U
    begin with 2,000."""
    rounds: int = 2
    """HMMs, each learning from what the one before reads. Source: Kaldi's stages in wav2vec-U."""
    word_rounds: int = 1
    """HMMs after them that learn from the words read, spelt in phones. Ours: docs/results/unsupervised.md."""
    hmm: HMMConfig = field(default_factory=HMMConfig)
    scale: float = 0.1
    """Of the HMM's log densities. Source: Kaldi searches 1/7 to 1/17."""
    beam: int = 50
    """Hypotheses kept at each step."""
    encoder: str = ""
    """What is fine-tuned: a run, a checkpoint, a model of others. Empty: the encoder that was prepared with."""
    ctc: CTC_UNITS = "letters"
    """What the recogniser writes: letters of the words read, phones, or no recogniser."""
    processes: int | None = None
    """Processes that decode; without it one for each core."""

    def check(self, prepared_with: str) -> None:
        """Raises ConfigError.

        Args:
            prepared_with: the encoder of the prepared folder.
        """
        self.hmm.check()
        if self.ctc != "none" and not self.encoder and prepared_with == MFCC:
            raise ConfigError(
                "cepstra cannot be fine-tuned: name an encoder for the recogniser (--encoder RUN of self-train, "
                "--self-train.encoder RUN of run), or leave the recogniser out (--ctc none, --self-train.ctc none)"
            )
        if min(self.utterances, self.rounds, self.word_rounds) < 0 or self.beam < 1:
            raise ConfigError("self-training: utterances, rounds and word_rounds must not be below 0, nor beam below 1")


def self_train(
    run: Path,
    corpora: Sequence[Path],
    out: Path,
    config: SelfTrainConfig,
    recognizer: FinetuneConfig,
    prepared: Path | None = None,
    device: str = "auto",
) -> tuple[list[Stage], int]:
    """Self-training from a sweep's run; steps that are done are not done again.

    Args:
        run: of `unsupervised train`.
        corpora: those that were prepared: their recordings are heard whole by the recogniser.
        out: a folder for labels, HMMs and the recogniser (ctc/).
        recognizer: how the encoder is fine-tuned.
        prepared: the prepared folder, where it is no longer where training found it.

    Returns:
        The table, on the valid split, and 0, or 128 + n when signal n stopped the fine-tuning (the same call goes on).

    Raises:
        FirstwordsError: whatever keeps a step from being done.
    """
    model = PhoneModel(run, prepared, device)
    config.check(settings_of(model.prepared).encoder)
    work = _Work(model, out, config, utterances_of(model.prepared, corpora))
    stages = [work.stage("generator, greedy", work.generator("greedy"))]
    labels = work.generator("phones")
    stages.append(work.stage("generator, phone model", labels))
    depends: list[Any] = [stamp(run / BEST if run.is_dir() else run), stamp(model.prepared.folder / "train.npy"),
                          to_dict(config.hmm), config.scale, config.beam, config.utterances]  # fmt: skip
    trained: TrainedHMM | None = None
    for number in range(1, config.rounds + 1):
        trained = work.hmm(number, labels, [*depends, number])
        labels = work.read(trained, "phones", f"hmm{number}", [*depends, number])
        stages.append(work.stage(f"HMM {number}, phone model", labels))
    words = labels
    if trained is not None:
        words = work.read(trained, "words", "words", [*depends, config.rounds, "words"])
        stages.append(work.stage("HMM, words", words))
        for number in range(config.rounds + 1, config.rounds + config.word_rounds + 1):
            trained = work.hmm(number, words, [*depends, config.rounds, number, "words"])
            words = work.read(trained, "words", f"words{number}", [*depends, config.rounds, number, "words"])
            stages.append(work.stage(f"HMM {number} from words, words", words))
    write_table(out, stages)
    if config.ctc != "none":
        stages += work.ctc(words if config.ctc == "letters" else labels, recognizer, device)
        write_table(out, stages)
    return stages, work.code


def write_table(out: Path, stages: Sequence[Stage]) -> None:
    """Keeps how each step does in table.json; figures of a step that said nothing are infinite, null there."""
    rows = [
        {name: None if value in (math.inf, -math.inf) else value for name, value in to_dict(stage).items()}
        for stage in stages
    ]
    write_lines(out / "table.json", [json.dumps(rows, indent=1)])


def utterances_of(prepared: Prepared, corpora: Sequence[Path]) -> dict[str, Utterance]:
    """The prepared utterances by id."""
    found = {u.id: u for u in with_durations(read_corpora(corpora), Skipped())}
    lacking = [name for split in SPLITS for name in prepared.features(split).ids if name not in found]
    if lacking:
        raise CorpusError(
            f"{', '.join(map(str, corpora))}: {len(lacking)} utterances of {prepared.folder} are not in it, such as "
            f"{lacking[0]}; name the corpora that were prepared"
        )
    return found


class _Work:
    """The folder of a self-training and what its steps share."""

    def __init__(self, model: PhoneModel, out: Path, config: SelfTrainConfig, utterances: dict[str, Utterance]) -> None:
        self.model, self.prepared, self.out, self.config = model, model.prepared, out, config
        self.utterances = utterances
        self.code = 0
        out.mkdir(parents=True, exist_ok=True)
        self.steps = read_steps(out, FACTS)
        self.judge = PhoneJudge(self.prepared.sentences(), self.prepared.phones, SILENCE)
        settings = settings_of(self.prepared)
        self.text, self.adapted = settings.text, settings.audio.speaker_adaptation != "none"
        heard = [utterances[name] for name in self.prepared.valid.ids]
        self.truth = true_phones(heard, set(self.prepared.phones), self.text)
        self.texts = {u.id: normalize_text(u.text).split() for u in heard if u.text}

    def reading(self, read: Literal["greedy", "phones", "words"]) -> ReadingConfig:
        return ReadingConfig(read, beam=self.config.beam, processes=self.config.processes)

    def generator(self, read: Literal["greedy", "phones"]) -> dict[str, Decoded]:
        """What the chosen member hears in both splits."""
        rate = self.model.rate(read)
        name = f"generator-{read}"
        if self.steps.due(name, stamp(self.model.prepared.folder / "train.npy"), read, self.config.beam,
                          self.config.utterances, self._run_key(), there=self._have(name)):  # fmt: skip
            self._read_splits(name, read, {one: self._some(one, self.prepared.features(one, rate)) for one in SPLITS},
                              lambda features: emissions_of(self.model, features, read))  # fmt: skip
            self.steps.finish(name)
        return self._labels(name)

    def _run_key(self) -> Any:
        return [float(value.double().abs().sum()) for value in self.model.model.state_dict().values()]

    def hmm(self, number: int, labels: dict[str, Decoded], depends: list[Any]) -> TrainedHMM:
        """HMMs that learn from labels of the training split."""
        folder = self.out / f"hmm{number}"
        name = f"train-hmm{number}"
        if self.steps.due(name, depends, self._run_key(), there=(folder / "front.safetensors").is_file()):
            features = self.frames("train")
            said = [labels["train"].phones.get(one, []) for one in features.ids]
            train_hmm(features, said, self.prepared.phones, self.config.hmm, not self.adapted).save(folder)
            self.steps.finish(name)
        return TrainedHMM.load(folder)

    def frames(self, split: str) -> Features:
        """Principal components of frames, one in 20 ms; where the prepared folder has others, they are made here."""
        every = max(1, round(FRAME_SECONDS / self.prepared.frame_seconds))
        if self.prepared.kind == "1.0" and every == 1:
            return self._some(split, self.prepared.features(split, "frames"))
        folder = self.out / "frames"
        source = self.prepared.folder / ("frames" if self.prepared.kind == "1.0" else ".") / "train.npy"
        there = all(have_features(folder, one) for one in SPLITS)
        if self.steps.due("frames", stamp(source), self.config.hmm.dim, every, there=there):
            components = None
            if self.prepared.kind == "2.0":
                dim = min(self.config.hmm.dim, self.prepared.train.dim)
                components = fit_pca(self.prepared.train.values, dim)
            for one in SPLITS:
                found = self.prepared.features(one, "frames")
                with FeatureWriter(folder, one) as writer:
                    for name, raw in zip(found.ids, found, strict=True):
                        values = torch.from_numpy(np.array(raw[::every]))
                        writer.add(name, (components.apply(values) if components else values).numpy())
            self.steps.finish("frames")
        return self._some(split, read_features(folder, split))

    def _some(self, split: str, features: Features) -> Features:
        """Of the training split as many utterances as are asked for, in memory; else the features as they are."""
        most = self.config.utterances
        if split != "train" or not 0 < most < len(features):
            return features
        chosen = np.linspace(0, len(features) - 1, most).round().astype(int)
        return Features(
            np.concatenate([features[n] for n in chosen]),
            features.lengths[chosen],
            tuple(features.ids[n] for n in chosen),
        )

    def read(
        self, trained: TrainedHMM, read: Literal["phones", "words"], name: str, depends: list[Any]
    ) -> dict[str, Decoded]:
        """What HMMs hear in both splits."""
        if self.steps.due(f"read-{name}", depends, self._run_key(), there=self._have(name)):
            self._read_splits(
                name, read, {split: self.frames(split) for split in SPLITS},
                lambda features: Emissions(features, lambda one: log_posteriors(trained, one, self.config.scale)),
            )  # fmt: skip
            self.steps.finish(f"read-{name}")
        return self._labels(name)

    def _read_splits(self, name: str, read: Any, features: dict[str, Features], emissions: Any) -> None:
        """Weights are tuned on the valid split, once for both."""
        reading = self.reading(read)
        for split in reversed(SPLITS):
            found = read_emissions(self.prepared, features[split].ids, emissions(features[split]), reading)
            if found.settings is not None:
                reading = ReadingConfig(read, None, None, found.settings.lm_weight, found.settings.word_score,
                                        self.config.beam, self.config.processes)  # fmt: skip
                self.steps.facts.setdefault("weights", {})[name] = [reading.lm_weight, reading.word_score]
            self._keep(name, split, found)

    def _keep(self, name: str, split: str, found: Decoded) -> None:
        lines = (
            f"{one}\t{' '.join(phones)}" + ("" if found.words is None else f"\t{' '.join(found.words[one])}")
            for one, phones in found.phones.items()
        )
        write_lines(self.out / "labels" / f"{name}.{split}.tsv", lines)

    def _have(self, name: str) -> bool:
        return all((self.out / "labels" / f"{name}.{split}.tsv").is_file() for split in SPLITS)

    def _labels(self, name: str) -> dict[str, Decoded]:
        found = {}
        for split in SPLITS:
            path = self.out / "labels" / f"{name}.{split}.tsv"
            rows = [line.split("\t") for line in path.read_text("utf-8", "surrogateescape").split("\n")[:-1]]
            words = {row[0]: row[2].split() for row in rows} if all(len(row) > 2 for row in rows) else None
            found[split] = Decoded({row[0]: row[1].split() for row in rows}, words, None)
        return found

    def stage(self, name: str, labels: dict[str, Decoded]) -> Stage:
        """A row of the table, of the valid split."""
        valid = labels["valid"]
        judged: Judgement = self.judge.judge([valid.phones[one] for one in self.prepared.valid.ids], 0)
        per = error_rate(self.truth, valid.phones)
        wer = error_rate(self.texts, valid.words) if valid.words else None
        return Stage(name, judged.perplexity, judged.used, judged.fluency, per, wer, judged.balance)

    def ctc(self, labels: dict[str, Decoded], recipe: FinetuneConfig, device: str) -> list[Stage]:
        """The encoder, fine-tuned on what was read, on recordings with their silences."""
        folder = self.out / "pseudo"
        lines = [
            line for split in SPLITS
            for line in labelled(labels[split], [self.utterances[n] for n in labels[split].phones], split)
        ]  # fmt: skip
        write_manifest(lines, folder / MANIFEST_NAME)
        source = self.config.encoder or settings_of(self.prepared).encoder
        # Readings of the valid split may hold a character ("15") that those of the training split do not.
        recipe = replace(recipe, text=replace(recipe.text, unknown="drop"))
        if code := finetune([folder], source, self.out / "ctc", recipe):
            self.code = code
            return []
        rows = [("CTC, greedy", DecoderConfig())]
        if recipe.text.units == "characters":
            rows.append(("CTC, word model", DecoderConfig(lm=self.prepared.word_model, unspellable="skip")))
        return [self._heard(name, decoder, device) for name, decoder in rows]

    def _heard(self, name: str, decoder: DecoderConfig, device: str) -> Stage:
        """What the recogniser writes of the valid split."""
        recognizer = Recognizer.load(self.out / "ctc", device, lm=decoder)
        wanted = [self.utterances[one] for one in self.prepared.valid.ids]
        texts = {found.id: found.text for found in recognizer.stream(wanted, skip=lambda *_: None)}
        if recognizer.alphabet.units == "phonemes":
            phones = {one: [p for p in text.split() if p != "|"] for one, text in texts.items()}
            words = None
        else:
            words = {one: text.split() for one, text in texts.items()}
            phones = self._pronounced(words)
        complete = {one: phones.get(one, []) for one in self.prepared.valid.ids}
        said = None if words is None else {one: words.get(one, []) for one in self.prepared.valid.ids}
        heard = Decoded(complete, said, None)
        self._keep(name.lower().replace(", ", "-").replace(" ", "-"), "valid", heard)
        return self.stage(name, {"valid": heard})

    def _pronounced(self, words: dict[str, list[str]]) -> dict[str, list[str]]:
        """Phones of words, as the text was spelt in them."""
        spoken = {one: " ".join(text) for one, text in words.items() if text}
        if self.text.lexicon is not None:
            found = look_up(spoken.values(), read_pronunciations(self.text.lexicon))
        else:
            found = pronounce(spoken.values(), self.text.language, self.text.keep_length)
        return {one: [p for _, phones in said for p in phones]
                for one, said in zip(spoken, found, strict=True) if said}  # fmt: skip
