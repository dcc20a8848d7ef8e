"""Configurations: strict, the same from Python, YAML and the command line, and wrong ones are told what is right."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from firstwords import cli
from firstwords.config import from_dict, read_yaml, to_dict, write_yaml
from firstwords.errors import ConfigError
from firstwords.recipes import load_recipe, recipe_names
from firstwords.training.config import OptimizerConfig, ScheduleConfig, TrainingConfig, check_training
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.objectives import pretraining_recipe
from firstwords.training.pretrain import PretrainConfig

CONFIGS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    kind: Literal["warm", "cold"] = "warm"


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    steps: int = 3
    loud: bool = False
    name: str | None = None
    limit: float | None = 1.0
    folder: Path = Path(".")


def outer(**values: Any) -> Outer:
    return from_dict(Outer, values, "here")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("pretrain", "finetune") for name in recipe_names(kind)]
)
def test_every_recipe_comes_back_from_plain_containers_and_from_yaml(kind, name, tmp_path):
    config = pretraining_recipe(name) if kind == "pretrain" else load_recipe(name, kind, FinetuneConfig)
    assert from_dict(type(config), to_dict(config), name) == config
    write_yaml(config, tmp_path / "config.yaml")
    assert from_dict(type(config), read_yaml(tmp_path / "config.yaml"), name) == config


def test_what_is_left_out_keeps_its_default_or_the_bases_value():
    assert outer(steps=4) == Outer(steps=4)
    base = Outer(Inner(rate=0.1, sizes=(7,)), name="base")
    assert from_dict(Outer, {"inner": {"rate": 1}}, "here", base) == Outer(Inner(1.0, (7,)), name="base")


def test_kinds_that_fit():
    assert outer(inner={"rate": "5e-4"}).inner.rate == 5e-4  # YAML 1.1 reads 5e-4 as text
    assert outer(inner={"rate": 2}).inner.rate == 2.0 and isinstance(outer(inner={"rate": 2}).inner.rate, float)
    assert outer(inner={"sizes": [3, 4, 5]}).inner.sizes == (3, 4, 5)
    assert outer(inner={"sizes": []}).inner.sizes == ()
    assert outer(name="x").name == "x" and outer(name=None).name is None
    assert outer(limit=None).limit is None and outer(limit="1e3").limit == 1000
    assert outer(folder="runs/listen").folder == Path("runs/listen")
    assert outer(inner={"kind": "cold"}).inner.kind == "cold"
    assert to_dict(outer(folder="a")) == {
        "inner": {"rate": 0.5, "sizes": [1, 2], "kind": "warm"},
        "steps": 3, "loud": False, "name": None, "limit": 1.0, "folder": "a",
    }  # fmt: skip


def test_rates_as_yaml_writes_them(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("training: {schedule: {peak: 5e-4}, optimizer: {betas: [9e-1, 0.98]}}\n", encoding="utf-8")
    training = load_recipe(str(path), "pretrain", PretrainConfig).training
    assert training.schedule.peak == 5e-4
    assert training.optimizer.betas == (0.9, 0.98)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"stps": 3}, r"here: unknown key 'stps'; did you mean 'steps'\?"),
        ({"inner": {"rat": 3}}, r"here: inner: unknown key 'rat'; did you mean 'rate'\?"),
        ({"zzz": 3}, "unknown key 'zzz'; known here: inner, steps, loud, name, limit, folder"),
        ({7: 3}, "unknown key 7"),
        ({"steps": 3.5}, "here: steps: expected int, found 3.5"),
        ({"steps": "3"}, "here: steps: expected int, found '3'"),
        ({"steps": True}, "here: steps: expected int, found True"),
        ({"steps": None}, "here: steps: expected int, found None"),
        ({"loud": 1}, "here: loud: expected bool, found 1"),
        ({"loud": "maybe"}, "here: loud: expected bool"),
        ({"name": 5}, "here: name: expected str, found 5"),
        ({"folder": 5}, "here: folder: expected Path, found 5"),
        ({"inner": 5}, "here: inner: expected keys and values here, found 5"),
        ({"inner": None}, "here: inner: expected keys and values here, found None"),
        ({"inner": {"rate": "quick"}}, "here: inner: rate: expected float, found 'quick'"),
        ({"inner": {"rate": False}}, "here: inner: rate: expected float, found False"),
        ({"inner": {"rate": ".nan"}}, "here: inner: rate: expected float"),
        ({"inner": {"rate": float("nan")}}, "here: inner: rate: expected float, found nan"),
        ({"inner": {"rate": float("inf")}}, "here: inner: rate: expected float, found inf"),
        ({"inner": {"sizes": 3}}, "here: inner: sizes: expected tuple.*, found 3"),
        ({"inner": {"sizes": [1, "x"]}}, "here: inner: sizes: expected int, found 'x'"),
        ({"inner": {"kind": "tepid"}}, "here: inner: kind: 'tepid' is none of: warm, cold"),
        ({"inner": {"kind": ["warm"]}}, "is none of: warm, cold"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, says):
    with pytest.raises(ConfigError, match=says):
        from_dict(Outer, values, "here")


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("pretrain", "stepz: 3", r"unknown key 'stepz'; did you mean 'steps'\?"),
        ("pretrain", "model: {quantiser: {}}", r"model: unknown key 'quantiser'; did you mean 'quantizer'\?"),
        (
            "pretrain",
            "model: {encoder: {transformer: {layer_drop: 0.1}}}",
            r"model: encoder: transformer: unknown key 'layer_drop'; did you mean 'layerdrop'\?",
        ),
        (
            "finetune",
            "text: {normalization: {cse: upper}}",
            r"text: normalization: unknown key 'cse'; did you mean 'case'\?",
        ),
        (
            "finetune",
            "channel_mask: {probabilty: 1}",
            r"channel_mask: unknown key 'probabilty'; did you mean 'probability'\?",
        ),
        ("pretrain", "- steps", "expected keys and values at the top, found list"),
        ("pretrain", "steps: [", "cannot be read as YAML"),
    ],
)
def test_recipes_name_the_nearest_key_at_any_depth(kind, text, says, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_recipe(str(path), kind, CONFIGS[kind])


@pytest.mark.parametrize(
    ("training", "says"),
    [
        (TrainingConfig(batch_seconds=0), "batch_seconds must be above 0"),
        (TrainingConfig(micro_batch_seconds=float("nan")), "micro_batch_seconds must be above 0"),
        (TrainingConfig(log_every=0), "log_every must be at least 1"),
        (TrainingConfig(schedule=ScheduleConfig(peak=-1e-3)), "peak must be above 0"),
        (TrainingConfig(schedule=ScheduleConfig(warmup=1.5)), "warmup and hold"),
        (TrainingConfig(schedule=ScheduleConfig("tri-stage", warmup=0.7, hold=0.4)), "warmup and hold"),
        (TrainingConfig(optimizer=OptimizerConfig(betas=(0.9,))), "betas takes two numbers"),
        (TrainingConfig(optimizer=OptimizerConfig(betas=(0.9, 1.0))), "betas takes two numbers"),
        (TrainingConfig(optimizer=OptimizerConfig(clip_norm=-1)), "clip_norm must not be below 0"),
    ],
)
def test_settings_that_no_run_can_have(training, says):
    check_training(TrainingConfig(), 1)
    check_training(TrainingConfig(schedule=ScheduleConfig(warmup=0.7, hold=0.4)), 1)  # linear: there is no hold
    with pytest.raises(ConfigError, match=says):
        check_training(training, 1)
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        check_training(TrainingConfig(), 0)


# The command line


@pytest.fixture
def asked(monkeypatch):
    """Runs `firstwords ...` without training; returns the exit code and what would have been trained."""
    calls: list[tuple[Any, ...]] = []
    for command in CONFIGS:
        module = importlib.import_module(f"firstwords.cli.{command}")
        monkeypatch.setattr(module, command, lambda *arguments: calls.append(arguments) or 0)

    def ask(*words: str) -> tuple[int, tuple[Any, ...]]:
        calls.clear()
        try:
            code = cli.main(list(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, calls[0] if calls else ()

    return ask


def test_any_field_of_a_recipe_can_be_set_on_the_command_line(asked):
    code, (corpora, out, config, _) = asked(
        "pretrain", "corpus", "more/manifest.jsonl", "--recipe", "wav2vec2-tiny", "--out", "runs/listen",
        "--steps", "7", "--seed=3", "--training.schedule.peak", "5e-4", "--model.quantize-targets", "False",
        "--model.contrast.scored", "edges", "--data.train", "train", "other",
        "--training.optimizer.betas", "0.8", "0.9",
        "--model.encoder.feature_encoder.group_statistics", "padded", "--model.mask.overlap=False",
    )  # fmt: skip
    recipe = load_recipe("wav2vec2-tiny", "pretrain", PretrainConfig)
    wanted = from_dict(
        PretrainConfig,
        {
            "steps": 7,
            "seed": 3,
            "training": {"schedule": {"peak": 5e-4}, "optimizer": {"betas": [0.8, 0.9]}},
            "model": {
                "quantize_targets": False,
                "contrast": {"scored": "edges"},
                "mask": {"overlap": False},
                "encoder": {"feature_encoder": {"group_statistics": "padded"}},
            },
            "data": {"train": ["train", "other"]},
        },
        "wanted",
        recipe,
    )
    assert code == 0
    assert (corpora, out) == ((Path("corpus"), Path("more/manifest.jsonl")), Path("runs/listen"))
    assert config == wanted


def test_the_recipe_decides_what_is_not_said(asked):
    for recipe in recipe_names("finetune"):
        words = ("finetune", "corpus", "--from", "runs/listen", "--out", "runs/words", f"--recipe={recipe}")
        code, (_, source, _, config) = asked(*words, "--channel-mask.min-spans", "1")
        assert (code, source, config.channel_mask.min_spans) == (0, "runs/listen", 1)
        assert config.training == load_recipe(recipe, "finetune", FinetuneConfig).training


def test_of_two_recipes_on_one_command_line_the_last_counts(asked):
    _, (*_, config, _) = asked("pretrain", "c", "--out", "o", "--recipe", "wav2vec2-base", "--recipe=wav2vec2-tiny")
    assert config == load_recipe("wav2vec2-tiny", "pretrain", PretrainConfig)


PRETRAIN = ("pretrain", "corpus", "--out", "run", "--recipe", "wav2vec2-tiny")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*PRETRAIN, "--stepz", "3"), "--steps"),
        ((*PRETRAIN, "--model.encoder.transformer.layrs", "3"), "--model.encoder.transformer.layers"),
        ((*PRETRAIN, "--training.schedule.kind", "steps"), "'linear', 'tri-stage'"),
        ((*PRETRAIN, "--model.quantize-targets", "maybe"), "'True', 'False'"),
        ((*PRETRAIN, "--steps", "many"), "--steps"),
        ((*PRETRAIN, "--steps", "1.5"), "--steps"),
        ((*PRETRAIN, "--steps"), "--steps"),
        ((*PRETRAIN, "--model.mask.length", "0"), "length must be at least 1"),
        ((*PRETRAIN, "--model.contrast.distractors", "-3"), "no distractors"),
        (("pretrain", "corpus", "--recipe", "wav2vec2-tiny"), "--out"),
        (("pretrain", "corpus", "--out", "run", "--recipe", "wav2vec2-tny"), "did you mean 'wav2vec2-tiny'"),
        (("finetune", "corpus", "--out", "run"), "--from"),
        (("fintune", "corpus"), "did you mean 'finetune'"),
    ],
)
def test_a_wrong_word_stops_with_2_and_names_what_is_right(asked, capsys, words, says):
    code, called = asked(*words)
    assert (code, called) == (2, ())
    assert says in re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().err)


SECTIONS = {
    "pretrain": ["model.encoder.feature-encoder", "model.encoder.transformer", "model.quantizer", "model.mask",
                 "model.contrast", "data", "training", "training.schedule", "training.optimizer"],
    "finetune": ["adapt", "mask", "channel-mask", "text", "text.normalization", "data", "training",
                 "training.schedule", "training.optimizer"],
}  # fmt: skip
GROUPS = {
    "classify": ["train", "predict", "evaluate"],
    "unsupervised": ["prepare", "train", "decode", "self-train", "run"],
}
COMMANDS = [[name, *action] for name in cli.COMMANDS for action in ([[a] for a in GROUPS.get(name, [])] or [[]])]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"usage: firstwords {' '.join(command)}" in text
    for section in SECTIONS.get(command[0], []):
        assert f" {section} options " in text
    assert "MISSING" not in text and "OptionsConfig" not in text


@pytest.mark.parametrize("group", GROUPS)
def test_groups_of_commands_name_their_actions(group, capsys):
    assert cli.main([group, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"firstwords {group} {action}" in text for action in GROUPS[group])
    assert cli.main([group, "sing"]) == 2
    assert "sing" in capsys.readouterr().err


def test_overview_names_every_command(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(f"firstwords {command}" in text for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
