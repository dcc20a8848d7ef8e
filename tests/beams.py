"""Emissions, models and a search by hand for the tests of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.text.alphabet import Alphabet

SENTENCES = ["a cab", "a bad cab", "bad dad", "dad a cab", "a dad", "cab", "add a bad dad", "dab a cab", "abba"] * 3


def letters(text: str = "abcd") -> Alphabet:
    return Alphabet(("<blank>", "|", *text))


def words_arpa(folder: Path, order: int = 3) -> Path:
    """A word model of SENTENCES as a file."""
    path = folder / "words.arpa"
    estimate(SENTENCES, order, ())[0].save(path)
    return path


def letters_arpa(folder: Path, order: int = 4) -> Path:
    """A model over letters of SENTENCES as a file."""
    path = folder / "letters.arpa"
    estimate([" ".join(one.replace(" ", "|")) for one in SENTENCES], order, ())[0].save(path)
    return path


def noise(frames: int, labels: int, seed: int, sharpness: float = 2.0) -> torch.Tensor:
    """Log probabilities (T, V) without sense."""
    values = sharpness * np.random.default_rng(seed).standard_normal((frames, labels))
    return torch.from_numpy(values).float().log_softmax(-1)


def spoken(text: str, alphabet: Alphabet, seed: int = 0, loudness: float = 6.0, gap: int = 2) -> torch.Tensor:
    """Log probabilities (T, V) in which each label of `text` peaks once, with noise."""
    ids = alphabet.encode(text)
    values = np.random.default_rng(seed).standard_normal((len(ids) * (gap + 1) + 1, len(alphabet)))
    values[:, 0] += loudness
    for place, label in enumerate(ids):
        values[place * (gap + 1) + 1, 0] -= loudness
        values[place * (gap + 1) + 1, label] += loudness
    return torch.from_numpy(values).float().log_softmax(-1)


def paths(emissions: torch.Tensor) -> list[tuple[tuple[int, ...], float]]:
    """Every path of one label a frame, and its log probability. For a handful of frames."""
    frames, labels = emissions.shape
    rows = emissions.double().numpy()
    return [
        (path, float(sum(rows[t, label] for t, label in enumerate(path))))
        for path in product(range(labels), repeat=frames)
    ]


def collapsed(path: Sequence[int], before: int = 0) -> tuple[int, ...]:
    """CTC: repeats once, blanks gone; `before` is thought to stand before the first frame."""
    kept = []
    for label in path:
        if label != before and label != 0:
            kept.append(label)
        before = label
    return tuple(kept)


def sentence_log10(model: NgramModel, words: Sequence[str]) -> float:
    return model.score_sentence(words)
