"""Second thoughts: the readings of a search ranked anew with a language model that sees whole sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from firstwords.decoding.hypothesis import Hypothesis
from firstwords.decoding.language_model import SentenceModel
from firstwords.errors import ConfigError
from firstwords.text.alphabet import BOUNDARY


def rescore(
    readings: Sequence[Sequence[Hypothesis]],
    text_of: Callable[[Hypothesis], str],
    model: SentenceModel,
    language_weight: float,
    word_score: float = 0.0,
    share: float = 1.0,
) -> list[list[Hypothesis]]:
    """Readings of each utterance, ranked by emissions + language_weight * log10 p(text) + word_score * words.

    The language model's part is the same as in the search (wav2vec 2.0 section 4.4: weight, word insertion score), so
    that weights found there are a place to start from. Whatever else a search added (boosts of hot words) is not kept.

    Args:
        readings: of each utterance, with the scores that the search gave them.
        text_of: a reading's words, separated by spaces, as the model spells them (`Alphabet.decode` of its labels).
        model: asked once for each different text of all utterances, in large batches.
        language_weight: of log10 of the language model's probability.
        word_score: for each word.
        share: of the new model in the language score; the rest stays the search's own (0 leaves it as it was).

    Raises:
        ConfigError: a share that is none.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share of the rescoring model must be from 0 to 1, found {share}")
    texts = [[text_of(one) for one in utterance] for utterance in readings]
    different = sorted({text for utterance in texts for text in utterance})
    known = dict(zip(different, model.score_sentences(different), strict=True))
    results = []
    for utterance, spelt in zip(readings, texts, strict=True):
        ranked = []
        for one, text in zip(utterance, spelt, strict=True):
            language = share * known[text] + (1 - share) * one.language_score
            score = one.emission_score + language_weight * language + word_score * _words(text)
            ranked.append(replace(one, language_score=language, score=score))
        ranked.sort(key=lambda one: -one.score)  # stable: equal ones stay as the search had them
        results.append(ranked)
    return results


def _words(text: str) -> int:
    """Words of a text; phonemes have `|` between them."""
    tokens = text.split()
    return tokens.count(BOUNDARY) + 1 if BOUNDARY in tokens else len(tokens)
