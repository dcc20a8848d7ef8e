"""A sweep: a member alone is the member among others, losers stop without a trace, and a killed run goes on exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from firstwords.checkpoints.own import read_checkpoint
from firstwords.models.wav2vec_u import DiscriminatorConfig, GeneratorConfig, Wav2VecUConfig
from firstwords.training.adversarial import MOST_INFINITE, Sweep, sweep_batches
from firstwords.training.adversarial_config import AdversarialConfig, ChoiceConfig, GridConfig
from firstwords.training.matching import MatchingConfig
from firstwords.training.phone_choice import PhoneJudge
from firstwords.training.run import Run, read_log
from firstwords.training.sweep import SweepTraining
from firstwords.training.unpaired import Speech, Text, UnpairedBatches

CPU = torch.device("cpu")
PHONES = [f"p{n}" for n in range(6)] + ["<SIL>"]
ROUNDING = 1e-6
"""Between members computed one by one and side by side, or at another place in memory, after some updates."""
GRID = GridConfig(gradient=(1.5, 2.0), smoothness=(0.5,), diversity=(2.0, 4.0), auxiliary=(0.0,), seeds=(0, 1))
CONFIG = AdversarialConfig(
    grid=GRID,
    discriminator=DiscriminatorConfig(dim=16),
    batch=12,
    steps=30,
    choice=ChoiceConfig(validate_every=10, stop_after=(0.5,), keep=2),
    device="cpu",
    log_every=5,
    save_every=10,
)
SECOND = replace(
    CONFIG,
    generator=GeneratorConfig(kernel=5, stride=3, batch_norm=30.0, residual=True),
    grid=replace(GRID, auxiliary=(0.5,)),
)
"""As wav2vec-U 2.0."""


def sentences() -> list[list[str]]:
    random = np.random.default_rng(1)
    return [[PHONES[n] for n in random.integers(7, size=random.integers(4, 15))] for _ in range(60)]


def source(units: bool = False) -> UnpairedBatches:
    random = np.random.default_rng(0)
    lengths = random.integers(6, 20, 40)
    values = random.standard_normal((lengths.sum(), 5)).astype(np.float32)
    return UnpairedBatches(
        Speech(values, lengths, random.integers(4, size=lengths.sum()) if units else None),
        Text(sentences(), PHONES),
        CONFIG.batch,
    )


def shape(config: AdversarialConfig) -> Wav2VecUConfig:
    auxiliary = 4 if any(config.grid.auxiliary) else 0
    return Wav2VecUConfig(5, 4 + len(PHONES), config.generator, config.discriminator, auxiliary=auxiliary)


def trained(config: AdversarialConfig, updates: int = 12, stop: dict[int, list[int]] | None = None) -> Sweep:
    """A sweep after some updates; `stop` says which members stop before which update."""
    sweep, batches = Sweep(config, shape(config), CPU), source(any(config.grid.auxiliary))
    for update in range(updates):
        if stop and update in stop:
            sweep.stop([member for member in sweep.running if member.number in stop[update]], "stopped")
        sweep.update(update, sweep_batches(batches, sweep.seeds, update, CPU))
    return sweep


def close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=0, atol=ROUNDING * max(1.0, float(value.abs().max())))


def alone(config: AdversarialConfig, sweep: Sweep, number: int) -> AdversarialConfig:
    """The configuration of one member by itself."""
    member = sweep.members[number]
    own = member.penalties
    grid = GridConfig((own.gradient,), (own.smoothness,), (own.diversity,), (own.auxiliary,), (member.seed,))
    return replace(config, grid=grid)


@pytest.mark.parametrize("config", [CONFIG, SECOND], ids=["1.0", "2.0"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_member_alone_is_the_member_among_others(config: AdversarialConfig, at_once: int) -> None:
    sweep = trained(replace(config, members_at_once=at_once))
    for number in (0, 6):
        by_itself = trained(alone(config, sweep, number))
        close(by_itself.weights_of(by_itself.members[0]), sweep.weights_of(sweep.members[number]))


def test_members_differ() -> None:
    sweep = trained(CONFIG)
    weights = [sweep.weights_of(member)["discriminator.first.weight"] for member in sweep.members]
    for number, one in enumerate(weights):
        assert all(not torch.equal(one, other) for other in weights[:number])


@pytest.mark.parametrize("config", [CONFIG, SECOND], ids=["1.0", "2.0"])
def test_members_that_stop_change_nothing_for_others(config: AdversarialConfig) -> None:
    everyone, fewer = trained(config), trained(config, stop={4: [0, 5], 7: [1, 2, 3]})
    assert [member.number for member in fewer.running] == [4, 6, 7]
    assert fewer.members[5].until == 4
    for member in fewer.running:
        close(everyone.weights_of(everyone.members[member.number]), fewer.weights_of(member))


def test_each_network_learns_at_its_turn() -> None:
    sweep, batches = Sweep(CONFIG, shape(CONFIG), CPU), source()
    for update in range(4):
        before = {name: value.clone() for name, value in sweep.model.state_dict().items()}
        sweep.update(update, sweep_batches(batches, sweep.seeds, update, CPU))
        for name, value in sweep.model.state_dict().items():
            assert torch.equal(value, before[name]) == name.startswith("discriminator" if update % 2 == 0 else "gen")


def test_a_member_without_finite_gradients_fails_alone() -> None:
    sweep, batches = Sweep(CONFIG, shape(CONFIG), CPU), source()
    with torch.no_grad():
        sweep.model.generator.weight[2] = float("nan")
    for update in range(MOST_INFINITE):
        sweep.update(update, sweep_batches(batches, sweep.seeds, update, CPU))
    assert [member.number for member in sweep.failed()] == [2]
    assert all(torch.isfinite(p[0]).all() and torch.isfinite(p[3:]).all() for p in sweep.model.parameters())


def run_of(folder: Path, config: AdversarialConfig) -> SweepTraining:
    random = np.random.default_rng(5)
    lengths = random.integers(6, 20, 10)
    valid = Speech(
        random.standard_normal((lengths.sum(), 5)).astype(np.float32), lengths, ids=[f"v{n}" for n in range(10)]
    )
    run = Run(folder, "unsupervised", config, {})
    truth = {"v0": ["p0", "<SIL>", "p1"], "v3": ["p2"]}
    return SweepTraining(
        config,
        Sweep(config, shape(config), CPU),
        source(any(config.grid.auxiliary)),
        valid,
        PhoneJudge(sentences(), PHONES, "<SIL>"),
        run,
        truth,
        {"phones": PHONES},
    )


class Killed(Exception):
    """In place of a signal that nobody can catch."""


@pytest.mark.parametrize(("config", "killed_after"), [(CONFIG, 27), (SECOND, 13)], ids=["1.0", "2.0"])
def test_a_killed_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: AdversarialConfig, killed_after: int
) -> None:
    whole = run_of(tmp_path / "whole", config)
    whole.train()
    broken = run_of(tmp_path / "broken", config)
    update = Sweep.update

    def dying(self: Sweep, number: int, batches: Any) -> None:
        if number == killed_after:
            raise Killed
        update(self, number, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Sweep, "update", dying)
        with pytest.raises(Killed):
            broken.train()
    again = run_of(tmp_path / "broken", config)
    assert again.updates == killed_after // 10 * 10
    again.train()
    for name in ("last", "best"):
        left, right = (
            read_checkpoint(tmp_path / folder / f"{name}.safetensors", optimizer=True) for folder in ("whole", "broken")
        )
        assert left.state == right.state
        for part in ("weights", "optimizer"):
            mine, theirs = getattr(left, part), getattr(right, part)
            assert set(mine) == set(theirs)
            assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
    lines = [[r.get("valid_weighted") for r in read_log(tmp_path / folder)] for folder in ("whole", "broken")]
    assert lines[0] == lines[1]


def test_the_log_has_all_members_and_losers_stop(tmp_path: Path) -> None:
    training = run_of(tmp_path / "run", CONFIG)
    outcome = training.train()
    records = read_log(tmp_path / "run")
    looks = [record for record in records if "valid_members" in record]
    assert [len(record["valid_members"]) for record in looks] == [8, 8, 4]  # the worse half stops after the 20th
    assert all(len(record["valid_per"]) == len(record["valid_members"]) for record in looks)
    assert sum(member.state == "stopped" for member in training.sweep.members) == 4
    best = {member.number: member.best for member in training.sweep.members}
    kept = [best[m.number].weighted for m in training.sweep.running]  # type: ignore[union-attr]
    assert outcome.chosen is not None and outcome.verdict is not None and kept
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "finished" and status["chosen"] == outcome.chosen.number
    assert status["verdict"] == outcome.verdict.text


def test_labels_are_never_used(tmp_path: Path) -> None:
    with_truth, without = run_of(tmp_path / "with", CONFIG), run_of(tmp_path / "without", CONFIG)
    without.truth = None
    with_truth.train()
    without.train()
    left, right = (read_checkpoint(tmp_path / name / "best.safetensors") for name in ("with", "without"))
    assert left.state["member"]["number"] == right.state["member"]["number"]
    assert all(torch.equal(value, right.weights[name]) for name, value in left.weights.items())
    assert left.state["member"]["best"]["per"] is not None and right.state["member"]["best"]["per"] is None


class TestMatchedStart:
    CONFIG = replace(CONFIG, matching=MatchingConfig(restarts=1, discriminator_first=6))

    def test_members_of_a_seed_begin_with_what_was_found(self) -> None:
        def begin(seed: int, model: Any) -> None:
            model.generator.weight.data.fill_(float(seed + 1))

        sweep = Sweep(self.CONFIG, shape(self.CONFIG), CPU, begin)
        assert all(bool((sweep.weights_of(m)["generator.weight"] == m.seed + 1).all()) for m in sweep.members)

    def test_only_the_discriminator_learns_at_first(self) -> None:
        sweep, batches = Sweep(self.CONFIG, shape(self.CONFIG), CPU), source()
        first = sweep.weights_of(sweep.members[0])
        for update in range(7):
            before = sweep.weights_of(sweep.members[0])["generator.weight"]
            sweep.update(update, sweep_batches(batches, sweep.seeds, update, CPU))
            after = sweep.weights_of(sweep.members[0])
            assert torch.equal(after["generator.weight"], before) == (update < 6)
        assert not torch.equal(after["discriminator.first.weight"], first["discriminator.first.weight"])

    def test_the_start_is_judged(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "run", "unsupervised", self.CONFIG, {})
        batches = source()
        judge = PhoneJudge(sentences(), PHONES, "<SIL>")
        valid = Speech(batches.speech.values, batches.speech.lengths)
        training = SweepTraining(self.CONFIG, Sweep(self.CONFIG, shape(self.CONFIG), CPU), batches, valid, judge, run)
        training.train()
        judged = [record["update"] for record in read_log(tmp_path / "run") if "valid_weighted" in record]
        assert judged == [0, 10, 20, 30]
