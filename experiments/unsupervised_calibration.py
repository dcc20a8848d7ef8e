"""How much does fluency, which needs no labels, say about phone errors? Real phones with errors of known rate.

    python experiments/unsupervised_calibration.py phones.txt

phones.txt is that of a prepared folder's text. Sentences are held out, spoilt at random in several ways, and judged as
a sweep judges what its members say; the table has error rate and fluency of each. These errors are random; those of a
trained generator lean towards what is fluent, so that thresholds should be stricter than the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from firstwords.scoring import ErrorCounts, word_errors
from firstwords.training.phone_choice import PhoneJudge

SILENCE = "<SIL>"
HELD_OUT = 400
SPOILT = (
    (0.0, 0.0, 0.0, 0.0), (0.05, 0.02, 0.02, 0.0), (0.1, 0.05, 0.05, 0.0), (0.2, 0.05, 0.05, 0.0),
    (0.3, 0.1, 0.05, 0.0), (0.45, 0.1, 0.1, 0.0), (0.6, 0.1, 0.1, 0.0), (0.9, 0.05, 0.05, 0.0),
    (0.0, 0.0, 0.0, 0.1), (0.0, 0.0, 0.0, 0.2), (0.0, 0.0, 0.0, 0.4), (0.0, 0.0, 0.0, 1.0),
    (0.1, 0.05, 0.05, 0.15), (0.2, 0.05, 0.05, 0.3),
)  # fmt: skip
"""Probability of a substitution, a deletion, an insertion; share of the phones that are taken for one another."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("phones", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    random = np.random.default_rng(chosen.seed)
    sentences = [line.split() for line in chosen.phones.read_text(encoding="utf-8").splitlines()]
    sentences = [sentences[n] for n in random.permutation(len(sentences))]
    said, read = sentences[:HELD_OUT], sentences[HELD_OUT:]
    names, counts = np.unique([p for sentence in read for p in sentence if p != SILENCE], return_counts=True)
    judge = PhoneJudge(read, [*names, SILENCE], SILENCE)
    table = Table("substituted", "deleted", "inserted", "swapped", "PER", "perplexity", "weighted", "fluency")
    table.title = f"text {np.exp(judge.text_cost):.1f}, shuffled {np.exp(judge.shuffled_cost):.1f}"
    for how in SPOILT:
        heard = [
            spoil(sentence, how, names, counts / counts.sum(), random) for sentence in swapped(said, names, how, random)
        ]
        total = ErrorCounts()
        for reference, hypothesis in zip(said, heard, strict=True):
            total += word_errors(" ".join(p for p in reference if p != SILENCE), " ".join(hypothesis))
        found = judge.judge(heard, 0)
        figures = (f"{found.perplexity:.1f}", f"{found.weighted:.1f}", f"{found.fluency:.2f}")
        table.add_row(*(f"{share:.0%}" for share in how), f"{total.rate:.1%}", *figures)
    Console().print(table)


def swapped(
    said: list[list[str]], names: np.ndarray, how: tuple[float, ...], random: np.random.Generator
) -> list[list[str]]:
    """Some phones taken for one another throughout, in a ring; silences left out."""
    places = np.arange(len(names))
    ring = random.choice(len(names), round(how[3] * len(names)), replace=False)
    places[ring] = np.roll(ring, 1)
    known = {name: str(names[place]) for name, place in zip(names, places, strict=True)}
    return [[known.get(phone, phone) for phone in sentence if phone != SILENCE] for sentence in said]


def spoil(
    sentence: list[str], how: tuple[float, ...], names: np.ndarray, shares: np.ndarray, random: np.random.Generator
) -> list[str]:
    """Substitutions, deletions and insertions, each phone by itself."""
    heard = []
    for phone in sentence:
        draw = random.random()
        if draw >= how[1]:
            heard.append(str(random.choice(names, p=shares)) if draw < how[0] + how[1] else phone)
        if random.random() < how[2]:
            heard.append(str(random.choice(names, p=shares)))
    return heard


if __name__ == "__main__":
    main()
