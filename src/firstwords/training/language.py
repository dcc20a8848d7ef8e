"""The language task: a Transformer learns which symbol comes next in the sentences of a text."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares, to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan, share
from firstwords.errors import ConfigError, LanguageModelError
from firstwords.models.transformer_lm import TransformerLM, TransformerLMConfig
from firstwords.text.pieces import Pieces
from firstwords.text.sentences import Spelling
from firstwords.training.config import LoopConfig, OptimizerConfig, ScheduleConfig, check_loop
from firstwords.training.loader import Loader
from firstwords.training.processes import Processes
from firstwords.training.task import Sums

IGNORED = -100
"""Target where there is nothing to foresee."""
TIE_SYMBOLS = 4
"""Sentences whose lengths differ by less count as alike when an epoch is sorted."""


@dataclass(frozen=True)
class LanguageDataConfig:
    """What the text is cut into, and what is kept for validation."""

    units: Literal["characters", "pieces"] = "characters"
    """Characters, or word pieces: fewer steps a sentence, but not for shallow fusion with letters."""
    pieces: int = 1000
    """Symbols, where units are pieces."""
    held_out: float = 0.01
    """Share of the sentences to validate on, chosen by a hash of the sentence."""
    valid_symbols: int = 200_000
    """Most symbols of a validation."""


@dataclass(frozen=True)
class LanguageTrainingConfig(LoopConfig):
    """One run of the training loop over text."""

    batch_symbols: int = 16_384
    """Symbols of one update, over all processes and micro-batches."""
    bucket_symbols: int = 4_096
    """Symbols of sentences that share a length; padding is small where buckets are."""
    micro_batch_symbols: int = 16_384
    """Most symbols in one forward pass of one process; lower it to fit memory, it changes no gradient."""


@dataclass(frozen=True)
class LanguageConfig:
    """A run that trains a language model, as a recipe describes it."""

    model: TransformerLMConfig = field(default_factory=TransformerLMConfig)
    """The network."""
    data: LanguageDataConfig = field(default_factory=LanguageDataConfig)
    """What it reads."""
    training: LanguageTrainingConfig = LanguageTrainingConfig(
        schedule=ScheduleConfig(kind="linear", peak=1e-3, warmup=0.05),
        optimizer=OptimizerConfig(epsilon=1e-8, weight_decay=0.01, clip_norm=1.0),
    )
    """How much at a time, how fast."""
    steps: int = 2000
    """Updates."""
    seed: int = 1
    """Of weights, order and dropout."""


def check_language(config: LanguageConfig) -> None:
    """Raises ConfigError for settings that no run can have."""
    check_loop(config.training, config.steps, config.seed)
    for name in ("batch_symbols", "bucket_symbols", "micro_batch_symbols"):
        if getattr(config.training, name) < 1:
            raise ConfigError(f"training: {name} must be at least 1, found {getattr(config.training, name)}")
    check_shares("data", config.data, "held_out")
    if config.data.held_out == 1:
        raise ConfigError("data: held_out is 1, which leaves nothing to learn from")


@dataclass
class LanguageBatch:
    """Sentences side by side."""

    inputs: Tensor
    """(B, T) symbols, beginning with the mark before a sentence or, in a later part of it, the symbol before."""
    targets: Tensor
    """(B, T) the symbols that follow, ending with the mark after a sentence; IGNORED beyond."""


class Sentences:
    """Sentences as symbols in one array, and the parts of at most `context` symbols that are learnt at once."""

    def __init__(self, sentences: Sequence[str], pieces: Pieces, context: int) -> None:
        symbols: list[np.ndarray] = []
        begins, ends = [], []
        place = 0
        for sentence in sentences:
            one = np.array([0, *pieces.encode(sentence), 0], dtype=np.int32)
            symbols.append(one)
            for begin in range(0, len(one) - 1, context):
                begins.append(place + begin)
                ends.append(min(place + begin + context, place + len(one) - 1))
            place += len(one)
        self.symbols = np.concatenate(symbols) if symbols else np.zeros(0, np.int32)
        self.begins, self.ends = np.array(begins, np.int64), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) targets of each part."""
        return self.ends - self.begins

    def batch(self, members: np.ndarray) -> LanguageBatch:
        longest = int(self.lengths[members].max())
        inputs = torch.zeros(len(members), longest, dtype=torch.long)
        targets = torch.full((len(members), longest), IGNORED)
        for row, member in enumerate(members):
            part = torch.from_numpy(self.symbols[self.begins[member] : self.ends[member] + 1])
            inputs[row, : len(part) - 1] = part[:-1]
            targets[row, : len(part) - 1] = part[1:]
        return LanguageBatch(inputs, targets)


class LanguageModelling:
    """The language task of the loop.

    Args:
        config: the run's configuration.
        sentences: to learn from and validate on.
        spelling: how they were spelt, for the record.

    Raises:
        LanguageModelError: no sentences.
    """

    kind = "language"
    best_is_low = "bits_per_character"
    unit = "symbols"

    def __init__(
        self, config: LanguageConfig, sentences: Iterable[str], spelling: Spelling, processes: Processes
    ) -> None:
        self.settings = config
        self.processes = processes
        self.spelling = spelling
        learnt, held_out = hold_out(list(sentences), config.data.held_out)
        if config.data.units == "pieces" and spelling.units == "characters":
            self.pieces = Pieces.learn(learnt, config.data.pieces)
        else:
            self.pieces = Pieces.characters(learnt, separated=spelling.units == "phonemes")
        torch.manual_seed(config.seed)
        self.model = TransformerLM(config.model, len(self.pieces))
        self.training = Sentences(learnt, self.pieces, config.model.context)
        self.validation = Sentences(held_out, self.pieces, config.model.context)
        self._characters = torch.tensor(self.pieces.lengths(), dtype=torch.double)
        sizes = config.training
        plan = UpdatePlan(
            self.training.lengths, sizes.batch_symbols, sizes.bucket_symbols, False, config.seed, TIE_SYMBOLS
        )
        self.loader = Loader(
            plan, self._load, sizes.micro_batch_symbols, processes.rank, processes.count, sizes.workers
        )

    def facts(self) -> dict[str, Any]:
        """What a continued run must find again."""
        digest = hashlib.sha256(self.training.symbols.tobytes() + self.validation.symbols.tobytes())
        counts = {
            "sentences": int((self.training.symbols == 0).sum()) // 2,
            "symbols": int(self.training.lengths.sum()),
        }
        return counts | {"hash": digest.hexdigest()[:16]}

    def _load(self, bucket: Bucket, update: int) -> LanguageBatch:
        return self.training.batch(bucket.members)

    def count(self, batches: list[LanguageBatch]) -> Tensor:
        """Symbols to foresee, twice: they divide the loss, and they are what was read."""
        symbols = float(sum(int((batch.targets != IGNORED).sum()) for batch in batches))
        return torch.tensor([symbols, symbols], dtype=torch.double)

    def survey(self, batches: list[LanguageBatch], update: int, counts: Tensor, lacking: bool = False) -> None:
        """A part's loss needs nothing of the others."""

    def loss(
        self, module: nn.Module, batch: LanguageBatch, update: int, counts: Tensor, whole: None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean of a symbol's cross-entropy."""
        device = self.processes.device
        logits = module(batch.inputs.to(device))
        total = F.cross_entropy(
            logits.flatten(0, 1).float(), batch.targets.flatten().to(device), ignore_index=IGNORED, reduction="sum"
        )
        there = batch.targets[batch.targets != IGNORED]
        sums: Sums = {
            "nats": total.double(),
            "symbols": torch.tensor(len(there), dtype=torch.double),
            "characters": self._characters[there].sum(),
        }
        return total / float(counts[0]), sums

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        nats, symbols = float(sums["nats"]), max(1.0, float(sums["symbols"]))
        return {
            "bits_per_character": nats / math.log(2) / max(1.0, float(sums["characters"])),
            "perplexity": math.exp(min(nats / symbols, 50.0)),
        }

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        text = f"loss {figures['bits_per_character']:.3f} bits per character"
        if self.settings.data.units == "pieces":
            text += f"  perplexity {figures['perplexity']:.1f} per piece"
        return text

    def validate(self, update: int) -> dict[str, float]:
        """The loss on held-out sentences."""
        if not len(self.validation):
            return {}
        totals: Sums = {}
        chosen = np.flatnonzero(np.cumsum(self.validation.lengths) <= self.settings.data.valid_symbols)
        chosen = chosen if len(chosen) else np.arange(1)
        sizes = self.settings.training
        plan = UpdatePlan(
            self.validation.lengths[chosen], sizes.bucket_symbols, sizes.bucket_symbols, False, 0, TIE_SYMBOLS
        )
        for buckets in plan.epoch(0):
            for bucket in share(buckets, sizes.micro_batch_symbols):
                batch = self.validation.batch(chosen[bucket.members])
                _, sums = self.loss(self.model, batch, update, torch.ones(1), None)
                totals = {name: totals.get(name, 0) + value.cpu() for name, value in sums.items()}
        return self.describe(totals)

    def examples(self) -> list[str]:
        """The loss says it all."""
        return []

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """No illness that the loss does not show."""
        return "healthy", None

    def state(self) -> dict[str, Any]:
        """The symbols, and how texts are spelt."""
        return {"pieces": self.pieces.to_dict(), "spelling": to_dict(self.spelling)}

    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        return to_dict(self.settings.model)


def hold_out(sentences: Sequence[str], portion: float) -> tuple[list[str], list[str]]:
    """Sentences to learn from and to validate on; equal sentences are on the same side, whatever else there is.

    Raises:
        LanguageModelError: no sentences.
    """
    if not sentences:
        raise LanguageModelError("the text is empty: no sentence to learn from")
    ranks = {sentence: zlib.crc32(sentence.encode("utf-8", "surrogatepass")) for sentence in sentences}
    if portion == 0 or len(ranks) == 1:
        return list(sentences), []
    limit = max(int(portion * 2**32), min(ranks.values()))
    if limit >= max(ranks.values()):  # a few sentences only: something must be learnt from
        limit = min(ranks.values())
    learnt = [sentence for sentence in sentences if ranks[sentence] > limit]
    return learnt, [sentence for sentence in sentences if ranks[sentence] <= limit]
