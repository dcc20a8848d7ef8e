"""Judging members of a sweep without labels (wav2vec-U section 4.3): is what they say like the language?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import START, NgramModel
from firstwords.errors import LanguageModelError

ORDER = 4
"""Phones of the longest n-grams. Source: wav2vec-U section 4.3."""
HELD_OUT, MOST_HELD_OUT = 0.05, 1000
"""Share of the sentences that measures what real text costs, and the most of them."""
SLACK = math.log(1.2)
"""How much worse than the anchor's a member's cost may be to be a candidate. Source: wav2vec-U section 4.3."""


@dataclass(frozen=True)
class Judgement:
    """What one member said on the valid split, judged by a model of the text's phones."""

    update: int
    log10: float
    """Of the probability of all it said, ends of utterances included."""
    phones: int
    """That it said, silence left out."""
    utterances: int
    used: float
    """Share of the phones that it used, silence counted among them as in fairseq."""
    fluency: float
    """0: its phones follow each other as if shuffled; 1: as in real text."""
    balance: float = 1.0
    """1: its phones are as frequent as the text's; 0: none of them is. Fluent output of a few phones has less."""
    per: float | None = None
    """Phone error rate, where the truth is known; logged beside and never used."""

    @property
    def perplexity(self) -> float:
        """Of a phone, ends included; infinite where nothing was said."""
        return 10 ** min(300.0, -self.log10 / (self.phones + self.utterances)) if self.phones else math.inf

    @property
    def weighted(self) -> float:
        """Perplexity over the square of the share of phones in use: lower is better. Source: fairseq."""
        return self.perplexity / self.used**2 if self.used else math.inf

    @property
    def cost(self) -> float:
        """Nats of a phone."""
        return math.log(self.perplexity) if self.phones else math.inf

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return asdict(self)


class PhoneJudge:
    """A model of the text's phones without silences, and what real and shuffled text cost in it.

    Args:
        sentences: phones of each sentence.
        phones: the dictionary, silence included.
        silence: what is left out of sentences and hypotheses.
        seed: of the held-out sentences.

    Raises:
        LanguageModelError: too few sentences.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], phones: Sequence[str], silence: str, seed: int = 0) -> None:
        spoken = [[phone for phone in sentence if phone != silence] for sentence in sentences]
        spoken = [sentence for sentence in spoken if sentence]
        if len(spoken) < 10:
            raise LanguageModelError(
                f"text: {len(spoken)} sentences are too few to judge by; prepare again with more text (thousands)"
            )
        random = np.random.default_rng(seed)
        order = random.permutation(len(spoken))
        count = max(1, min(MOST_HELD_OUT, round(HELD_OUT * len(spoken))))
        held_out = [spoken[number] for number in order[:count]]
        self.phones, self.silence = list(phones), silence
        self.model: NgramModel = estimate([" ".join(spoken[number]) for number in order[count:]], ORDER)[0]
        self._known: dict[tuple[int, ...], float] = {}
        self._shares = self._frequencies(spoken)
        shuffled = [[sentence[n] for n in random.permutation(len(sentence))] for sentence in held_out]
        self.text_cost, self.shuffled_cost = (self._cost(part) for part in (held_out, shuffled))
        """Nats of a phone."""

    def judge(self, hypotheses: Sequence[Sequence[str]], update: int, per: float | None = None) -> Judgement:
        """What one member said, utterance by utterance; silences are left out."""
        spoken = [[phone for phone in one if phone != self.silence] for one in hypotheses]
        log10, phones = self._score(spoken), sum(map(len, spoken))
        used = len({phone for one in spoken for phone in one}) / len(self.phones)
        cost = -log10 * math.log(10) / (phones + len(spoken)) if phones else math.inf
        span = self.shuffled_cost - self.text_cost
        fluency = (self.shuffled_cost - cost) / span if phones and span > 0 else 0.0
        balance = float(np.minimum(self._shares, self._frequencies(spoken)).sum())
        return Judgement(update, log10, phones, len(spoken), used, max(-9.0, fluency), balance, per)

    def _frequencies(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """(phones,) shares of each phone."""
        found = Counter(phone for sentence in sentences for phone in sentence)
        return np.array([found[phone] for phone in self.phones]) / max(1, found.total())

    def _cost(self, sentences: Sequence[Sequence[str]]) -> float:
        return -self._score(sentences) * math.log(10) / (sum(map(len, sentences)) + len(sentences))

    def _score(self, sentences: Sequence[Sequence[str]]) -> float:
        """log10 of the probability of all sentences: what each phone costs after the three before, looked up once."""
        model, known = self.model, self._known
        beginning = model.vocabulary[START]
        total = 0.0
        for sentence in sentences:
            context: tuple[int, ...] = (beginning,)
            for phone in [*(model.id(phone) for phone in sentence), model.end]:
                ngram = (*context, phone)
                if ngram not in known:
                    known[ngram] = model.score(context, phone)[0]
                total += known[ngram]
                context = ngram[-(ORDER - 1) :]
        return total


def choose(judgements: Sequence[Judgement]) -> int:
    """Which of several members (or moments of one) is best, in the paper's two stages; -1 where none said anything.

    The anchor has the lowest cost - log(share of phones in use). Of all whose cost is not more than log 1.2 above the
    anchor's, allowing for the phones in use, the one with the highest probability of all it said wins: among alike
    ones the one that says less.
    """
    said = [number for number, one in enumerate(judgements) if one.phones and one.used]
    if not said:
        return -1
    anchor = judgements[min(said, key=lambda number: judgements[number].cost - math.log(judgements[number].used))]
    candidates = [
        number
        for number in said
        if judgements[number].cost <= anchor.cost + math.log(judgements[number].used / anchor.used) + SLACK
    ]
    return max(candidates, key=lambda number: judgements[number].log10)
