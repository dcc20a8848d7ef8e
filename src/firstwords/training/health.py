"""Is a pre-training run learning? Two illnesses that users meet, recognised early and said in words."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

AT_CHANCE = 0.985
"""Share of the chance-level loss above which nothing has been learnt."""
FEW_CODES = 0.05
"""Share of all entries below which frames are told apart by too few codes, if that is easy."""
NOTABLE = 0.1
"""Share of frames without a distractor from which it is worth a sentence."""
MOSTLY = 0.9
"""Share of frames without a distractor from which nothing else is left to judge."""
FIRST_LOOK = 40
"""Updates before anything is said about chance level."""

Verdict = Literal["healthy", "at chance", "stuck", "collapsed"]


@dataclass
class Health:
    """Watches the curves of a pre-training run.

    Args:
        patience: updates after which a loss still at chance level counts as stuck; healthy runs of a recipe leave it
            well before.
        codebooks: G, the lowest possible code perplexity, summed over codebooks; 0 where targets are continuous.
        entries: G V, the highest possible one.
    """

    patience: int
    codebooks: int
    entries: int = 0
    verdict: Verdict = "healthy"
    _lowest: float = float("inf")
    _recent: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=3))
    _told: bool = False

    def look(
        self, update: int, bits: float, chance: float, accuracy: float, perplexity: float, unopposed: float = 0.0
    ) -> str | None:
        """Takes one interval's averages; returns a sentence when the verdict changes.

        Frames without a distractor are solved by themselves, so the verdict is about the others: they alone are
        compared with chance level.

        Args:
            update: updates so far.
            bits: contrastive loss in bits.
            chance: its value for guessing, log2(K + 1).
            accuracy: share of frames whose target was found.
            perplexity: code perplexity, summed over codebooks.
            unopposed: share of frames all of whose distractors had the target's codes and were left out.
        """
        before = self.verdict
        all_bits = bits
        if unopposed < MOSTLY:  # with more of them the figures as they are say enough: a collapse
            bits, accuracy = bits / (1 - unopposed), max(0.0, accuracy - unopposed) / (1 - unopposed)
        self._recent.append((bits, accuracy, perplexity))
        self._lowest = min(self._lowest, bits / chance)
        self.verdict = self._judge(update, bits, chance, accuracy, perplexity)
        said = [] if self.verdict == before else [self._say(update, bits, chance, accuracy, perplexity, before)]
        if not self._told and NOTABLE < unopposed < MOSTLY and update >= FIRST_LOOK:
            self._told = True
            said.append(
                f"{unopposed:.0%} of the frames have no distractor left, as their recordings have the same codes "
                f"throughout: silent or constant ones (firstwords audit names them). They count as solved, so that the "
                f"loss of {all_bits:.2f} bits looks better than it is: without them {bits:.2f} of {chance:.2f} bits."
            )
        return " ".join(said) or None

    def _judge(self, update: int, bits: float, chance: float, accuracy: float, perplexity: float) -> Verdict:
        ill = self.verdict == "collapsed"  # a collapsed run wavers; it is well only when clearly better
        fewest = max(1.5 * self.codebooks, FEW_CODES * self.entries) * (2 if ill else 1)
        few_codes = bool(self.codebooks) and perplexity < fewest
        too_easy = accuracy > (0.3 if ill else 0.5) or bits < 0.1 * chance
        if update >= FIRST_LOOK // 2 and few_codes and too_easy:
            return "collapsed"
        if not self.codebooks and update >= FIRST_LOOK and accuracy > 0.99:
            return "collapsed"
        if update >= FIRST_LOOK and all(loss > AT_CHANCE * chance for loss, _, _ in self._recent):
            return "stuck" if update >= self.patience else "at chance"
        return "healthy"

    def _say(self, update: int, bits: float, chance: float, accuracy: float, perplexity: float, before: Verdict) -> str:
        if self.verdict == "collapsed":
            codes = f" with {perplexity:.1f} codes in use (the fewest possible: {self.codebooks})"
            codes = codes if self.codebooks else ""
            return (
                f"COLLAPSED after {update} updates: accuracy {accuracy:.2f}{codes}; the loss of "
                f"{bits:.2f} bits means nothing any more. Mend: more audio per update (training.batch_seconds), a "
                "lower rate (training.schedule.peak) or a longer warm-up; look for constant, silent or repeated "
                "recordings (firstwords audit). Start again in a new folder."
            )
        if self.verdict != "healthy" and self._lowest < AT_CHANCE - 0.03:
            return (
                f"FELL BACK to chance level after {update} updates: {bits:.2f} of {chance:.2f} bits, after "
                f"{self._lowest * chance:.2f}. Mend: a lower rate (training.schedule.peak), more audio per update "
                "(training.batch_seconds), or training.optimizer.clip_norm 1; best.safetensors is from before."
            )
        if self.verdict == "stuck":
            return (
                f"STUCK at chance level after {update} updates: {bits:.2f} of {chance:.2f} bits; nothing is being "
                "learnt. Mend: check that the learning rate is not near 0 and not far too high "
                "(training.schedule.peak), give more audio per update (training.batch_seconds), and look at the data "
                "(firstwords audit)."
            )
        if self.verdict == "at chance":
            return (
                f"at chance level after {update} updates: {bits:.2f} of {chance:.2f} bits. Runs of this recipe may "
                f"need up to {self.patience} updates to leave it; if this one has not by then, raise "
                "training.schedule.peak or training.batch_seconds, and look at the data (firstwords audit)."
            )
        return f"healthy again after {update} updates (was: {before}): {bits:.2f} bits, chance is {chance:.2f}."
