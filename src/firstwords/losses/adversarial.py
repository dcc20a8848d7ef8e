"""The losses of wav2vec-U (section 3.4, equations 4 to 7), as the released code computes them.

Odd updates train the discriminator, even ones the generator. All losses are sums over the batch, (M,) for M members;
gradients are divided by the utterances of the batch. The discriminator says 1 of what was generated, 0 of text.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.models.wav2vec_u import Discriminator, Generated
from firstwords.nn.lengths import length_mask
from firstwords.nn.quantizer import perplexity
from firstwords.nn.segmenters import Joined

IGNORED = -1
"""Auxiliary target of frames that have none."""


class GeneratorLosses(NamedTuple):
    """(M,) each."""

    adversarial: Tensor
    """Cross-entropy of taking what was generated for text."""
    diversity: Tensor
    """B (V - perplexity of the mean distribution) / V, not weighted."""
    smoothness: Tensor
    """B times the mean squared difference of logits one step apart, not weighted."""
    auxiliary: Tensor
    """B times the mean cross-entropy of the auxiliary targets, 0 for frames without one; not weighted."""
    score: Tensor
    """Mean score of what was generated."""
    choices: Tensor
    """Perplexity of the symbols that were chosen."""
    probabilities: Tensor
    """Perplexity of the mean distribution."""


class DiscriminatorLosses(NamedTuple):
    """(M,) each."""

    generated: Tensor
    """Cross-entropy of what was generated."""
    text: Tensor
    """Cross-entropy of text."""
    penalty: Tensor
    """Gradient penalty, not weighted."""


def distributions(joined: Joined) -> Tensor:
    """(M, B, R, V): softmax; uniform beyond a row's end, where logits are 0."""
    return joined.logits.softmax(-1)


def one_hot(tokens: Tensor, symbols: int) -> Tensor:
    """(B, T) ids to (1, B, T, V); padding is a symbol too."""
    return F.one_hot(tokens, symbols).to(torch.float32)[None]


def generator_losses(
    discriminator: Discriminator,
    generated: Generated,
    joined: Joined,
    targets: Tensor | None = None,
    auxiliary: torch.nn.Module | None = None,
) -> GeneratorLosses:
    """The generator's losses (equations 5 to 7).

    Args:
        discriminator: of the same members.
        generated, joined: what the generator and the segmenter made of a batch.
        targets: (B, T or less) units of each frame for `auxiliary` to tell, IGNORED where there is none.
        auxiliary: the layer that tells them from `generated.inner`.
    """
    fake = distributions(joined)
    scores = discriminator(fake, joined.lengths)
    rows = scores.shape[1]
    counted, soft, hard = _mean_use(joined, fake)
    # Differences with steps beyond a row's end are 0 and count in the mean, up to the steps of the member's batch.
    inside = length_mask(joined.lengths.flatten() - 1, fake.shape[2] - 1).view(len(fake), rows, -1, 1)
    differences = ((joined.logits[:, :, :-1] - joined.logits[:, :, 1:]) * inside).square().sum((1, 2, 3))
    elements = rows * (joined.sizes - 1).clamp(min=1) * fake.shape[-1]
    told = scores.new_zeros(len(scores))
    if targets is not None and auxiliary is not None and generated.inner is not None:
        frames = min(targets.shape[1], generated.inner.shape[2])
        logits = auxiliary(generated.inner[:, :, :frames])
        wanted = targets[:, :frames].expand(len(logits), -1, -1)
        nats = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), ignore_index=IGNORED, reduction="none")
        told = rows * nats.view(len(logits), -1).mean(1)
    return GeneratorLosses(
        _cross_entropy(scores, 0.0),
        rows * (counted - soft) / counted,
        rows * differences / elements,
        told,
        scores.detach().mean(1),
        hard,
        soft.detach(),
    )


def discriminator_losses(
    discriminator: Discriminator, joined: Joined, tokens: Tensor, text_lengths: Tensor, draws: Tensor
) -> DiscriminatorLosses:
    """The discriminator's losses (equations 4 and 5).

    Text and generated sequences go through its linear part once: for the points between them, where the gradient is
    penalised, that part's output is the same mixture of theirs.

    Args:
        discriminator: of the members.
        joined: what their generators and the segmenter made of a batch.
        tokens: (B, T') text drawn at random, PAD beyond the lengths.
        text_lengths: (B,).
        draws: (B,), uniform in [0, 1): share of the text in each point between.
    """
    members, symbols = len(joined.logits), joined.logits.shape[-1]
    fake = distributions(joined)
    kernel = discriminator.kernel()
    hidden_fake = discriminator.hidden(fake, kernel)
    hidden_text = discriminator.hidden(one_hot(tokens, symbols).to(fake).expand(members, -1, -1, -1), kernel)
    generated = _cross_entropy(discriminator.scores(hidden_fake, joined.lengths), 1.0)
    text = _cross_entropy(discriminator.scores(hidden_text, text_lengths.expand(members, -1)), 0.0)
    sizes = joined.sizes.clamp(max=tokens.shape[1])
    steps = min(hidden_fake.shape[2], hidden_text.shape[2])
    between = torch.lerp(hidden_fake[:, :, :steps], hidden_text[:, :, :steps], draws[:, None, None])
    gradient = discriminator.input_gradient(between, kernel[0], sizes)
    # The norm is over time, for each utterance and symbol. Source: the released code, which its weight was chosen for.
    penalty = (torch.linalg.vector_norm(gradient, dim=2) - 1).square().sum((1, 2))
    return DiscriminatorLosses(generated, text, penalty)


def _cross_entropy(scores: Tensor, label: float) -> Tensor:
    """(M, B) to (M,), summed over the batch."""
    wanted = torch.full_like(scores, label)
    return F.binary_cross_entropy_with_logits(scores, wanted, reduction="none").sum(1)


def _mean_use(joined: Joined, fake: Tensor) -> tuple[int, Tensor, Tensor]:
    """V, and the perplexities (M,) of the mean distribution and of the choices, padding counted in both."""
    members, rows, steps, symbols = fake.shape
    counted = length_mask(joined.sizes, steps)[:, None, :, None]
    soft = perplexity((fake * counted).sum((1, 2)))
    with torch.no_grad():
        hard = torch.zeros(members, symbols, device=fake.device)
        chosen = joined.logits.argmax(-1).flatten(1)
        hard.scatter_add_(1, chosen, counted[..., 0].expand(-1, rows, -1).flatten(1).to(hard))
    return symbols, soft, perplexity(hard)
