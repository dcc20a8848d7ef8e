"""Many wav2vec-U models trained at once: the members of a sweep, each with its own penalties, seed and optimisers.

Weights of all running members lie in one tensor for each parameter, members first; optimisers, gradient norms and the
networks work on all of them together. What a member reads, drops and draws follows from (its seed, update), so that a
member alone is the same member, and one that stops changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from firstwords.losses.adversarial import discriminator_losses, generator_losses
from firstwords.models.wav2vec_u import SPECIALS, Wav2VecU, Wav2VecUConfig
from firstwords.nn.dropout import kept, scale
from firstwords.training.adversarial_config import AdamConfig, AdversarialConfig, Penalties
from firstwords.training.phone_choice import Judgement
from firstwords.training.unpaired import Speech, UnpairedBatch, UnpairedBatches

MOST_INFINITE = 20
"""Updates in a row without finite gradients after which a member has failed."""
EVALUATED_AT_ONCE = 64
"""Utterances of the valid split in one computation."""


@dataclass
class Member:
    """One member of a sweep, running or not."""

    number: int
    """From 0, in the order of the grid."""
    seed: int
    penalties: Penalties
    state: Literal["running", "stopped", "failed"] = "running"
    """"stopped": others were better; "failed": its gradients were not finite any more."""
    until: int = 0
    """Updates that it has had."""
    best: Judgement | None = None
    """Its best moment, by weighted perplexity."""
    infinite: int = 0
    """Updates in a row without finite gradients."""

    def __str__(self) -> str:
        return f"member {self.number} (seed {self.seed}, {self.penalties})"


@dataclass
class _Part:
    """Members of one seed that are computed together: views into the weights of all."""

    model: Wav2VecU
    members: slice
    seed: int
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Each penalty's weights, (m,)."""


class Sweep:
    """The networks and optimisers of all running members.

    Args:
        config: the grid and everything else.
        shape: of one member's networks.
        device: where they are.
        begin: changes the weights of a new model before its seed's members start with them.
    """

    def __init__(
        self,
        config: AdversarialConfig,
        shape: Wav2VecUConfig,
        device: torch.device,
        begin: Callable[[int, Wav2VecU], None] | None = None,
    ) -> None:
        self.config, self.shape, self.device = config, shape, device
        self.members = [Member(number, *chosen) for number, chosen in enumerate(config.grid.members())]
        self.running = list(self.members)
        """Members in the order of the weights; those of a seed stand together."""
        models = {}
        for seed in config.grid.seeds:
            torch.manual_seed(seed)
            models[seed] = Wav2VecU(shape)
            if begin is not None:
                begin(seed, models[seed])
        self._hold(Wav2VecU.stacked([models[member.seed] for member in self.running]).to(device))
        self.sums: dict[str, Tensor] = {}
        """Losses since they were last taken, (M,) each; and the updates that brought them."""
        self.counts: dict[str, int] = {}

    def _hold(self, model: Wav2VecU, states: Sequence[dict[str, Tensor]] = ({}, {})) -> None:
        """Takes weights, and moments of the two optimisers, as those of the running members."""
        self.model = model
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        networks = ([], [])  # type: tuple[list[tuple[str, torch.nn.Parameter]], list[tuple[str, torch.nn.Parameter]]]
        for name, parameter in model.named_parameters():
            networks[name.startswith("discriminator.")].append((name, parameter))
        self.optimizers = [
            _adam(parameters, settings, state, self.device)
            for parameters, settings, state in zip(
                networks, (self.config.generator_optimizer, self.config.discriminator_optimizer), states, strict=True
            )
        ]
        self.networks = networks
        most = self.config.members_at_once or (1 if self.device.type == "cpu" else len(self.running))
        self.parts = []
        begin = 0
        for seed, group in groupby(self.running, key=lambda member: member.seed):
            end = begin + len(list(group))
            for first in range(begin, end, most):
                self.parts.append(self._part(slice(first, min(first + most, end)), seed))
            begin = end

    def _part(self, members: slice, seed: int) -> _Part:
        model = self.model.part(members)
        whole = dict(self.model.named_parameters())
        for name, parameter in model.named_parameters():
            parameter.grad = whole[name].grad[members]  # type: ignore[index]
        penalties = [member.penalties for member in self.running[members]]
        names = ("gradient", "smoothness", "diversity", "auxiliary")
        weights = {name: torch.tensor([getattr(one, name) for one in penalties], device=self.device) for name in names}
        return _Part(model, members, seed, weights)

    @property
    def seeds(self) -> list[int]:
        """Of the running members."""
        return list(dict.fromkeys(member.seed for member in self.running))

    def update(self, number: int, batches: dict[int, UnpairedBatch]) -> None:
        """One update of every running member: the generator if `number` is even, else the discriminator.

        Args:
            number: updates done before.
            batches: what each seed reads.
        """
        first = self.config.matching.discriminator_first if self.config.matching.restarts else 0
        generating = number % 2 == 0 and number >= first
        for parameter in self.model.parameters():
            parameter.grad.zero_()  # type: ignore[union-attr]
        self.model.train()
        drawn = {seed: self._draw(seed, number, batch) for seed, batch in batches.items()}
        for part in self.parts:
            part.model.train()
            batch, (features, masks, steps, shares) = batches[part.seed], drawn[part.seed]
            generated, joined = part.model.generate(features, batch.lengths, steps, masks)
            weights = part.weights
            if generating:
                found = generator_losses(
                    part.model.discriminator, generated, joined, batch.targets, part.model.auxiliary
                )
                loss = found.adversarial + weights["diversity"] * found.diversity
                loss = loss + weights["smoothness"] * found.smoothness
                if part.model.auxiliary is not None:
                    loss = loss + weights["auxiliary"] * found.auxiliary
                told = {
                    "deceiving": found.adversarial, "diversity": found.diversity, "smoothness": found.smoothness,
                }  # fmt: skip
                told |= {} if part.model.auxiliary is None else {"auxiliary": found.auxiliary}
                self._add(part, told, len(batch.lengths))
                self._add(part, {"choices": found.choices, "probabilities": found.probabilities}, 1)
            else:
                judged = discriminator_losses(
                    part.model.discriminator, joined, batch.tokens, batch.text_lengths, shares
                )
                loss = judged.generated + judged.text + weights["gradient"] * judged.penalty
                self._add(
                    part,
                    {"told_generated": judged.generated, "told_text": judged.text, "penalty": judged.penalty},
                    len(batch.lengths),
                )
            loss.sum().backward()
        self._step(generating, next(iter(batches.values())))

    def _draw(self, seed: int, number: int, batch: UnpairedBatch) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor]:
        """Features, dropout masks, and draws of the segmenter and of the gradient penalty."""
        first = int(np.random.SeedSequence((seed, number, 2)).generate_state(1, np.uint64)[0] >> 1)
        source = torch.Generator(self.device).manual_seed(first)
        rows, steps, _ = batch.features.shape
        features, masks = batch.features, ()  # type: Tensor, tuple[Tensor, ...]
        if probability := self.shape.generator.dropout:
            size = batch.features.shape
            if self.shape.generator.batch_norm or self.shape.generator.residual:
                masks = tuple(_mask(size, probability, source) for _ in range(1 + self.shape.generator.residual))
            else:  # one dropout of the input, which all members of the seed share
                features = features * _mask(size, probability, source)
        draws = torch.rand(rows, steps + 1, generator=source, device=self.device)
        return features, masks, draws, torch.rand(rows, generator=source, device=self.device)

    def _add(self, part: _Part, values: dict[str, Tensor], divisor: int) -> None:
        for name, value in values.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros(len(self.running), device=self.device)
                self.counts[name] = 0
            self.sums[name][part.members] += value.detach() / divisor
            self.counts[name] += part is self.parts[0]

    def _step(self, generating: bool, batch: UnpairedBatch) -> None:
        """Clips each member's gradients, those of both networks together, and steps one of them."""
        rows = len(batch.lengths)
        squares = [p.grad.flatten(1).square().sum(1) for p in self.model.parameters() if p.grad is not None]
        norms = torch.stack(squares).sum(0).sqrt() / rows
        factor = (self.config.clip_norm / (norms + 1e-6)).clamp(max=1) / rows
        finite = torch.isfinite(norms)
        self._add_norms(norms, finite)
        for _, parameter in self.networks[not generating]:
            gradient = parameter.grad
            assert gradient is not None
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
        if not bool(finite.all()):
            for _, parameter in self.networks[not generating]:
                parameter.grad[~finite] = 0  # type: ignore[index]
        self.optimizers[not generating].step()
        for member, fine in zip(self.running, finite.tolist(), strict=True):
            member.until += 1
            member.infinite = 0 if fine else member.infinite + 1

    def _add_norms(self, norms: Tensor, finite: Tensor) -> None:
        self.sums["norm"] = self.sums.get("norm", torch.zeros_like(norms)) + torch.where(finite, norms, 0)
        self.counts["norm"] = self.counts.get("norm", 0) + 1

    def take(self) -> dict[str, list[float]]:
        """Mean losses of the running members since the last call, per utterance."""
        means = {name: (value / max(1, self.counts[name])).tolist() for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def failed(self) -> list[Member]:
        """Running members whose gradients have not been finite for long."""
        return [member for member in self.running if member.infinite >= MOST_INFINITE]

    def stop(self, members: Sequence[Member], state: Literal["stopped", "failed"]) -> None:
        """Takes members out of the computation."""
        for member in members:
            member.state = state
        kept_places = [n for n, member in enumerate(self.running) if member.state == "running"]
        if len(kept_places) == len(self.running):
            return
        chosen = torch.tensor(kept_places, dtype=torch.long, device=self.device)
        states = [{name: v[chosen] if v.dim() else v for name, v in one.items()} for one in self.optimizer_states()]
        self.running = [self.running[place] for place in kept_places]
        self.sums = {name: value[chosen] for name, value in self.sums.items()}
        if self.running:
            self._hold(self.model.part(chosen), states)

    def weights_of(self, member: Member) -> dict[str, Tensor]:
        """A copy of a running member's weights, as a model of one has them."""
        place = self.running.index(member)
        return {name: value[place : place + 1].clone() for name, value in self.model.state_dict().items()}

    def optimizer_states(self) -> list[dict[str, Tensor]]:
        """Of generator and discriminator: "parameter/moment" of all running members."""
        states = []
        for optimizer, parameters in zip(self.optimizers, self.networks, strict=True):
            found = optimizer.state_dict()["state"]
            states.append({
                f"{parameters[number][0]}/{kind}": value for number, one in found.items() for kind, value in one.items()
            })  # fmt: skip
        return states

    def restore(self, weights: dict[str, Tensor], states: Sequence[dict[str, Tensor]], members: list[Member]) -> None:
        """Puts a sweep that was saved in place."""
        self.members = members
        self.running = [member for member in members if member.state == "running"]
        if self.running:
            self._hold(Wav2VecU.holding(self.shape, {k: v.to(self.device) for k, v in weights.items()}), states)

    @torch.no_grad()
    def hear(self, speech: Speech, most: int) -> list[list[list[int]]]:
        """What each running member says of the first `most` utterances: ids of phones from 0, specials left out."""
        said: list[list[list[int]]] = [[[]] * min(most, len(speech)) for _ in self.running]
        order = np.argsort(speech.lengths[:most], kind="stable")
        for first in range(0, len(order), EVALUATED_AT_ONCE):
            chosen = order[first : first + EVALUATED_AT_ONCE]
            features, lengths, _ = speech.batch(chosen, self.device)
            for part in self.parts:
                part.model.eval()
                _, joined = part.model.generate(features, lengths)
                choices, counts = joined.logits.argmax(-1).cpu().numpy(), joined.lengths.cpu().numpy()
                for member in range(len(choices)):
                    for row, place in enumerate(chosen):
                        ids = choices[member, row, : counts[member, row]]
                        said[part.members.start + member][place] = (ids[ids >= len(SPECIALS)] - len(SPECIALS)).tolist()
        return said


def sweep_batches(source: UnpairedBatches, seeds: Sequence[int], update: int, device: torch.device) -> dict[int, Any]:
    """What each seed reads at an update."""
    return {seed: source.batch(seed, update, device) for seed in seeds}


def _mask(size: torch.Size, probability: float, source: torch.Generator) -> Tensor:
    """What dropout multiplies by."""
    if source.device.type == "cpu":
        return kept(size, probability, source) * scale(probability)
    return (torch.rand(size, generator=source, device=source.device) >= probability) / (1 - probability)


def _adam(
    parameters: Sequence[tuple[str, torch.nn.Parameter]],
    settings: AdamConfig,
    state: dict[str, Tensor],
    device: torch.device,
) -> torch.optim.AdamW:
    """An optimiser of some parameters, going on from a state."""
    first, second = settings.betas
    optimizer = torch.optim.AdamW(
        [parameter for _, parameter in parameters],
        lr=settings.rate,
        betas=(first, second),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if state:
        names = [name for name, _ in parameters]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, kind = key.rsplit("/", 1)
            moments.setdefault(names.index(name), {})[kind] = value.to(device)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return optimizer
