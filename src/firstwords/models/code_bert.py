"""BERT over the codes of vq-wav2vec (Baevski et al. 2020, section 4): masked spans of codes foretold from the rest.

Each combination of codes that occurs, one of every group, is one token. The network is RoBERTa's (Liu et al. 2019):
learnt positions, norms after each part, no next-sentence task, one matrix for tokens going in and coming out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstwords.config import check_shares
from firstwords.errors import CheckpointError, ConfigError
from firstwords.models.vq_wav2vec import VqWav2Vec
from firstwords.models.wav2vec2 import Encoded, Wav2Vec2
from firstwords.nn.dropout import dropout
from firstwords.nn.lengths import length_mask
from firstwords.nn.transformer import TransformerBlock, TransformerConfig

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens before the combinations; after them comes <mask> (fairseq's order)."""
START, PAD, END, UNKNOWN = range(len(SPECIALS))
MASK = "<mask>"
ENDS = 2
"""Positions of a window that hold its start and end."""
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class CodeBertConfig:
    """The network."""

    layers: int = 12
    """Blocks. Source: vq-wav2vec section 5.2, BERT base and small."""
    dim: int = 768
    """Width D: 768 base, 512 small. Source: vq-wav2vec section 5.2."""
    feed_forward_dim: int = 3072
    """Width inside the feed-forward part: 3072 base, 2048 small. Source: vq-wav2vec section 5.2."""
    heads: int = 12
    """Attention heads: 12 base, 8 small. Source: vq-wav2vec section 5.2."""
    positions: int = 2048
    """Most tokens of a window, its start and end among them. Source: fairseq."""
    dropout: float = 0.1
    """On embeddings and after each part of a block: 0.1 base, 0.05 small. Source: vq-wav2vec section 5.2."""
    attention_dropout: float = 0.1
    """On attention probabilities (slow on a CPU). Source: RoBERTa."""
    activation_dropout: float = 0.0
    """Inside the feed-forward part. Source: RoBERTa."""


class CodeVocabulary:
    """Combinations of codes as tokens.

    Args:
        combinations: (n, G) all different; token numbers follow their order, after the special tokens.
    """

    def __init__(self, combinations: np.ndarray) -> None:
        if combinations.ndim != 2 or not combinations.size or combinations.min() < 0:
            raise CheckpointError("the vocabulary of codes is empty, or not one of combinations of codes")
        self.combinations = combinations
        self.groups = combinations.shape[1]
        self.mask = len(SPECIALS) + len(combinations)
        self._base = int(combinations.max()) + 1
        self._levels: list[Tensor] = []
        keys = np.zeros(len(combinations), dtype=np.int64)
        for group in range(self.groups):  # beginnings of combinations, numbered: no product of many codebooks overflows
            found, keys = np.unique(keys * self._base + combinations[:, group], return_inverse=True)
            self._levels.append(torch.from_numpy(found))
        if len(self._levels[-1]) != len(combinations):
            raise CheckpointError("the vocabulary of codes names a combination twice")
        self._tokens = torch.from_numpy(np.argsort(keys)) + len(SPECIALS)

    def __len__(self) -> int:
        """Tokens in all."""
        return self.mask + 1

    @classmethod
    def learn(cls, sequences: Iterable[np.ndarray], min_count: int = 1) -> CodeVocabulary:
        """The combinations in sequences (T, G) of codes that occur often enough, the most frequent first."""
        together = np.concatenate(list(sequences))
        found, counts = np.unique(together, axis=0, return_counts=True)
        found, counts = found[counts >= min_count], counts[counts >= min_count]
        if not len(found):
            raise ConfigError(f"data: no combination of codes occurs {min_count} times; lower data.min_count")
        return cls(found[np.argsort(-counts, kind="stable")].astype(np.int64))

    @classmethod
    def of_names(cls, names: Sequence[str]) -> CodeVocabulary:
        """Of names such as "17-203", in the order of their tokens (`names`, fairseq's dict.txt)."""
        try:
            return cls(np.array([[int(code) for code in name.split("-")] for name in names], dtype=np.int64))
        except ValueError as error:
            raise CheckpointError(f"the vocabulary is not one of codes such as 17-203 ({error})") from error

    def names(self) -> list[str]:
        """Codes joined by hyphens, as fairseq writes them."""
        return ["-".join(map(str, row)) for row in self.combinations.tolist()]

    def encode(self, codes: Tensor) -> Tensor:
        """Codes (..., G) to tokens (...); combinations that are not known become <unk>."""
        keys = torch.zeros(codes.shape[:-1], dtype=torch.int64, device=codes.device)
        known = (codes < self._base).all(-1)
        for group, level in enumerate(self._levels):
            level = level.to(codes.device)
            wanted = keys * self._base + codes[..., group]
            keys = torch.searchsorted(level, wanted).clamp(max=len(level) - 1)
            known &= level[keys] == wanted
        return torch.where(known, self._tokens.to(codes.device)[keys], UNKNOWN)


class CodeBert(nn.Module):
    """Tokens (B, T) to features (B, T, D), and to logits over the tokens that are hidden.

    All weights start N(0, 0.02), biases 0 (BERT).

    Args:
        config: sizes.
        tokens: V, the special ones among them.
    """

    def __init__(self, config: CodeBertConfig, tokens: int) -> None:
        super().__init__()
        if config.heads < 1 or config.dim < 1 or config.dim % config.heads:
            raise ConfigError(f"model: dim {config.dim} must be a multiple of heads ({config.heads})")
        if config.layers < 0 or config.feed_forward_dim < 1 or config.positions <= ENDS:
            raise ConfigError(
                f"model: layers must not be below 0, feed_forward_dim at least 1, positions above {ENDS}; "
                f"found {config.layers}, {config.feed_forward_dim}, {config.positions}"
            )
        check_shares("model", config, "dropout", "attention_dropout", "activation_dropout")
        self.config = config
        self.embedding = nn.Embedding(tokens, config.dim)
        self.positions = nn.Embedding(config.positions, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        block = TransformerConfig(
            config.layers,
            config.dim,
            config.feed_forward_dim,
            config.heads,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout,
        )
        self.blocks = nn.ModuleList(TransformerBlock(block) for _ in range(config.layers))
        self.head = nn.Linear(config.dim, config.dim)
        self.head_norm = nn.LayerNorm(config.dim)
        self.head_bias = nn.Parameter(torch.zeros(tokens))
        for weight in (self.embedding.weight, self.positions.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, lengths: Tensor, scored: Tensor) -> Tensor:
        """Logits (P, V) of tokens at scored positions.

        Args:
            tokens: (B, T), T at most `positions`, with those that shall be foretold hidden.
            lengths: (B,) valid tokens; those beyond change nothing.
            scored: (P,) positions, numbered b * T + t.
        """
        x = self.features(tokens, lengths).flatten(0, 1).index_select(0, scored)
        x = self.head_norm(F.gelu(self.head(x)))
        return F.linear(x, self.embedding.weight, self.head_bias)

    def features(
        self, tokens: Tensor, lengths: Tensor, layer: int | None = None, states: list[Tensor] | None = None
    ) -> Tensor:
        """Features (B, T, D) of tokens (B, T).

        Args:
            tokens: (B, T), T at most `positions`.
            lengths: (B,) valid tokens; those beyond change nothing.
            layer: stop after so many blocks (0: the first one's input); None runs all.
            states: gets the input of the first block appended, then the output of each.
        """
        attend = None
        if not bool((lengths == tokens.shape[1]).all()):
            attend = length_mask(lengths, tokens.shape[1])[:, None, None, :]
        x = self.norm(self.embedding(tokens) + self.positions.weight[: tokens.shape[1]])
        x = dropout(x, self.config.dropout, self.training)
        if states is not None:
            states.append(x)
        for block in self.blocks[:layer]:
            x = block(x, attend)
            if states is not None:
                states.append(x)
        return x


class CodeBertEncoder(nn.Module):
    """Waveforms to codes to features: BERT with the model that its codes come from, which never learns here.

    Audio longer than BERT's positions is read in the fewest windows of nearly equal length.

    Args:
        source: the pre-training model that makes codes (VqWav2Vec, or Wav2Vec2 with its quantiser).
        bert: the network.
        vocabulary: codes to its tokens.
    """

    def __init__(self, source: VqWav2Vec | Wav2Vec2, bert: CodeBert, vocabulary: CodeVocabulary) -> None:
        super().__init__()
        self.source = source.requires_grad_(False)
        self.bert = bert
        self.vocabulary = vocabulary
        self.config = source.encoder.config
        """Of the model before BERT, which says whether waveforms are normalised."""
        self.dim = bert.config.dim
        self.layers = bert.config.layers

    @property
    def feature_encoder(self) -> Any:
        """What says how samples become frames; its weights are the source's."""
        return self.source.encoder.feature_encoder

    def frames(self, samples: Any) -> Any:
        """Frames that so many samples give (int or integer tensor)."""
        return self.source.encoder.frames(samples)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        layer: int | None = None,
        states: list[Tensor] | None = None,
    ) -> Encoded:
        """Features of waveforms, one for each frame of codes; 0 beyond each utterance's frames.

        Args:
            waveforms: (B, samples), 16 kHz, normalised if the configuration says so.
            lengths: (B,) valid samples; None means all.
            layer: output of that block; 0 is the input of the first, None the last one's output.
            states: gets the input of the first block appended, then the output of each, (B, T, D).
        """
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        frames = self.frames(lengths)
        tokens = self.vocabulary.encode(self.source.codes(waveforms, lengths))
        most = self.bert.config.positions - ENDS
        places = [(row, *part) for row, count in enumerate(frames.tolist()) for part in windows(count, most)]
        count = 1 + (self.layers if layer is None else layer)
        layers = self.bert.embedding.weight.new_zeros(count if states is not None else 1, *tokens.shape, self.dim)
        for first in range(0, len(places), WINDOWS_AT_ONCE):
            some = places[first : first + WINDOWS_AT_ONCE]
            texts = [F.pad(F.pad(tokens[row, a:b], (1, 0), value=START), (0, 1), value=END) for row, a, b in some]
            sizes = torch.tensor([len(text) for text in texts], device=tokens.device)
            batch = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=PAD)
            inner: list[Tensor] = []
            last = self.bert.features(batch, sizes, layer, inner)
            found = torch.stack(inner if states is not None else [last])
            for number, (row, a, b) in enumerate(some):
                layers[:, row, a:b] = found[:, number, 1 : 1 + b - a]
        if states is not None:
            states.extend(layers)
        return Encoded(layers[-1], frames)


def windows(count: int, most: int) -> list[tuple[int, int]]:
    """(begin, end) of the fewest parts of `count` that have at most `most` each, nearly equal."""
    parts = -(-count // most)
    return [(count * number // parts, count * (number + 1) // parts) for number in range(parts)]
