"""Batches of speech and of unrelated text: utterances in random order, and a sentence drawn at random for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from firstwords.errors import CorpusError
from firstwords.losses.adversarial import IGNORED
from firstwords.models.wav2vec_u import PAD, SPECIALS

SHORTEST = 3
"""Segments below which an utterance is left out. Source: fairseq's ExtractedFeaturesDataset in wav2vec-U."""
FEW_UTTERANCES, FEW_SENTENCES = 500, 1000
"""Below these a sweep says what to expect."""


@dataclass
class UnpairedBatch:
    """Speech and text of one update."""

    features: Tensor
    """(B, T, D), 0 beyond the lengths."""
    lengths: Tensor
    """(B,)."""
    tokens: Tensor
    """(B, L) ids, the four specials first; PAD beyond."""
    text_lengths: Tensor
    """(B,)."""
    targets: Tensor | None
    """(B, T) auxiliary units, IGNORED beyond; None without any."""


@dataclass
class Speech:
    """Utterances of a split: (sum of T, D) values and where each begins, those that are too short left out."""

    values: np.ndarray
    """(sum of T, D) float32, in memory or mapped."""
    lengths: np.ndarray
    """(N,)."""
    units: np.ndarray | None = None
    """(sum of T,) auxiliary units."""
    ids: Sequence[str] = ()
    """Of the utterances, where they have any."""
    short: int = field(init=False)
    """Utterances left out."""

    def __post_init__(self) -> None:
        begins = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)
        kept = np.flatnonzero(self.lengths >= SHORTEST)
        self.short = len(self.lengths) - len(kept)
        self.begins, self.lengths = begins[kept], np.asarray(self.lengths, dtype=np.int64)[kept]
        self.ids = [self.ids[int(number)] for number in kept] if len(self.ids) else []
        self._resident: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def keep_on(self, device: torch.device) -> None:
        """Holds all values in a GPU's memory, where they take less than half of what is free."""
        if device.type == "cuda" and self.values.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._resident = torch.from_numpy(np.ascontiguousarray(self.values, dtype=np.float32)).to(device)

    def batch(self, members: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, lengths and units of some utterances."""
        begins, lengths = self.begins[members], self.lengths[members]
        longest = int(lengths.max())
        targets = None
        if self.units is not None:
            targets = torch.full((len(members), longest), IGNORED, dtype=torch.long)
            for row, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
                targets[row, :length] = torch.from_numpy(self.units[begin : begin + length].astype(np.int64))
            targets = targets.to(device)
        if self._resident is not None:
            first, count = torch.from_numpy(begins).to(device), torch.from_numpy(lengths).to(device)
            steps = torch.arange(longest, device=device)
            inside = steps < count[:, None]
            places = torch.where(inside, first[:, None] + steps, 0)
            return self._resident[places] * inside[..., None], count, targets
        features = np.zeros((len(members), longest, self.values.shape[1]), dtype=np.float32)
        for row, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
            features[row, :length] = self.values[begin : begin + length]
        return torch.from_numpy(features).to(device), torch.from_numpy(lengths).to(device), targets


class Text:
    """Sentences as ids of symbols, the four specials first.

    Args:
        sentences: their phones.
        phones: all of them; id 4 is the first.

    Raises:
        CorpusError: no sentence, or one with a phone that the dictionary lacks.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], phones: Sequence[str]) -> None:
        known = {phone: number + len(SPECIALS) for number, phone in enumerate(phones)}
        ids: list[np.ndarray] = []
        for number, sentence in enumerate(sentences, 1):
            if not sentence:
                continue
            try:
                ids.append(np.array([known[phone] for phone in sentence], dtype=np.int32))
            except KeyError as error:
                raise CorpusError(
                    f"text: sentence {number} has the phone {error.args[0]!r}, which the dictionary lacks: text and "
                    "dictionary are of different versions; prepare again"
                ) from error
        if not ids:
            raise CorpusError("text: no sentence to learn from; prepare again with more text")
        self.ids = np.concatenate(ids)
        self.lengths = np.array([len(one) for one in ids], dtype=np.int64)
        self.begins = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) and lengths (B,) of some sentences."""
        lengths = self.lengths[chosen]
        tokens = np.full((len(chosen), int(lengths.max())), PAD, dtype=np.int64)
        for row, (begin, length) in enumerate(zip(self.begins[chosen], lengths, strict=True)):
            tokens[row, :length] = self.ids[begin : begin + length]
        return torch.from_numpy(tokens), torch.from_numpy(lengths)


class UnpairedBatches:
    """What a seed reads at an update: it follows from (seed, update) alone.

    Utterances come in a new random order each epoch, what is left of an epoch after its last whole batch is dropped;
    sentences are drawn independently.
    """

    def __init__(self, speech: Speech, text: Text, size: int) -> None:
        if not len(speech):
            raise CorpusError(f"speech: no utterance of {SHORTEST} segments or more; prepare again with more speech")
        self.speech, self.text = speech, text
        self.size = min(size, len(speech))
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    @property
    def updates_of_an_epoch(self) -> int:
        """Batches of all speech once."""
        return len(self.speech) // self.size

    def batch(self, seed: int, update: int, device: torch.device) -> UnpairedBatch:
        """The batch of a seed at an update."""
        epoch, number = divmod(update, self.updates_of_an_epoch)
        chosen = self._order(seed, epoch)[number * self.size : (number + 1) * self.size]
        lines = np.random.default_rng((seed, update, 1)).integers(len(self.text), size=self.size)
        features, lengths, targets = self.speech.batch(chosen, device)
        tokens, text_lengths = self.text.batch(lines)
        return UnpairedBatch(features, lengths, tokens.to(device), text_lengths.to(device), targets)

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[1] >= epoch - 1}
            self._orders[seed, epoch] = np.random.default_rng((seed, epoch)).permutation(len(self.speech))
        return self._orders[seed, epoch]
