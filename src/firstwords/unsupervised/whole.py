"""`firstwords unsupervised run`: prepare, train, decode, self-train, one after another, with a page about it all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from firstwords.config import to_dict
from firstwords.corpus.feature_store import write_lines
from firstwords.corpus.prepared import SPLITS, Prepared, read_prepared
from firstwords.errors import ConfigError, CorpusError
from firstwords.report.preparation import Stage, print_preparation, print_stages
from firstwords.training.adversarial_config import AdversarialConfig, check_adversarial
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.run import BEST
from firstwords.training.signals import Interrupted, interrupting
from firstwords.unsupervised.decode import (
    PhoneModel,
    ReadingConfig,
    check_reading,
    emissions_of,
    prepared_features,
    rates_of,
    read_emissions,
    write_decoded,
)
from firstwords.unsupervised.prepare import PrepareConfig, prepare
from firstwords.unsupervised.report import Places, conclusion, find_truth, leave_report, read_stages
from firstwords.unsupervised.self_training import SelfTrainConfig, self_train, utterances_of
from firstwords.unsupervised.steps import read_steps, stamp
from firstwords.unsupervised.train import check_kind, train_unsupervised

FACTS = "run.json"
PREPARED, GAN, DECODED, WORDS = "prepared", "gan", "decoded.jsonl", "words"
"""What lies in the folder, beside the page."""


@dataclass(frozen=True)
class WholeConfig:
    """The settings of all four steps."""

    prepare: PrepareConfig
    gan: AdversarialConfig
    recognizer: FinetuneConfig
    """How self-training fine-tunes the encoder."""
    decode: ReadingConfig = field(default_factory=ReadingConfig)
    self_train: SelfTrainConfig = field(default_factory=SelfTrainConfig)
    anyway: bool = False
    """Decode and self-train even where the sweep says that it did not converge."""
    device: str = "auto"
    """"auto", "cpu" or "cuda"; for steps that have settings of their own, where these say "auto"."""


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    code: int
    """0, or 128 + n when signal n stopped it: the same call goes on."""
    report: Path | None
    """The page."""
    verdict: str | None
    """In words; None where no member was judged yet."""
    stages: Sequence[Stage]


def run_unsupervised(corpora: Sequence[Path], texts: Sequence[Path], out: Path, config: WholeConfig) -> Outcome:
    """The four steps into one folder; what is done and has not changed is not done again.

    Into `out` come prepared/, gan/ (the sweep), decoded.jsonl (what its chosen member reads in the prepared
    recordings), words/ (self-training; the recogniser in words/ctc) and report.html, which is also written where a
    step is stopped or fails. A sweep that says that it did not converge ends it, unless `config.anyway`.

    Args:
        corpora: corpus folders or manifests.
        texts: sentences, a line each.
        out: the folder.

    Raises:
        FirstwordsError: settings that cannot be (before anything is done), or whatever keeps a step from its work.
    """
    config = _checked(config, out)
    whole = _Whole(list(corpora), list(texts), out, config)
    with interrupting():
        try:
            code = whole.steps()
        except KeyboardInterrupt as stop:
            code = 128 + (stop.number if isinstance(stop, Interrupted) else 2)
            whole.console.print(f"stopped while it was to {whole.doing}", style="bold")
        finally:
            page = leave_report(out, whole.places())
    if code:
        whole.console.print("the same command goes on from there", style="bold")
    return Outcome(code, page, whole.verdict(), read_stages(out / WORDS))


def _checked(config: WholeConfig, out: Path) -> WholeConfig:
    """The settings with one device for all; what can be wrong with them is told before hours of work."""
    config.prepare.audio.check()
    config.prepare.text.check()
    check_adversarial(config.gan)
    check_kind(config.gan, config.prepare.kind, "--kind")
    check_reading(config.decode)
    config.self_train.check(config.prepare.encoder)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: a file; --out names a folder")
    known = {PREPARED, GAN, DECODED, WORDS}
    if out.is_dir() and any(out.iterdir()) and not known & {path.name for path in out.iterdir()}:
        raise CorpusError(f"{out}: not empty, and no run of `firstwords unsupervised run`; choose another --out")
    if config.device == "auto":
        return config
    gan, recognizer = config.gan, config.recognizer
    if gan.device == "auto":
        gan = replace(gan, device=config.device)
    if recognizer.training.device == "auto":
        recognizer = replace(recognizer, training=replace(recognizer.training, device=config.device))
    return replace(config, prepare=replace(config.prepare, device=config.device), gan=gan, recognizer=recognizer)


class _Whole:
    """The folder, and what its steps share."""

    def __init__(self, corpora: list[Path], texts: list[Path], out: Path, config: WholeConfig) -> None:
        self.corpora, self.texts, self.out, self.config = corpora, texts, out, config
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.doing = ""

    def places(self) -> Places:
        return Places(self.out / PREPARED, self.out / GAN, self.out / WORDS, self.out / DECODED)

    def verdict(self) -> str | None:
        """Of all that is there."""
        return conclusion(self._judged().get("text"), read_stages(self.out / WORDS))

    def steps(self) -> int:
        """0, or 128 + n where a training was stopped by signal n."""
        self._begin(1, "prepare")
        prepared = self._prepare()
        self._begin(2, "train")
        if code := train_unsupervised(prepared.folder, self.out / GAN, self.config.gan):
            return code
        leave_report(self.out, self.places())
        if self._judged().get("converged") is False and not self.config.anyway:
            self.console.print(
                "nothing is built on a sweep that did not converge: decoding and self-training are left out "
                "(--anyway does them)", style="bold yellow",
            )  # fmt: skip
            return 0
        self._begin(3, "decode")
        self._decode()
        self._begin(4, "self-train")
        stages, code = self_train(
            self.out / GAN, self.corpora, self.out / WORDS, self.config.self_train, self.config.recognizer,
            prepared.folder, self.config.device,
        )  # fmt: skip
        print_stages(stages, self.console)
        return code

    def _begin(self, number: int, step: str) -> None:
        self.doing = step
        self.console.print(f"{number} of 4: {step}", style="bold")

    def _judged(self) -> dict[str, Any]:
        """The sweep's verdict."""
        if not (self.out / GAN / BEST).is_file():
            return {}
        return PhoneModel(self.out / GAN, self.out / PREPARED, "cpu").facts.get("verdict") or {}

    def _prepare(self) -> Prepared:
        found = prepare(self.corpora, self.texts, self.out / PREPARED, self.config.prepare)
        print_preparation(found.prepared, found.done, self.console)
        if found.skipped:
            self.console.print(str(found.skipped))
        for warning in found.warnings:
            self.console.print(f"note: {warning}", style="yellow")
        find_truth(found.prepared)
        return found.prepared

    def _decode(self) -> None:
        """What the chosen member reads in all that was prepared, into decoded.jsonl."""
        steps = read_steps(self.out, FACTS)
        prepared, reading, path = read_prepared(self.out / PREPARED), self.config.decode, self.out / DECODED
        models = [stamp(one) for one in (reading.lm, reading.lexicon) if one is not None]
        if not steps.due("decode", prepared.facts["steps"], stamp(self.out / GAN / BEST), to_dict(reading), models,
                         there=path.is_file()):  # fmt: skip
            self.console.print(f"{path}: up to date")
            return
        model = PhoneModel(self.out / GAN, self.out / PREPARED, self.config.device)
        by_id = utterances_of(prepared, self.corpora)
        chosen = [by_id[name] for split in SPLITS for name in prepared.features(split).ids]
        features = prepared_features(prepared, chosen, model.rate(reading.read))
        assert features is not None  # all of them are prepared
        decoded = read_emissions(prepared, features.ids, emissions_of(model, features, reading.read), reading)
        lines = io.StringIO()
        write_decoded(decoded, chosen, lines, "jsonl")
        write_lines(path, lines.getvalue().splitlines())
        steps.finish("decode")
        held_out = [by_id[name] for name in prepared.valid.ids]
        phones = {name: decoded.phones[name] for name in prepared.valid.ids}
        words = None if decoded.words is None else {name: decoded.words[name] for name in prepared.valid.ids}
        rates = rates_of(prepared, held_out, replace(decoded, phones=phones, words=words))
        known = [
            f"{name} {rate:.1%}" for name, rate in (("PER", rates.phones), ("WER", rates.words)) if rate is not None
        ]
        self.console.print(
            f"{path}: {len(chosen):,} utterances" + (f"; valid split: {', '.join(known)}" if known else "")
        )
