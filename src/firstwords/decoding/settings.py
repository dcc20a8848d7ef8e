"""How a beam search weighs and prunes, whichever search it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchSettings:
    """Weights and limits, all of them decided; fairseq's defaults where nothing else is said."""

    lm_weight: float = 2.0
    """Of log10 p(words) in the score."""
    word_score: float = -1.0
    """Added for each word."""
    unknown_score: float = -10.0
    """Added for each word outside the lexicon, besides the weighted p(<unk>), where the vocabulary is open. Ours."""
    silence_score: float = 0.0
    """Added at each frame that is read as a word boundary."""
    beam: int = 50
    """Hypotheses kept at each frame; the papers test with 1500 and an n-gram model."""
    beam_threshold: float = 50.0
    """Hypotheses are dropped that are this far below the best, in nats."""
    token_beam: int = 0
    """Labels that may go on at each frame, the likeliest; 0 for all."""
    log_add: bool = False
    """Sum the probabilities of all paths to a hypothesis instead of taking the best path's."""
    nbest: int = 1
    """Readings of each utterance."""
