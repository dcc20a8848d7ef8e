"""Recipes say what their sources say: sizes, frames, schedules, batches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import firstwords.recipes
from firstwords.config import to_dict, write_yaml
from firstwords.errors import ConfigError
from firstwords.models.code_bert import CodeBert
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.vq_wav2vec import VqWav2Vec
from firstwords.models.wav2vec import Wav2Vec
from firstwords.models.wav2vec2 import Wav2Vec2
from firstwords.models.wav2vec_u import Wav2VecU, Wav2VecUConfig
from firstwords.nn.feature_encoder import FeatureEncoder
from firstwords.recipes import ablation_names, load_recipe, recipe_kind, recipe_names
from firstwords.training.acoustic_config import AcousticRecipe, check_recipe
from firstwords.training.adversarial_config import AdversarialConfig, check_adversarial
from firstwords.training.classify_config import ClassifyConfig
from firstwords.training.code_bert import CodePretrainConfig, check_codes
from firstwords.training.config import OptimizerConfig, check_training
from firstwords.training.finetune_config import FinetuneConfig
from firstwords.training.objectives import objective_of, pretraining_recipe
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.schedule import learning_rate

ACOUSTIC = ("asg-timit", "asg-wsj", "asg-small")
CONFIGS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "classify": ClassifyConfig}
ALL = [(kind, name) for kind in CONFIGS for name in recipe_names(kind)]
MODELS = {"wav2vec2": Wav2Vec2, "wav2vec": Wav2Vec, "vq-wav2vec": VqWav2Vec}


def pretraining(name: str) -> PretrainConfig:
    return load_recipe(name, "pretrain", PretrainConfig)


def finetuning(name: str) -> FinetuneConfig:
    return load_recipe(name, "finetune", FinetuneConfig)


def parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def test_the_published_recipes_are_there():
    assert {f"wav2vec2-{size}" for size in ("tiny", "small", "base", "large", "large-vox")} <= set(
        recipe_names("pretrain")
    )
    amounts = ("10m", "1h", "10h", "100h", "960h")
    assert {f"ctc-{size}-{amount}" for size in ("base", "vox") for amount in amounts} <= set(recipe_names("finetune"))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_recipe_is_one_that_a_run_can_have(kind, name):
    config = pretraining_recipe(name) if kind == "pretrain" else load_recipe(name, kind, CONFIGS[kind])
    if isinstance(config, CodePretrainConfig):
        check_codes(config)
        sizes = config.training
        assert config.model.positions <= sizes.micro_batch_tokens <= sizes.bucket_tokens <= sizes.batch_tokens
        with torch.device("meta"):
            CodeBert(config.model, 1000)
        return
    check_training(config.training, config.steps)
    assert config.training.micro_batch_seconds <= config.training.bucket_seconds <= config.training.batch_seconds
    if kind == "pretrain":
        assert config.data.min_seconds <= config.data.crop_seconds <= config.training.micro_batch_seconds
        assert config.chance_patience < config.steps
        with torch.device("meta"):
            MODELS[objective_of(config)](config.model)


@pytest.mark.parametrize(
    ("name", "count"),
    [("wav2vec2-base", 95_044_608), ("wav2vec2-large", 317_380_864), ("wav2vec2-large-vox", 317_390_592)],
)
def test_pretraining_models_have_as_many_parameters_as_the_released_ones(name, count):
    with torch.device("meta"):
        assert parameters(Wav2Vec2(pretraining(name).model)) == count


@pytest.mark.parametrize(("name", "count"), [("wav2vec2-base", 94_396_320), ("wav2vec2-large-vox", 315_471_520)])
def test_recognisers_of_32_labels_have_as_many_parameters_as_the_released_ones(name, count):
    """Hugging Face's Wav2Vec2ForCTC counts what we count, the mask embedding included."""
    config = pretraining(name).model
    with torch.device("meta"):
        model, whole = CTCModel(CTCConfig(config.encoder, labels=32)), Wav2Vec2(config)
    assert parameters(model) == count
    heads = parameters(whole.quantizer) + parameters(whole.target_projection) + parameters(whole.context_projection)
    assert parameters(model) == parameters(whole) - heads + 32 * (config.encoder.transformer.dim + 1)


def test_small_is_small():
    with torch.device("meta"):
        assert 15e6 < parameters(Wav2Vec2(pretraining("wav2vec2-small").model)) < 25e6


@pytest.mark.parametrize("name", recipe_names("unsupervised"))
def test_every_sweep_is_one_that_can_run(name):
    config = load_recipe(name, "unsupervised", AdversarialConfig)
    check_adversarial(config)
    members = len(config.grid.members())
    assert members == {"wav2vec-u": 60, "wav2vec-u2": 64, "wav2vec-u-small": 8, "wav2vec-u-deciphered": 5}[name]
    auxiliary = 64 if any(config.grid.auxiliary) else 0
    with torch.device("meta"):
        Wav2VecU(Wav2VecUConfig(512, 44, config.generator, config.discriminator, config.segmentation, auxiliary))


@pytest.mark.parametrize("name", recipe_names("pretrain", "wav2vec2"))
def test_every_recipe_has_the_papers_frames(name):
    with torch.device("meta"):
        encoder = FeatureEncoder(pretraining(name).model.encoder.feature_encoder)
    samples = [400, 16_000, 240_000, 250_000, 320_000, 400_000]
    assert encoder.receptive_field == 400
    assert encoder.frames(399) < 1
    assert [encoder.frames(length) for length in samples] == [1, 49, 749, 781, 999, 1249]
    assert encoder.frames(torch.tensor(samples)).tolist() == [1, 49, 749, 781, 999, 1249]


@pytest.mark.parametrize("name", recipe_names("pretrain", "wav2vec"))
def test_every_wav2vec_recipe_has_the_papers_frames(name):
    """30 ms every 10 ms, the first prediction 30 ms ahead, and about 210 ms (810 ms large) of context."""
    with torch.device("meta"):
        model = Wav2Vec(pretraining_recipe(name).model)
    features, context = model.encoder.feature_encoder, model.encoder.context_network
    assert (features.receptive_field, features.hop, model.offset) == (465, 160, 3)
    assert [features.frames(length) for length in (464, 465, 16_000, 150_000)] == [0, 1, 98, 935]
    assert context.receptive_field == (79 if name == "wav2vec-large" else 19)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("wav2vec", 400_000), ("wav2vec-large", 400_000), ("wav2vec-libri80", 40_000), ("wav2vec-wsj", 40_000)],
)
def test_wav2vec_learns_as_published(name, steps):
    """1e-7 to 5e-3 in 500 updates, then half a cosine down to 1e-6; crops of 150,000 samples, 80 of them an update."""
    config = pretraining_recipe(name)
    rate = {
        update: learning_rate(config.training.schedule, update, steps)
        for update in (0, 250, 500, 500 + (steps - 500) // 2, steps)
    }
    assert config.steps == steps
    assert list(rate.values()) == pytest.approx([1e-7, 2.5e-3, 5e-3, 2.5e-3, 1e-6], rel=1e-3)
    assert (config.model.steps, config.model.contrast.distractors) == (12, 10)
    assert round(config.data.crop_seconds * 16_000) == 150_000
    assert config.training.batch_seconds * 16_000 == 8 * 1_500_000
    assert config.training.optimizer == OptimizerConfig((0.9, 0.999), 1e-8, 0.0, 25.0)


ABLATIONS = {
    "distractors": {1: "1", 2: "2", 5: "5", 20: "20"},
    "steps": {8: "8", 16: "16"},
    "crop": {40_000: "40k", 100_000: "100k", 200_000: "200k", 960_000: "none"},
}


def test_the_ablations_are_wav2vec_on_80_hours_but_for_one_value():
    """With that recipe itself (10 distractors, 12 steps, 150,000 samples) the paper's tables, and nothing else."""
    known = [f"ablations/wav2vec-{what}-{name}" for what, names in ABLATIONS.items() for name in names.values()]
    assert sorted(known) == ablation_names() and not set(known) & set(recipe_names("pretrain"))
    base = pretraining_recipe("wav2vec-libri80")
    for what, names in ABLATIONS.items():
        for value, name in names.items():
            config = pretraining_recipe(f"ablations/wav2vec-{what}-{name}")
            model, data = config.model, config.data
            if what == "distractors":
                assert model.contrast.distractors == value
                model = replace(model, contrast=replace(model.contrast, distractors=10))
            elif what == "steps":
                assert model.steps == value
                model = replace(model, steps=12)
            else:
                assert round(data.crop_seconds * 16_000) == value
                data = replace(data, crop_seconds=9.375)
            assert replace(config, model=model, data=data) == base
            assert config.data.crop_seconds <= config.training.micro_batch_seconds


@pytest.mark.parametrize(
    ("name", "steps", "peak_update"),
    [("wav2vec2-base", 400_000, 32_000), ("wav2vec2-large", 250_000, 20_000), ("wav2vec2-large-vox", 600_000, 48_000)],
)
def test_pretraining_rates_rise_and_fall_as_published(name, steps, peak_update):
    config = pretraining(name)
    schedule = config.training.schedule
    rates = {update: learning_rate(schedule, update, config.steps) for update in range(0, steps, 1000)}
    assert config.steps == steps
    assert max(rates, key=rates.__getitem__) == peak_update
    assert rates[peak_update] == schedule.peak
    assert rates[peak_update // 2] == pytest.approx(schedule.peak / 2, rel=1e-3)
    assert learning_rate(schedule, (steps + peak_update) // 2, steps) == pytest.approx(schedule.peak / 2)
    assert 0 < learning_rate(schedule, steps - 1, steps) < 1e-5 * schedule.peak


@pytest.mark.parametrize(
    ("name", "lowest", "update"), [("wav2vec2-base", 0.5, 277_258), ("wav2vec2-large-vox", 0.1, 599_145)]
)
def test_temperatures_reach_their_lowest_at_the_published_update(name, lowest, update):
    quantizer = pretraining(name).model.quantizer
    assert quantizer.temperature(0) == 2
    assert quantizer.temperature(update - 1) > lowest
    assert [quantizer.temperature(update), quantizer.temperature(10 * update)] == pytest.approx([lowest] * 2)


@pytest.mark.parametrize(
    ("name", "gpus", "samples"),
    [
        ("wav2vec2-base", 64, 1_400_000),
        ("wav2vec2-large", 128, 1_200_000),
        ("wav2vec2-large-vox", 128, 1_200_000),
    ],
)
def test_pretraining_hears_as_much_audio_an_update_as_published(name, gpus, samples):
    training = pretraining(name).training
    assert training.batch_seconds * 16_000 == gpus * samples
    assert training.bucket_seconds * 16_000 == samples


WAV2VEC = ("wav2vec", "wav2vec-large", "wav2vec-libri80", "wav2vec-wsj")
FAIRSEQ = {  # GPUs x parts, max_tokens, updates, rate, frozen updates, time and channel mask_prob, LayerDrop
    "ctc-base-10m": (8, 3_200_000, 13_000, 5e-5, 10_000, 0.65, 0.25, 0.1),
    "ctc-base-1h": (8, 3_200_000, 13_000, 5e-5, 10_000, 0.65, 0.25, 0.1),
    "ctc-base-10h": (8, 3_200_000, 20_000, 5e-5, 10_000, 0.65, 0.5, 0.05),
    "ctc-base-100h": (8, 3_200_000, 80_000, 3e-5, 0, 0.65, 0.5, 0.1),
    "ctc-base-960h": (8, 3_200_000, 320_000, 1e-4, 0, 0.5, 0.1, 0.1),
    "ctc-vox-10m": (20, 1_280_000, 13_000, 1e-4, 10_000, 0.65, 0.25, 0.1),
    "ctc-vox-1h": (20, 1_280_000, 13_000, 3e-4, 10_000, 0.75, 0.25, 0.1),
    "ctc-vox-10h": (20, 1_280_000, 20_000, 1e-4, 10_000, 0.75, 0.25, 0.1),
    "ctc-vox-100h": (20, 1_280_000, 80_000, 3e-5, 10_000, 0.5, 0.5, 0.1),
    "ctc-vox-960h": (24, 1_280_000, 320_000, 3e-5, 10_000, 0.5, 0.25, 0.1),
}


@pytest.mark.parametrize("name", FAIRSEQ)
def test_finetuning_recipes_are_fairseqs(name):
    config = finetuning(name)
    parts, samples, steps, peak, frozen, time, channel, layerdrop = FAIRSEQ[name]
    assert config.training.batch_seconds * 16_000 == parts * samples
    assert config.training.bucket_seconds * 16_000 == samples
    assert (config.steps, config.training.schedule.peak) == (steps, peak)
    assert round(config.frozen * config.steps) == frozen
    assert (config.mask.probability, config.mask.length) == (time, 10)
    assert (config.channel_mask.probability, config.channel_mask.length, config.channel_mask.min_spans) == (
        channel,
        64,
        0,
    )
    assert (config.adapt.layerdrop, config.adapt.activation_dropout, config.adapt.gradient_scale) == (layerdrop, 0.1, 0)
    assert (config.training.optimizer.epsilon, config.training.optimizer.weight_decay) == (1e-8, 0)


def test_tri_stage_rates_at_the_ends_of_their_stages():
    config = finetuning("ctc-base-10m")
    schedule = config.training.schedule
    rate = {
        update: learning_rate(schedule, update, 13_000) / 5e-5 for update in (0, 1_300, 6_499, 6_500, 9_750, 13_000)
    }
    assert rate[0] == pytest.approx(0.01)
    assert rate[1_300] == rate[6_499] == rate[6_500] == 1
    assert rate[9_750] == pytest.approx(0.05**0.5)  # half-way down: exponential, not linear
    assert rate[13_000] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["wav2vec2-base", "wav2vec2-large", "wav2vec2-large-vox"])
def test_the_two_families(name):
    encoder = pretraining(name).model.encoder
    vox = name.endswith("vox")
    assert encoder.normalize_waveform == encoder.feature_encoder.bias == encoder.transformer.norm_first == vox
    assert encoder.feature_encoder.norm == ("layer" if vox else "group")
    assert encoder.transformer.dim // encoder.transformer.heads == 64


@pytest.mark.parametrize("name", ACOUSTIC)
def test_acoustic_recipes_are_ones_that_a_run_can_have(name):
    config = load_recipe(name, "acoustic", AcousticRecipe)
    assert recipe_kind(name) == "acoustic" and set(ACOUSTIC) == set(recipe_names("acoustic"))
    check_recipe(config)
    assert config.training.micro_batch_seconds <= config.training.bucket_seconds <= config.training.batch_seconds
    assert config.linear_updates < config.training.validate_every < config.steps


def test_acoustic_models_as_the_paper_trained_them():
    """Rates at the first and the last update, momentum, clipping, and how much a batch holds."""
    timit, wsj = (load_recipe(name, "acoustic", AcousticRecipe) for name in ACOUSTIC[:2])
    for config, rate, momentum, utterances, seconds in ((timit, 0.12, 0.9, 16, 3.06), (wsj, 5.6, 0.0, 64, 7.8)):
        for update in (0, config.steps // 2, config.steps - 1):
            assert learning_rate(config.training.schedule, update, config.steps) == pytest.approx(rate)
        assert config.training.optimizer.momentum == momentum
        assert config.training.batch_seconds == pytest.approx(utterances * seconds, rel=0.01)
    assert wsj.training.optimizer.transition_scale * 5.6 == pytest.approx(0.004)
    assert (wsj.self_transition, wsj.training.optimizer.clip_norm, wsj.text.repetitions) == (5.0, 0.05, 2)


def test_every_value_of_a_recipe_has_a_source():
    folder = Path(firstwords.recipes.__file__).parent
    for name in (
        "wav2vec2-base",
        "wav2vec2-large",
        "wav2vec2-large-vox",
        *FAIRSEQ,
        *WAV2VEC,
        *ACOUSTIC[:2],
        *ablation_names(),
    ):
        for line in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
            value = line.partition("#")[0].rstrip()
            if value and not value.endswith(":") and not value.startswith(("kind:", "objective:", "extends:")):
                assert re.search(r"# .*(\[[PCS]|\[cmd|ours|as the source)", line), f"{name}: {line}"


def test_a_recipe_of_ones_own(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("kind: pretrain\nsteps: 7\nmodel: {quantizer: {groups: 4}}\n", encoding="utf-8")
    config = load_recipe(str(own), "pretrain", PretrainConfig)
    assert (config.steps, config.model.quantizer.groups) == (7, 4)
    assert config.model.quantizer.entries == PretrainConfig().model.quantizer.entries


def test_a_recipe_that_extends_another(tmp_path):
    """A name, or a file beside it; its kind and objective come along, and mappings keep what is not named."""
    (tmp_path / "mine.yaml").write_text(
        "extends: wav2vec-tiny\nmodel: {contrast: {distractors: 3}}\n", encoding="utf-8"
    )
    (tmp_path / "again.yaml").write_text("extends: mine.yaml\nsteps: 7\n", encoding="utf-8")
    config, base = pretraining_recipe(str(tmp_path / "again.yaml")), pretraining_recipe("wav2vec-tiny")
    contrast = replace(base.model.contrast, distractors=3)
    assert config == replace(base, steps=7, model=replace(base.model, contrast=contrast))
    assert recipe_kind(str(tmp_path / "again.yaml")) == "pretrain"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: wav2vec-tny", "extends 'wav2vec-tny', and there is no such recipe; there are: .*wav2vec-tiny"),
        ("extends: other.yaml", "no such recipe"),
        ("extends: mine.yaml", "which extends it again"),
        ("extends: [wav2vec-tiny]", "no such recipe"),
        ("extends: wav2vec-tiny\nmodel: {contrst: {}}", "unknown key 'contrst'; did you mean 'contrast'"),
        ("extends: wav2vec-tiny\nmodel: 3", "expected keys and values here, found 3"),
    ],
)
def test_a_recipe_that_extends_what_it_cannot(tmp_path, text, says):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        pretraining_recipe(str(tmp_path / "mine.yaml"))


def test_the_configuration_beside_a_run_is_a_recipe(tmp_path):
    config = pretraining("wav2vec2-tiny")
    path = tmp_path / "config.yaml"
    run = {"kind": "pretrain", "firstwords": "0.1.0", "config": to_dict(config), "data": {"hours": 1}, "command": "x"}
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    assert load_recipe(str(path), "pretrain", PretrainConfig) == config
    with pytest.raises(ConfigError, match="made for pretrain, not for finetune"):
        load_recipe(str(path), "finetune", FinetuneConfig)


def test_a_written_configuration_is_a_recipe(tmp_path):
    config = finetuning("ctc-vox-1h")
    write_yaml(config, tmp_path / "config.yaml")
    assert load_recipe(str(tmp_path / "config.yaml"), "finetune", FinetuneConfig) == config


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wav2vec2-bse", "did you mean 'wav2vec2-base'"),
        ("nothing like it", "there are: .*wav2vec2-tiny"),
        ("missing.yaml", "no recipe 'missing.yaml'"),
        ("ablations/wav2vec-step-8", "did you mean 'ablations/wav2vec-steps-8'"),
        ("ctc-base-1h", "made for finetune, not for pretrain"),
    ],
)
def test_a_wrong_recipe_is_told_from_a_right_one(name, says):
    with pytest.raises(ConfigError, match=says):
        load_recipe(name, "pretrain", PretrainConfig)


@pytest.mark.parametrize("name", ["vq-wav2vec-gumbel", "vq-wav2vec-kmeans", "vq-wav2vec-paper", "vq-wav2vec-small"])
def test_vq_wav2vec_is_as_published(name):
    """Codes and frames of all; schedules of the command and of the paper, whose temperatures end alike."""
    config = pretraining_recipe(name)
    with torch.device("meta"):
        model = VqWav2Vec(config.model)
    features, quantizer = model.encoder.feature_encoder, config.model.encoder.quantizer
    assert (features.hop, features.receptive_field, model.offset) == (160, 465, 3)
    assert (quantizer.groups, quantizer.entries, quantizer.shared) == (2, 320, True)
    schedule, steps = config.training.schedule, config.steps
    command = name.endswith(("gumbel", "kmeans"))
    peak, warmup = (1e-5, 1000) if command else (5e-3, 500)
    assert config.model.steps == (12 if command else 8)
    assert learning_rate(schedule, 0, steps) == pytest.approx(1e-7)
    assert learning_rate(schedule, warmup, steps) == pytest.approx(peak)
    assert learning_rate(schedule, steps, steps) == pytest.approx(1e-6)
    if quantizer.kind == "gumbel":
        assert quantizer.temperature(0) == 2.0
        assert quantizer.temperature(round(0.68 * steps)) > 0.5 == quantizer.temperature(round(0.7 * steps))
    assert config.model.quantizer_weight == (quantizer.kind == "kmeans")


@pytest.mark.parametrize(("name", "dim"), [("code-bert-base", 768), ("code-bert-small", 512)])
def test_bert_over_codes_is_as_published(name, dim):
    config = pretraining_recipe(name)
    model = config.model
    assert (model.layers, model.dim, model.feed_forward_dim, model.dim // model.heads) == (12, dim, 4 * dim, 64)
    assert config.training.batch_tokens == 128 * 3072
    assert learning_rate(config.training.schedule, 10_000, config.steps) == pytest.approx(1e-5)
    assert (config.mask.probability / config.mask.length, config.mask.length) == (0.05, 10)
