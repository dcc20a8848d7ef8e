"""Phone HMMs with Gaussian mixtures: what wav2vec-U trains on its own output (section 4.4; Kaldi there, torch here).

Each phone is one state, silence three in a row (the published recipe). A state's frames come from a mixture of
Gaussians with diagonal covariances. Between any two phones, and at both ends, there may be a silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from firstwords.errors import CheckpointError
from firstwords.nn.fitted import read_fitted, write_fitted
from firstwords.nn.gaussians import log_densities

SILENCE_STATES = 3
BLOCK = SILENCE_STATES + 1
"""States of a phone with the silence before it."""
KIND = "phone HMM"
_NEVER = -1e30


@dataclass(frozen=True)
class PhoneHMM:
    """S states with K Gaussians each; state p is phone p, the last three are the silence's."""

    phones: tuple[str, ...]
    """Silence last."""
    means: Tensor
    """(S, K, D)."""
    variances: Tensor
    """(S, K, D)."""
    log_weights: Tensor
    """(S, K); -inf for Gaussians that a state does not have."""
    log_stay: Tensor
    """(S,) of another frame in the same state."""
    log_leave: Tensor
    """(S,)."""

    @property
    def states(self) -> int:
        """S."""
        return len(self.means)

    def components(self, x: Tensor) -> Tensor:
        """Frames (N, D) to log weight x density of each Gaussian, (N, S, K)."""
        values = log_densities(x, self.means.flatten(0, 1), self.variances.flatten(0, 1), self.log_weights.flatten())
        return values.view(len(x), *self.log_weights.shape)

    def state_scores(self, x: Tensor) -> Tensor:
        """Frames (N, D) to the log density of each state, (N, S)."""
        return self.components(x).logsumexp(2)

    def phone_scores(self, x: Tensor) -> Tensor:
        """Frames (N, D) to (N, P): of silence the likeliest of its states."""
        scores = self.state_scores(x)
        spoken = len(self.phones) - 1
        return torch.cat([scores[:, :spoken], scores[:, spoken:].amax(1, keepdim=True)], 1)

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Raises CheckpointError."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        write_fitted(path, KIND, tensors, {"phones": list(self.phones)})

    @staticmethod
    def load(path: Path) -> PhoneHMM:
        """What `save` wrote. Raises CheckpointError."""
        tensors, about = read_fitted(path, KIND)
        try:
            return PhoneHMM(tuple(about["phones"]), *(tensors[name] for name in _TENSORS))
        except KeyError as error:
            raise CheckpointError(f"{path}: a phone HMM without its {error}") from error


_TENSORS = ("means", "variances", "log_weights", "log_stay", "log_leave")


class Chains(NamedTuple):
    """The states that utterances go through, side by side: silence, phone, silence, ..., phone, silence."""

    states: Tensor
    """(B, L) numbers of states, 0 beyond."""
    lengths: Tensor
    """(B,) 4 x phones + 3."""


def chains_of(labels: Sequence[Sequence[int]], phones: int) -> Chains:
    """Chains for sequences of phone numbers without silences.

    Args:
        phones: P, silence counted.
    """
    silence = torch.arange(phones - 1, phones - 1 + SILENCE_STATES)
    rows = []
    for one in labels:
        blocks = torch.cat([silence.expand(len(one), -1), torch.tensor(one, dtype=torch.long)[:, None]], 1)
        rows.append(torch.cat([blocks.flatten(), silence]))
    return Chains(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))


def _arrivals(chains: Chains, hmm: PhoneHMM) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L) log probabilities of staying at a place, of coming from the place before, of jumping over a silence."""
    stay, leave = hmm.log_stay[chains.states], hmm.log_leave[chains.states]
    places = torch.arange(chains.states.shape[1])
    phone = places % BLOCK == SILENCE_STATES
    half = math.log(0.5)
    step = torch.full_like(stay, _NEVER)
    step[:, 1:] = leave[:, :-1]
    step = step + torch.where(places % BLOCK == 0, half, 0.0)  # a phone's end, then a silence or none
    jump = torch.full_like(stay, _NEVER)
    jump[:, BLOCK:] = leave[:, :-BLOCK] + half
    jump = torch.where(phone, jump, torch.full_like(jump, _NEVER))
    return stay, step, jump


def _shifted(values: Tensor, by: int) -> Tensor:
    """(B, L) with every value `by` places later, nothing before."""
    out = torch.full_like(values, _NEVER)
    if by < values.shape[1]:
        out[:, by:] = values[:, :-by]
    return out


def _start(emissions: Tensor) -> Tensor:
    """(B, L): the first frame is silence or the first phone."""
    first = torch.full_like(emissions[:, 0], _NEVER)
    first[:, [0, SILENCE_STATES]] = emissions[:, 0, [0, SILENCE_STATES]] + math.log(0.5)
    return first


def _ends(chains: Chains) -> Tensor:
    """(B, 2) places that an utterance may end at: the last phone, the end of the last silence."""
    return torch.stack([chains.lengths - BLOCK, chains.lengths - 1], 1)


def viterbi(emissions: Tensor, lengths: Tensor, chains: Chains, hmm: PhoneHMM) -> tuple[Tensor, Tensor]:
    """The likeliest path of each utterance.

    Args:
        emissions: (B, T, L) log density of each frame at each place of the chain.
        lengths: (B,) frames; at least as many as phones.

    Returns:
        (B, T) places, -1 beyond; (B,) log probabilities.
    """
    stay, step, jump = _arrivals(chains, hmm)
    scores = _start(emissions)
    back = []
    finals = scores.clone()
    for time in range(1, emissions.shape[1]):
        ways = torch.stack([scores + stay, _shifted(scores, 1) + step, _shifted(scores, BLOCK) + jump])
        best, which = ways.max(0)
        scores = best + emissions[:, time]
        back.append(which.to(torch.int8))
        finals = torch.where((time < lengths)[:, None], scores, finals)
    ends = _ends(chains)
    total, chosen = finals.gather(1, ends).max(1)
    place = ends.gather(1, chosen[:, None])[:, 0]
    path = torch.full(emissions.shape[:2], -1, dtype=torch.long)
    steps = torch.tensor([0, 1, BLOCK])
    for time in range(emissions.shape[1] - 1, -1, -1):
        inside = time < lengths
        path[inside, time] = place[inside]
        if time:
            moved = place - steps[back[time - 1].gather(1, place[:, None])[:, 0].long()]
            place = torch.where(inside, moved, place)
    return path, total


def posteriors(emissions: Tensor, lengths: Tensor, chains: Chains, hmm: PhoneHMM) -> tuple[Tensor, Tensor]:
    """Forward-backward: (B, T, L) probability of each place at each frame, 0 beyond; (B,) log probabilities."""
    stay, step, jump = _arrivals(chains, hmm)
    frames = emissions.shape[1]
    forward = [_start(emissions)]
    for time in range(1, frames):
        before = forward[-1]
        ways = torch.stack([before + stay, _shifted(before, 1) + step, _shifted(before, BLOCK) + jump])
        forward.append(ways.logsumexp(0).clamp_min(_NEVER) + emissions[:, time])
    ending = torch.full_like(forward[0], _NEVER)
    ending.scatter_(1, _ends(chains), 0.0)
    backward = ending
    found: list[Tensor] = []
    for time in range(frames - 1, -1, -1):
        if time < frames - 1:
            after = backward + emissions[:, time + 1]
            ways = torch.stack([after + stay, _earlier(after + step, 1), _earlier(after + jump, BLOCK)])
            backward = torch.where((time < lengths - 1)[:, None], ways.logsumexp(0).clamp_min(_NEVER), ending)
        found.append(forward[time] + backward)
    together = torch.stack(found[::-1], 1)
    total = torch.stack(forward, 1).gather(1, (lengths - 1)[:, None, None].expand(-1, 1, emissions.shape[2]))[:, 0]
    total = total.gather(1, _ends(chains)).logsumexp(1)
    inside = torch.arange(frames) < lengths[:, None]
    return (together - total[:, None, None]).exp() * inside[..., None], total


def _earlier(values: Tensor, by: int) -> Tensor:
    """(B, L) with every value `by` places earlier."""
    out = torch.full_like(values, _NEVER)
    if by < values.shape[1]:
        out[:, :-by] = values[:, by:]
    return out
