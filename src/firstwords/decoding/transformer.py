"""The Transformer language model at work: whole sentences in batches, and next symbols inside a beam."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from firstwords.checkpoints.own import checkpoint_path, load_weights, read_checkpoint
from firstwords.config import from_dict
from firstwords.decoding.ngram import Perplexity
from firstwords.errors import CheckpointError, LanguageModelError
from firstwords.models.transformer_lm import Past, TransformerLM, TransformerLMConfig
from firstwords.text.pieces import Pieces
from firstwords.text.sentences import Spelling

BATCH_SYMBOLS = 16_384
"""Most symbols, padding included, in one forward pass."""
_PERPLEXITY_BLOCK = 1_000
"""Sentences that are held at once when a text is evaluated."""


class TransformerScorer:
    """A trained Transformer language model, for rescoring and for shallow fusion.

    Args:
        model: the network.
        pieces: its symbols.
        spelling: how the text was spelt that it learnt from.
        device: where it works.
    """

    def __init__(self, model: TransformerLM, pieces: Pieces, spelling: Spelling, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.pieces = pieces
        self.spelling = spelling
        self.vocabulary = {symbol: number for number, symbol in enumerate(pieces.symbols)}
        """Each symbol's id."""

    @classmethod
    def load(cls, place: Path | str, device: str = "cpu") -> TransformerScorer:
        """The model of a run of `firstwords lm --transformer`, or of its checkpoint.

        Raises:
            CheckpointError: nothing there, or no language model.
        """
        path = checkpoint_path(Path(place))
        checkpoint = read_checkpoint(path)
        if checkpoint.kind != "language":
            raise CheckpointError(f"{path}: holds a model of kind {checkpoint.kind!r}, not a language model")
        pieces = Pieces.from_dict(checkpoint.state["pieces"], str(path))
        spelling = from_dict(Spelling, checkpoint.state["spelling"], str(path))
        model = TransformerLM(from_dict(TransformerLMConfig, checkpoint.config, str(path)), len(pieces))
        load_weights(model, checkpoint.weights, str(path))
        return cls(model, pieces, spelling, device)

    @property
    def unit(self) -> str:
        """What it foresees: "characters", "phonemes", or "pieces" of words."""
        return "phonemes" if self.pieces.separated else "pieces" if self.pieces.merges else "characters"

    def score_sentences(self, sentences: Sequence[str]) -> list[float]:
        """log10 of the probability of each sentence, its end included. They must be spelt as the training text was."""
        return [sum(scores) for _, scores in self._symbol_scores(sentences)]

    def perplexity(self, sentences: Iterable[str]) -> Perplexity:
        """Over sentences; "words" are symbols.

        Raises:
            LanguageModelError: there are none.
        """
        lengths = self.pieces.lengths()
        count = symbols = unknown = characters = 0
        everything = known = 0.0
        source = iter(sentences)
        while block := list(islice(source, _PERPLEXITY_BLOCK)):
            for ids, scores in self._symbol_scores(block):
                lost = [score for one, score in zip(ids, scores, strict=False) if one == 1]
                count, symbols, unknown = count + 1, symbols + len(ids), unknown + len(lost)
                everything, known = everything + sum(scores), known + sum(scores) - sum(lost)
                characters += lengths[0] + sum(lengths[one] for one in ids)
        if not count:
            raise LanguageModelError("no sentence to evaluate on")
        return Perplexity(count, symbols, unknown, everything, known, characters)

    @torch.inference_mode()
    def _symbol_scores(self, sentences: Sequence[str]) -> list[tuple[list[int], list[float]]]:
        """For each sentence its symbols, and log10 of the probability of each of them and of the end."""
        encoded = [self.pieces.encode(sentence) for sentence in sentences]
        results: list[tuple[list[int], list[float]]] = [([], [])] * len(encoded)
        for members in _batches([len(one) + 1 for one in encoded], BATCH_SYMBOLS):
            longest = max(len(encoded[member]) for member in members) + 1
            symbols = torch.zeros(len(members), longest + 1, dtype=torch.long)
            for row, member in enumerate(members):
                symbols[row, 1 : len(encoded[member]) + 1] = torch.tensor(encoded[member], dtype=torch.long)
            symbols = symbols.to(self.device)
            logs = self.model(symbols[:, :-1]).float().log_softmax(-1)
            chosen = (logs.gather(2, symbols[:, 1:, None])[..., 0].double() / math.log(10)).cpu().tolist()
            for row, member in zip(chosen, members, strict=True):
                results[member] = (encoded[member], row[: len(encoded[member]) + 1])
        return results

    @property
    def start(self) -> History:
        """The state before a sentence; each one asked for begins an utterance, whose memory goes with its states."""
        return History(None, 0, _Memory(self.model, self.device))

    def score(self, state: History, symbol: int) -> tuple[float, History]:
        """log10 of the probability of `symbol` after `state`, and the state after it."""
        return float(self._row(state)[symbol]), state.after(symbol)

    def finish(self, state: History) -> float:
        """log10 of the probability that the sentence ends after `state`."""
        return float(self._row(state)[0])

    def score_next(self, states: Sequence[History]) -> np.ndarray:
        """(n, V) float32: log10 of the probability of every symbol after each state, all of one utterance.

        Only what no earlier call has computed is computed now, as one batch.
        """
        waiting = {one for state in states for one in state.unscored()}
        while waiting:
            ready = [one for one in waiting if one.parent is None or one.parent.row is not None]
            self._step(ready)
            waiting.difference_update(ready)
        rows = [state.row for state in states]
        return np.stack(rows) if rows else np.zeros((0, len(self.pieces)), np.float32)  # type: ignore[arg-type]

    def _row(self, state: History) -> np.ndarray:
        if state.row is None:
            self.score_next([state])
        assert state.row is not None
        return state.row

    @torch.inference_mode()
    def _step(self, states: Sequence[History]) -> None:
        """One step of the network for states whose parents are done."""
        memory, reach = states[0].memory, self.model.config.context - 1
        for one in states:
            if one.parent is not None:
                one.path = np.append(one.parent.path, one.parent.place)
        paths = [one.path[len(one.path) - reach :] if len(one.path) > reach else one.path for one in states]
        longest = max(map(len, paths))
        places = np.zeros((len(states), longest), np.int64)
        attend = np.zeros((len(states), longest), bool)
        for row, path in enumerate(paths):
            places[row, : len(path)] = path
            attend[row, : len(path)] = True
        past = Past(memory.keys, memory.values, *(torch.from_numpy(one).to(self.device) for one in (places, attend)))
        symbols = torch.tensor([one.symbol for one in states], device=self.device)
        positions = torch.tensor([len(one.path) for one in states], device=self.device)
        logits, keys, values = self.model.step(symbols, positions, past)
        rows = (logits.float().log_softmax(-1) / math.log(10)).cpu().numpy()
        taken = memory.take(len(states))
        memory.keys[:, taken], memory.values[:, taken] = keys, values
        for one, place, row in zip(states, taken, rows, strict=True):
            one.place, one.row = place, row


class History:
    """A state: the symbols since the start, as a way up a tree. Where the same way leads, the same object is."""

    __slots__ = ("__weakref__", "children", "memory", "parent", "path", "place", "row", "symbol")

    def __init__(self, parent: History | None, symbol: int, memory: _Memory) -> None:
        self.parent = parent
        self.symbol = symbol
        """The last one; at the start the mark before a sentence."""
        self.memory = memory
        self.place = -1
        """Of its keys and values in the memory, once computed."""
        self.row: np.ndarray | None = None
        """(V,) log10 of what may follow, once computed."""
        self.path = np.zeros(0, np.int64)
        """Places of all states before, once their own are known."""
        self.children: WeakValueDictionary[int, History] = WeakValueDictionary()

    def after(self, symbol: int) -> History:
        """The state after one more symbol."""
        child = self.children.get(symbol)
        if child is None:
            child = self.children[symbol] = History(self, symbol, self.memory)
        return child

    def unscored(self) -> Iterator[History]:
        """This state and those before it of which nothing is computed yet."""
        state: History | None = self
        while state is not None and state.row is None:
            yield state
            state = state.parent

    def __del__(self) -> None:
        if self.place >= 0:
            self.memory.free.append(self.place)


class _Memory:
    """Keys and values of one utterance's states; the places of states that nobody holds are used again."""

    def __init__(self, model: TransformerLM, device: torch.device) -> None:
        shape = (model.config.layers, 64, model.config.dim)
        self.keys, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.free = list(range(shape[1]))

    def take(self, count: int) -> list[int]:
        """Places for `count` states."""
        if len(self.free) < count:
            old = self.keys.shape[1]
            more = max(count, old)
            self.keys, self.values = (_grown(one, more) for one in (self.keys, self.values))
            self.free += range(old, old + more)
        taken, self.free = self.free[:count], self.free[count:]
        return taken


def _grown(tensor: Tensor, more: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, 0, more))


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices of sentences of similar length, at most `most` symbols a batch with its padding."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[number] > most:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
