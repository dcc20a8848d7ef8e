"""The Auto Segmentation Criterion (Collobert et al. 2016, section 2.3): CTC without a blank, with transition scores.

A path of one label a frame scores the sum of its emissions f_t(i) and of its transitions g(i, j), from j to i. The loss
of a target is the log sum over all paths less the log sum over those that spell it: each label for one frame or more,
in order. Nothing is normalised frame by frame.

Both sums run through time forwards and backwards at once (the backward one over reversed frames), for the whole batch,
and what they leave behind gives the gradient by a few products over all frames. They are computed in float64 with
numpy, whose calls on the small arrays of one frame cost a fifth of torch's.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Scale = Literal["none", "input", "input_sqrt", "target", "target_sqrt"]
"""What an utterance's loss is divided by: nothing, its T frames, their root, its L labels, their root."""
NEVER = -1e30
"""Log score of what cannot be; a sum of some of them is still a number."""


def asg_loss(
    emissions: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    transitions: Tensor,
    scale: Scale = "target_sqrt",
) -> Tensor:
    """The loss of each target, nats, (B,).

    Infinite, with no gradient, where a target has more labels than frames, or none.

    Args:
        emissions: (B, T, N), not normalised.
        lengths: (B,) valid frames.
        targets: (B, L) label indices, anything beyond their lengths; repeats stand for repeats.
        target_lengths: (B,) labels.
        transitions: (N, N), entry [i, j] for the step from j to i.
        scale: of an utterance's loss. wav2letter's TIMIT and WSJ recipes: "target_sqrt".
    """
    full = full_score(emissions, lengths, transitions)
    target = target_score(emissions, lengths, targets, target_lengths, transitions)
    return (full - target) * scales(scale, lengths, target_lengths).to(full)


def linear_loss(
    emissions: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    transitions: Tensor,
    scale: Scale = "target_sqrt",
) -> Tensor:
    """The same with one path for each target, in which all labels are equally long: a first guess to start from.

    Source: wav2letter's `linseg`.
    """
    steps = torch.arange(emissions.shape[1], device=emissions.device)
    places = steps * target_lengths[:, None] // lengths.clamp_min(1)[:, None]
    path = targets.gather(1, places.clamp_max(targets.shape[1] - 1))
    score = path_score(emissions, lengths, path, transitions)
    score = score.masked_fill(_impossible(lengths, target_lengths), -torch.inf)
    return (full_score(emissions, lengths, transitions) - score) * scales(scale, lengths, target_lengths).to(score)


def full_score(emissions: Tensor, lengths: Tensor, transitions: Tensor) -> Tensor:
    """Log sum over all paths, (B,); arguments as in `asg_loss`."""
    score: Tensor = _FullScore.apply(emissions, transitions, lengths)
    return score


def target_score(
    emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, transitions: Tensor
) -> Tensor:
    """Log sum over the paths that spell each target, (B,); arguments as in `asg_loss`."""
    score: Tensor = _TargetScore.apply(emissions, transitions, lengths, targets, target_lengths)
    return score


def path_score(emissions: Tensor, lengths: Tensor, path: Tensor, transitions: Tensor) -> Tensor:
    """Emissions and transitions along one path (B, T) of labels for each utterance, (B,)."""
    valid = torch.arange(path.shape[1], device=path.device) < lengths[:, None]
    heard = emissions.gather(2, path[:, :, None])[:, :, 0]
    moved = transitions[path[:, 1:], path[:, :-1]]
    return (heard * valid).sum(1) + (moved * valid[:, 1:]).sum(1)


def scales(scale: Scale, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """(B,) what each utterance's loss is multiplied by."""
    size = (lengths if scale.startswith("input") else target_lengths).double().clamp_min(1)
    if scale == "none":
        return torch.ones_like(size)
    return size.rsqrt() if scale.endswith("sqrt") else size.reciprocal()


def _impossible(lengths: Tensor, target_lengths: Tensor) -> Tensor:
    return (target_lengths > lengths) | (target_lengths < 1)


class _Score(torch.autograd.Function):
    """A score (B,) whose gradients (B, T, N) and (B, N, N) are known when it is."""

    @staticmethod
    def keep(ctx: Any, found: _Found, emissions: Tensor) -> Tensor:
        ctx.found = found
        return torch.from_numpy(found.score).to(emissions)

    @staticmethod
    def gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        found, weight = ctx.found, gradient.detach().cpu().double().numpy()
        weight = np.where(np.isfinite(found.score), weight, 0.0)
        frames = torch.from_numpy(found.frames * weight[:, None, None]).to(gradient)
        moves = torch.from_numpy(np.tensordot(weight, found.moves, 1)).to(gradient)
        return frames, moves


class _FullScore(_Score):
    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        return _Score.keep(ctx, _all_paths(*_arrays(emissions, transitions, lengths), wanted), emissions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Score.gradients(ctx, gradient), None


class _TargetScore(_Score):
    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        labels = _labels(targets, target_lengths)
        arrays = _arrays(emissions, transitions, lengths)
        return _Score.keep(ctx, _target_paths(*arrays, *labels, wanted), emissions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Score.gradients(ctx, gradient), None, None, None


class _Found(NamedTuple):
    score: np.ndarray
    """(B,)."""
    frames: np.ndarray
    """(B, T, N) gradient of each score with respect to emissions; (B, 0, 0) where nobody asked."""
    moves: np.ndarray
    """(B, N, N) and to transitions."""


def _arrays(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Emissions with the time first, (T, B, N), and transitions in float64; lengths."""
    heard = emissions.detach().cpu().double().transpose(0, 1).contiguous().numpy()
    return heard, transitions.detach().cpu().double().numpy(), lengths.detach().cpu().numpy()


def _labels(targets: Tensor, target_lengths: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Targets with 0 beyond their lengths, and those."""
    sizes = target_lengths.detach().cpu().numpy()
    inside = np.arange(targets.shape[1]) < sizes[:, None]
    return np.where(inside, targets.detach().cpu().numpy(), 0), sizes


def _both_ways(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(T, B, ...) to (T, 2, B, ...): as it is, and each utterance's frames in reversed order."""
    return np.stack([values, _reversed(values, lengths)], 1)


def _reversed(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(T, B, ...) with the frames of each utterance in reversed order."""
    steps = np.arange(len(values))[:, None]
    order = np.where(steps < lengths, lengths - 1 - steps, steps)
    return values[order, np.arange(values.shape[1])]


def _all_paths(emissions: np.ndarray, transitions: np.ndarray, lengths: np.ndarray, wanted: bool) -> _Found:
    """Over all paths. Linear scores, each frame's divided by their sum: from every label all others are one step away,
    so one that falls below the smallest number can never matter again."""
    frames, count, _ = emissions.shape
    loudest, likeliest = emissions.max(2, keepdims=True), transitions.max()
    heard, step = np.exp(emissions - loudest), np.exp(transitions - likeliest)
    if wanted:
        sounds, steps = _both_ways(heard, lengths), np.stack([step.T, step])
    else:
        sounds, steps = heard[:, None], step.T[None]
    scores = np.empty_like(sounds)
    sums = np.empty((*sounds.shape[:3], 1))
    now = sounds[0]
    for frame in range(frames):
        if frame:
            now = np.matmul(scores[frame - 1], steps)
            now *= sounds[frame]
        np.add.reduce(now, axis=2, keepdims=True, out=sums[frame])
        np.divide(now, sums[frame], out=scores[frame])
    inside = np.arange(frames)[:, None] < lengths
    score = (np.where(inside, np.log(sums[:, 0, :, 0]) + loudest[:, :, 0], 0.0)).sum(0) + likeliest * (lengths - 1)
    if not wanted:
        return _Found(score, np.empty((count, 0, 0)), np.empty((count, 0, 0)))
    before, after = scores[:, 0], _reversed(scores[:, 1], lengths)
    to_come = after[1:] @ step  # (T - 1, B, N): what can follow each label of a frame
    shares = before.copy()
    shares[:-1] *= np.where(inside[1:, :, None], to_come, 1.0)
    total = shares.sum(2, keepdims=True)
    shares /= total
    shares *= inside[:, :, None]
    weighed = np.where(inside[1:, :, None], after[1:], 0.0) / total[:-1]
    moves = (weighed.transpose(1, 2, 0) @ before[:-1].transpose(1, 0, 2)) * step
    return _Found(score, shares.transpose(1, 0, 2), moves)


def _target_paths(
    emissions: np.ndarray,
    transitions: np.ndarray,
    lengths: np.ndarray,
    targets: np.ndarray,
    sizes: np.ndarray,
    wanted: bool,
) -> _Found:
    """Over the paths that spell the targets, in the log domain: a label far behind may have to be caught up with.

    Backwards the last frame and the last label come first; one place before the first label is never reached.
    """
    frames, count, labels = emissions.shape
    ways, most = 1 + wanted, targets.shape[1]
    utterances = [(n, *pair) for n, pair in enumerate(zip(lengths.tolist(), sizes.tolist(), strict=True))]
    possible = [(n, length, size) for n, length, size in utterances if 1 <= size <= length]
    sounds = np.zeros((frames, ways, count, most))
    stays, moves_in = np.zeros((ways, count, most)), np.full((ways, count, most), NEVER)
    for n, length, size in possible:
        spelt = targets[n, :size]
        heard = emissions[:length, n][:, spelt]
        stay, move = transitions[spelt, spelt], transitions[spelt[1:], spelt[:-1]]
        for way, turn in enumerate((slice(None), slice(None, None, -1))[:ways]):
            sounds[:length, way, n, :size] = heard[turn, turn]
            stays[way, n, :size] = stay[turn]
            moves_in[way, n, 1:size] = move[turn]
    scores = np.full((frames, ways, count, most + 1), NEVER)
    scores[0, :, :, 1] = sounds[0, :, :, 0]
    for frame in range(1, frames):
        now = scores[frame - 1]
        np.logaddexp(now[..., 1:] + stays, now[..., :-1] + moves_in, out=scores[frame, ..., 1:])
        scores[frame, ..., 1:] += sounds[frame]
    score = np.full(count, -np.inf)
    for n, length, size in possible:
        score[n] = scores[length - 1, 0, n, size]
    if not wanted:
        return _Found(score, np.empty((count, 0, 0)), np.empty((count, 0, 0)))
    gradient, moves = np.zeros((count, frames, labels)), np.zeros((count, labels, labels))
    for n, length, size in possible:
        spelt, before = targets[n, :size], scores[: length - 1, 0, n]
        after = scores[: length - 1, 1, n, 1 : size + 1][::-1, ::-1] - score[n]
        stayed = np.exp(before[:, 1 : size + 1] + after + stays[0, n, :size])
        moved = np.exp(before[:, :size] + after + moves_in[0, n, :size])
        which = np.eye(labels)[spelt]
        gradient[n, 0, spelt[0]] = 1.0
        gradient[n, 1:length] = (stayed + moved) @ which
        np.add.at(moves[n], (spelt, spelt), stayed.sum(0))
        np.add.at(moves[n], (spelt[1:], spelt[:-1]), moved.sum(0)[1:])
    return _Found(score, gradient, moves)


def viterbi_path(emissions: Tensor, lengths: Tensor, transitions: Tensor) -> Tensor:
    """The best of all paths, (B, T) labels; beyond an utterance's frames its last label."""
    heard, moves, sizes = _arrays(emissions, transitions, lengths)
    frames, count, labels = heard.shape
    back = np.empty((frames, count, labels), dtype=np.int64)
    now = heard[0]
    for frame in range(1, frames):
        ways = now[:, None, :] + moves  # (B, to, from)
        back[frame] = ways.argmax(2)
        following = np.take_along_axis(ways, back[frame][:, :, None], 2)[:, :, 0] + heard[frame]
        over = frame >= sizes
        back[frame, over] = np.arange(labels)
        now = np.where(over[:, None], now, following)
    return torch.from_numpy(_followed(back, now.argmax(1))).to(emissions.device)


def forced_path(
    emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, transitions: Tensor
) -> Tensor:
    """The best path that spells each target, (B, T) labels; -1 throughout where there is none."""
    heard, moves, sizes = _arrays(emissions, transitions, lengths)
    labels, many = _labels(targets, target_lengths)
    frames = len(heard)
    stay = moves[labels, labels]
    step = np.full_like(stay, NEVER)
    step[:, 1:] = moves[labels[:, 1:], labels[:, :-1]]
    sounds = np.take_along_axis(heard, labels[None], 2)
    back = np.empty(sounds.shape, dtype=np.int64)
    places = np.arange(labels.shape[1])
    now = np.where(places == 0, sounds[0], NEVER)
    for frame in range(1, frames):
        stayed, moved = now + stay, np.roll(now, 1, 1) + step
        over = (frame >= sizes)[:, None]
        back[frame] = np.where((moved > stayed) & ~over, places - 1, places)
        now = np.where(over, now, np.maximum(stayed, moved) + sounds[frame])
    path = _followed(back, many.clip(1) - 1)
    path = np.take_along_axis(labels, path, 1)
    path[(many > sizes) | (many < 1)] = -1
    return torch.from_numpy(path).to(emissions.device)


def _followed(back: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The states (B, T) that lead to `last` (B,), from where each state (T, B, S) came from."""
    path = np.empty(back.shape[:2], dtype=np.int64)
    everyone = np.arange(back.shape[1])
    path[-1] = last
    for frame in range(len(back) - 1, 0, -1):
        path[frame - 1] = back[frame, everyone, path[frame]]
    return path.T.copy()
