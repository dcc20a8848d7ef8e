"""A decoder with second thoughts: its readings are ranked anew by a language model that sees whole sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firstwords.decoding.hypothesis import Decoder, Hypothesis
from firstwords.decoding.language_model import SentenceModel
from firstwords.decoding.rescoring import rescore
from firstwords.text.alphabet import Alphabet

if TYPE_CHECKING:
    from torch import Tensor


class RescoringDecoder:
    """Ranks the n-best lists of another decoder.

    Args:
        decoder: whose readings are ranked; it should give many.
        model: asked about all of them.
        alphabet: of the emissions.
        weight, word_score: as in the search.
        share: of the new model in the language score; the rest is the search's own.
        nbest: readings to keep.
    """

    def __init__(
        self,
        decoder: Decoder,
        model: SentenceModel,
        alphabet: Alphabet,
        weight: float,
        word_score: float,
        share: float,
        nbest: int,
    ) -> None:
        self.decoder, self.model, self.alphabet = decoder, model, alphabet
        self.weight, self.word_score, self.share, self.nbest = weight, word_score, share, nbest

    def __call__(self, emissions: list[Tensor]) -> list[list[Hypothesis]]:
        """Readings of each utterance's log probabilities (T, V), best first."""
        ranked = rescore(self.decoder(emissions), self._text, self.model, self.weight, self.word_score, self.share)
        return [readings[: self.nbest] for readings in ranked]

    @property
    def note(self) -> str:
        """What its user should know."""
        return getattr(self.decoder, "note", "")

    def _text(self, reading: Hypothesis) -> str:
        return self.alphabet.decode(reading.labels)


def load_sentence_model(place: Path) -> SentenceModel:
    """A Hugging Face model folder, or a run of `firstwords lm --transformer`.

    Raises:
        FirstwordsError: neither, or a package is missing.
    """
    if (place / "config.json").is_file():
        from firstwords.decoding.huggingface import HuggingFaceScorer

        return HuggingFaceScorer.load(place)
    from firstwords.decoding.transformer import TransformerScorer

    return TransformerScorer.load(place)
