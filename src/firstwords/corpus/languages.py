"""Languages of a corpus, and how much of each an epoch holds (XLSR, Conneau et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firstwords.corpus.utterance import Utterance
from firstwords.errors import ConfigError, CorpusError

NONE = "none"
"""What utterances without a language are called; they are sampled together, as if this were one."""


def language_of(utterance: Utterance) -> str:
    """The language that the manifest says, else NONE."""
    return utterance.language or NONE


def languages_of(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """The languages of a corpus, in alphabetical order; NONE last, if there are such utterances."""
    return tuple(sorted({language_of(utterance) for utterance in utterances}, key=lambda name: (name == NONE, name)))


def language_notes(utterances: Sequence[Utterance]) -> list[str]:
    """What a person should know before several languages are learnt from: utterances that have none."""
    lacking = [utterance for utterance in utterances if utterance.language is None]
    if not lacking or len(lacking) == len(utterances):
        return []
    hours = sum(utterance.duration or 0.0 for utterance in lacking) / 3600
    return [
        f"{len(lacking)} of {len(utterances)} utterances ({hours:.2f} h) have no language, the first {lacking[0].id}; "
        f"they count together as {NONE!r} (firstwords prepare --language CODE names it)"
    ]


def sampling_shares(amounts: np.ndarray, alpha: float) -> np.ndarray:
    """p_l, proportional to (n_l / N)^alpha: (L,) amounts of audio to (L,) shares that add up to 1.

    Args:
        amounts: n_l, in any unit.
        alpha: 1 keeps the proportions of the corpus, 0 makes all languages alike. The paper takes 0.5.
    """
    weights = (amounts / amounts.sum()) ** alpha
    return np.asarray(weights / weights.sum())


class LanguageSampler:
    """Draws what an epoch holds: of each language as much audio as its share, repeated or left out in part.

    A language that gets r times its audio is heard whole floor(r) times an epoch, and the rest is drawn anew for each
    epoch, no utterance twice; r below 1 is such a draw alone. An epoch has as much audio as the corpus.

    Args:
        utterances: of the corpus, with durations.
        lengths: (n,) samples heard of each, crops included.
        alpha: exponent of `sampling_shares`.

    Raises:
        ConfigError: an alpha that is no exponent.
        CorpusError: only one language, or none.
    """

    def __init__(self, utterances: Sequence[Utterance], lengths: np.ndarray, alpha: float) -> None:
        if not 0 <= alpha <= 100:  # nor NaN
            raise ConfigError(
                f"data.language_alpha: {alpha}; it lies between 0 (all languages alike) and 1 (as they come)"
            )
        self.names = languages_of(utterances)
        if len(self.names) < 2:
            found = "have no language" if self.names in ((), (NONE,)) else f"are all of language {self.names[0]!r}"
            raise CorpusError(
                f"data.language_alpha balances languages, and the {len(utterances)} utterances to learn from {found}; "
                "name more corpora, write languages into the manifests (firstwords prepare --language CODE), or leave "
                "alpha out"
            )
        self.lengths = lengths
        self.language = np.array([self.names.index(language_of(utterance)) for utterance in utterances])
        seconds = np.array([utterance.duration or 0.0 for utterance in utterances])
        self.hours = np.bincount(self.language, seconds, len(self.names)) / 3600
        self.shares = sampling_shares(self.hours, alpha)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """(m,) what an epoch holds: utterance + n * copy, where copies of an utterance are counted from 0."""
        count, total = len(self.lengths), self.lengths.sum()
        parts = []
        for number, share in enumerate(self.shares):
            members = np.flatnonzero(self.language == number)
            own = self.lengths[members].sum()
            copies, rest = divmod(share * total / own + 1e-9, 1.0)
            parts += [members + count * copy for copy in range(int(copies))]
            order = random.permutation(members)
            middles = np.cumsum(self.lengths[order]) - self.lengths[order] / 2
            parts.append(np.sort(order[middles < rest * own]) + count * int(copies))
        return np.concatenate(parts)
