"""The code task: BERT learns to foretell masked spans of codes from the codes around them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares, to_dict
from firstwords.corpus.batches import Bucket, UpdatePlan, share
from firstwords.errors import ConfigError, CorpusError
from firstwords.models.code_bert import (
    END,
    ENDS,
    PAD,
    SPECIALS,
    START,
    UNKNOWN,
    CodeBert,
    CodeBertConfig,
    CodeVocabulary,
    windows,
)
from firstwords.nn.token_masking import TokenMaskConfig, draw_token_mask, replace_tokens
from firstwords.training.config import LoopConfig, ScheduleConfig, check_loop
from firstwords.training.loader import Loader
from firstwords.training.processes import Processes
from firstwords.training.task import Sums

VALIDATION_SEED = 1_000_003
"""Masks of validation are the same in every run of the same data."""
AT_CHANCE = 0.985
"""Share of the loss of frequencies alone above which nothing has been learnt."""


@dataclass(frozen=True)
class CodeDataConfig:
    """Which codes are tokens, and what is kept for validation."""

    held_out: float = 0.01
    """Share of the utterances to validate on, chosen by a hash of the id."""
    min_count: int = 1
    """Combinations of codes that occur less often become <unk>. Source: vq-wav2vec, all that occur are tokens."""
    valid_tokens: int = 200_000
    """Most tokens of a validation."""


@dataclass(frozen=True)
class CodeTrainingConfig(LoopConfig):
    """One run of the training loop over codes."""

    batch_tokens: int = 393_216
    """Tokens of one update, over all processes and micro-batches: 128 GPUs x 3072. Source: vq-wav2vec section 5.2."""
    bucket_tokens: int = 32_768
    """Tokens of blocks that share a length; padding is small where buckets are."""
    micro_batch_tokens: int = 16_384
    """Most tokens in one forward pass of one process; lower it to fit memory, it changes no gradient."""


@dataclass(frozen=True)
class CodePretrainConfig:
    """A run that trains BERT over codes, as a recipe describes it."""

    model: CodeBertConfig = field(default_factory=CodeBertConfig)
    """The network."""
    mask: TokenMaskConfig = field(default_factory=TokenMaskConfig)
    """Which tokens are hidden."""
    data: CodeDataConfig = field(default_factory=CodeDataConfig)
    """Which codes."""
    training: CodeTrainingConfig = CodeTrainingConfig(schedule=ScheduleConfig(peak=1e-5, warmup=0.04))
    """How much at a time, how fast."""
    steps: int = 250_000
    """Updates. Source: vq-wav2vec section 5.2."""
    seed: int = 1
    """Of weights, order, masks and dropout."""
    chance_patience: int = 20_000
    """Updates after which a loss no better than that of frequencies alone means that the run is stuck."""


def check_codes(config: CodePretrainConfig) -> None:
    """Raises ConfigError for settings that no run can have."""
    check_loop(config.training, config.steps, config.seed)
    for name in ("batch_tokens", "bucket_tokens", "micro_batch_tokens"):
        if getattr(config.training, name) < 1:
            raise ConfigError(f"training: {name} must be at least 1, found {getattr(config.training, name)}")
    check_shares("data", config.data, "held_out")
    if config.data.min_count < 1 or config.data.valid_tokens < 1:
        raise ConfigError("data: min_count and valid_tokens must be at least 1")


@dataclass
class CodeBatch:
    """Blocks side by side, with all random choices made."""

    tokens: Tensor
    """(B, T) what the network reads."""
    lengths: Tensor
    """(B,) valid tokens."""
    scored: Tensor
    """(P,) hidden positions, numbered b * T + t."""
    targets: Tensor
    """(P,) the tokens there."""


class CodePrediction:
    """Masked codes as a Task of the loop.

    Args:
        config: the run's configuration.
        training, validation: codes (T, G) of each utterance.

    Raises:
        CorpusError: no codes to learn from.
    """

    kind = "code-bert"
    best_is_low = "bits"
    unit = "symbols"

    def __init__(
        self,
        config: CodePretrainConfig,
        training: Sequence[np.ndarray],
        validation: Sequence[np.ndarray],
        processes: Processes,
    ) -> None:
        if not sum(map(len, training)):
            raise CorpusError("there are no codes to learn from")
        self.settings = config
        self.processes = processes
        self.vocabulary = CodeVocabulary.learn(training, config.data.min_count)
        torch.manual_seed(config.seed)
        self.model = CodeBert(config.model, len(self.vocabulary))
        self.training = self._packed(training)
        self.validation = self._packed(validation)
        self.unigram_bits = self._unigram_bits()
        self._verdict = "healthy"
        sizes = config.training
        plan = UpdatePlan(
            lengths_of(self.training), sizes.batch_tokens, sizes.bucket_tokens, False, config.seed, self._tie()
        )
        self.loader = Loader(plan, self._load, sizes.micro_batch_tokens, processes.rank, processes.count, sizes.workers)

    def _packed(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        tokens = [self.vocabulary.encode(torch.from_numpy(codes)).numpy() for codes in sequences]
        return pack(tokens, self.settings.model.positions)

    def _tie(self) -> int:
        """Blocks are nearly full: those whose lengths differ by an eighth of it at most may stand in one batch."""
        return max(1, self.settings.model.positions // 8)

    def _unigram_bits(self) -> float:
        """Entropy of the training tokens: the loss of who knows how frequent each combination is, and nothing else."""
        tokens = np.concatenate(self.training)
        counts = np.bincount(tokens[tokens >= len(SPECIALS)])
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log2(shares)).sum())

    def facts(self) -> dict[str, Any]:
        """What a continued run must find again."""
        digest = hashlib.sha256(b"".join(block.astype(np.int32).tobytes() for block in self.training + self.validation))
        return {
            "blocks": len(self.training),
            "codes": int(sum((block >= len(SPECIALS)).sum() for block in self.training)),
            "combinations": len(self.vocabulary.combinations),
            "hash": digest.hexdigest()[:16],
        }

    def _load(self, bucket: Bucket, update: int) -> CodeBatch:
        return self.make_batch(self.training, bucket.members, (self.settings.seed, update))

    def make_batch(self, blocks: Sequence[np.ndarray], members: np.ndarray, seeds: tuple[int, ...]) -> CodeBatch:
        """Hides tokens of some blocks; every choice is drawn from (seeds, the block's number), not from neighbours."""
        config, ordinary = self.settings.mask, range(len(SPECIALS), self.vocabulary.mask)
        longest = max(len(blocks[member]) for member in members)
        shown, scored, targets = [], [], []
        for row, member in enumerate(members):
            block = blocks[member]
            random = np.random.default_rng([*seeds, int(member)])
            hidden = draw_token_mask(len(block), config, random) & (block >= len(SPECIALS))
            read = replace_tokens(block, hidden, config, ordinary, self.vocabulary.mask, random)
            shown.append(torch.from_numpy(read))
            scored.append(torch.from_numpy(np.flatnonzero(hidden)) + row * longest)
            targets.append(torch.from_numpy(block[hidden]))
        lengths = torch.tensor([len(block) for block in shown])
        padded = nn.utils.rnn.pad_sequence(shown, batch_first=True, padding_value=PAD)
        return CodeBatch(padded, lengths, torch.cat(scored), torch.cat(targets))

    def count(self, batches: list[CodeBatch]) -> Tensor:
        """Hidden tokens, which divide the loss, and all tokens that are read."""
        rows = [(float(len(batch.targets)), float(batch.lengths.sum())) for batch in batches]
        return torch.tensor(rows or [[0.0, 0.0]], dtype=torch.double).sum(0)

    def survey(self, batches: list[CodeBatch], update: int, counts: Tensor, lacking: bool = False) -> None:
        """A part's loss needs nothing of the others."""

    def loss(
        self, module: nn.Module, batch: CodeBatch, update: int, counts: Tensor, whole: None
    ) -> tuple[Tensor, Sums]:
        """This part's share of the mean cross-entropy of a hidden token."""
        device = self.processes.device
        logits = module(batch.tokens.to(device), batch.lengths.to(device), batch.scored.to(device)).float()
        targets = batch.targets.to(device)
        total = F.cross_entropy(logits, targets, reduction="sum")
        sums: Sums = {
            "nats": total.double(),
            "correct": (logits.argmax(1) == targets).sum().double(),
            "scored": torch.tensor(len(targets), dtype=torch.double),
            "tokens": batch.lengths.sum().double(),
            "unknown": (batch.tokens == UNKNOWN).sum().double(),
        }
        return total / float(counts[0]), sums

    def validate(self, update: int) -> dict[str, float]:
        """The objective on held-out codes, with the same masks every time."""
        if not self.validation:
            return {}
        sizes, lengths = self.settings.training, lengths_of(self.validation)
        before = np.cumsum(lengths) - lengths
        lengths = lengths[before < self.settings.data.valid_tokens]
        totals: Sums = {}
        plan = UpdatePlan(lengths, sizes.bucket_tokens, sizes.bucket_tokens, False, 0, self._tie())
        for buckets in plan.epoch(0):
            for bucket in share(buckets, sizes.micro_batch_tokens):
                batch = self.make_batch(self.validation, bucket.members, (VALIDATION_SEED,))
                if len(batch.targets):
                    _, sums = self.loss(self.model, batch, update, torch.ones(1), None)
                    totals = {name: totals.get(name, 0) + value.cpu() for name, value in sums.items()}
        return self.describe(totals) if totals else {}

    def describe(self, sums: Sums) -> dict[str, float]:
        """Figures for the log, from sums over an interval."""
        scored = max(1.0, float(sums["scored"]))
        return {
            "bits": float(sums["nats"]) / scored / math.log(2),
            "unigram_bits": self.unigram_bits,
            "chance_bits": math.log2(len(self.vocabulary.combinations)),
            "accuracy": float(sums["correct"]) / scored,
            "masked_share": scored / max(1.0, float(sums["tokens"])),
            "unknown_share": float(sums["unknown"]) / max(1.0, float(sums["tokens"])),
        }

    def line(self, figures: dict[str, float]) -> str:
        """One readable line."""
        return (
            f"loss {figures['bits']:.3f} bits (frequencies alone {figures['unigram_bits']:.2f}, "
            f"chance {figures['chance_bits']:.2f})  accuracy {figures['accuracy']:.3f}"
        )

    def examples(self) -> list[str]:
        """Codes say nothing to a reader."""
        return []

    def judge(self, update: int, figures: dict[str, float]) -> tuple[str, str | None]:
        """Stuck is a run that knows frequencies only when others know more."""
        before = self._verdict
        stuck = update >= self.settings.chance_patience and figures["bits"] > AT_CHANCE * self.unigram_bits
        self._verdict = "stuck" if stuck else "healthy"
        if stuck == (before == "stuck"):
            return self._verdict, None
        if not stuck:
            return self._verdict, f"healthy again after {update} updates: {figures['bits']:.2f} bits."
        return self._verdict, (
            f"STUCK after {update} updates: {figures['bits']:.2f} bits; how frequent each combination is alone gives "
            f"{self.unigram_bits:.2f}. Nothing is learnt from the codes around. Mend: check the learning rate "
            "(training.schedule.peak), hide less (mask.probability, mask.length), and look at the codes: with few "
            "in use the model that they come from has collapsed, with nearly all different ones they say nothing."
        )

    def state(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": self.vocabulary.names()}

    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        return to_dict(self.settings.model)


def pack(sequences: Sequence[np.ndarray], positions: int) -> list[np.ndarray]:
    """Blocks of at most `positions` tokens: <s>, then whole utterances, each with </s> after it, as many as fit.

    An utterance that fits in no block is cut into nearly equal parts. Neighbours stay neighbours.
    """
    blocks: list[np.ndarray] = []
    open_block: list[np.ndarray] = []
    room = 0
    for sequence in sequences:
        for first, last in windows(len(sequence), positions - ENDS):
            part = np.append(sequence[first:last], END)
            if len(part) > room:
                blocks += [np.concatenate(open_block)] if open_block else []
                open_block, room = [np.array([START])], positions - 1
            open_block.append(part)
            room -= len(part)
    return blocks + ([np.concatenate(open_block)] if open_block else [])


def lengths_of(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) tokens of each block."""
    return np.array([len(block) for block in blocks], dtype=np.int64)
