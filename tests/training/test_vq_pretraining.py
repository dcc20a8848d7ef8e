"""Pre-training vq-wav2vec: whole however an update is split, exact after a kill, collapse told, gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from test_split_updates import assert_same, gradients
from tiny import TRAINING, assert_bitwise_equal, status, write_corpus

import firstwords.training.loop as loop
from firstwords.cli import main
from firstwords.coder import load_coder
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest
from firstwords.encoder import load_encoder
from firstwords.errors import ConfigError
from firstwords.models.vq_wav2vec import VqQuantizerConfig
from firstwords.training.data import Skipped
from firstwords.training.health import Health
from firstwords.training.processes import Processes
from firstwords.training.run import read_log
from firstwords.training.vq_wav2vec import VqWav2VecPretrainConfig, VqWav2VecPretraining

VQ: dict[str, Any] = {
    "steps": 20, "seed": 3,
    "model": {
        "encoder": {
            "latent_encoder": {
                "channels": [6, 6, 8, 8, 8, 8], "kernels": [10, 8, 4, 4, 4, 1], "strides": [5, 4, 2, 2, 2, 1],
                "activation": "gelu", "log_compression": False,
            },
            "context_network": {"channels": [8, 8], "kernels": [2, 3], "activation": "gelu", "skip_connections": True},
            "quantizer": {"entries": 6, "temperature_decay": 0.99},
        },
        "steps": 3,
    },
    "data": {"min_seconds": 0.2, "crop_seconds": 0.7, "held_out": 0.2},
    "training": TRAINING | {"schedule": {"kind": "cosine", "peak": 1e-3}},
}  # fmt: skip
GUMBEL: dict[str, Any] = {"model": {"quantizer_weight": 0.1}}
KMEANS: dict[str, Any] = {"model": {"encoder": {"quantizer": {"kind": "kmeans"}}, "quantizer_weight": 1.0}}
VARIANTS = {"gumbel": {}, "gumbel, weighted": GUMBEL, "kmeans": KMEANS}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def task(corpus: Path, *changes: dict[str, Any]) -> VqWav2VecPretraining:
    config = from_dict(VqWav2VecPretrainConfig, VQ, "test")
    for change in changes:
        config = from_dict(VqWav2VecPretrainConfig, change, "test", config)
    return VqWav2VecPretraining(config, read_manifest(corpus), [], Processes("cpu"), Skipped())


def pretrain(corpus: Path, out: Path, *changes: dict[str, Any]) -> int:
    recipe = {"kind": "pretrain", "objective": "vq-wav2vec", **VQ}
    for change in changes:
        recipe = merged(recipe, change)
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(recipe))
    return main(["pretrain", str(corpus), "--recipe", str(path), "--out", str(out)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_micro_batches(corpus: Path, variant: str) -> None:
    one = {"training": {"batch_seconds": 100.0, "bucket_seconds": 100.0, "micro_batch_seconds": 1000.0}}
    many = merged(one, {"training": {"micro_batch_seconds": 0.8}})
    whole, few, loss = gradients(task(corpus, VARIANTS[variant], one))
    parts, count, sum_of_parts = gradients(task(corpus, VARIANTS[variant], many))
    assert few == 1 and count >= 5
    assert_same(parts, whole)
    if variant != "gumbel, weighted":  # there each part states the loss of the whole's probabilities
        assert sum_of_parts == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("variant", ["gumbel, weighted", "kmeans"])
def test_stopped_goes_on_exactly(
    variant: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(corpus, tmp_path / "unbroken", VARIANTS[variant]) == 0
    mix, seen = loop._mix, []

    def signalling(*numbers: int) -> int:
        seen.append(numbers[1])
        if numbers[1] == 9 and len(seen) == 10:
            signal.raise_signal(signal.SIGTERM)
        return mix(*numbers)

    monkeypatch.setattr(loop, "_mix", signalling)
    assert pretrain(corpus, tmp_path / "broken", VARIANTS[variant]) == 128 + signal.SIGTERM
    assert pretrain(corpus, tmp_path / "broken", VARIANTS[variant]) == 0
    assert seen == list(range(20))
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
    said = capsys.readouterr().out
    assert "codes " in said and ("k-means loss" in said) == (variant == "kmeans")


@pytest.mark.parametrize("variant", ["gumbel", "kmeans"])
def test_what_the_log_says(variant: str, corpus: Path, tmp_path: Path) -> None:
    """Loss beside chance, codes in use, perplexity of each codebook, temperature; validation counts combinations."""
    assert pretrain(corpus, tmp_path / "run", VARIANTS[variant]) == 0
    records = read_log(tmp_path / "run")
    trained = next(record for record in records if "bits" in record)
    tested = next(record for record in records if "valid_bits" in record)
    assert trained["chance_bits"] == pytest.approx(4.835, abs=0.01)  # 11 log2 11 - 10 log2 10
    assert 2 <= trained["codes_perplexity"] <= trained["codes_used"] <= 12
    assert trained["codes_perplexity"] == pytest.approx(
        trained["codes_perplexity_0"] + trained["codes_perplexity_1"], rel=1e-3
    )
    assert ("temperature" in trained) == (variant == "gumbel") and ("kmeans_loss" in trained) == (variant == "kmeans")
    assert 1 <= tested["valid_combinations_perplexity"] <= tested["valid_combinations_used"] <= 36
    encoder, coder = load_encoder(tmp_path / "run", "cpu"), load_coder(tmp_path / "run", "cpu")
    waveforms = torch.randn(2, 4000)
    assert encoder(waveforms).shape == (2, 23, 8) and coder(waveforms).shape == (2, 23, 2)


def test_goes_on_from_a_model(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(corpus, tmp_path / "first", KMEANS) == 0
    recipe = {"kind": "pretrain", "objective": "vq-wav2vec", **merged(VQ, {"model": {"steps": 2}})}
    (tmp_path / "more.yaml").write_text(json.dumps(recipe))
    arguments = ["pretrain", str(corpus), "--recipe", str(tmp_path / "more.yaml"), "--steps", "1"]
    assert main([*arguments, "--from", str(tmp_path / "first"), "--out", str(tmp_path / "more")]) == 0
    assert "predicts 3 steps, the recipe 2" in capsys.readouterr().out
    before, after = load_coder(tmp_path / "first", "cpu"), load_coder(tmp_path / "more", "cpu")
    torch.testing.assert_close(before.quantizer.codebooks, after.quantizer.codebooks, atol=1e-2, rtol=0)
    foreign = ["pretrain", str(corpus), "--recipe", "wav2vec-tiny", "--out", str(tmp_path / "foreign")]
    assert main([*foreign, "--from", str(tmp_path / "first")]) == 2
    assert "pre-training of wav2vec goes on from wav2vec only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"encoder": {"quantizer": {"kind": "kmeans"}}},
            r"learn from their own loss alone.*--model\.quantizer-weight 1",
        ),
        ({"encoder": {"quantizer": {"temperature_end": 0.0}}}, "temperatures must be above 0"),
        ({"encoder": {"quantizer": {"temperature_decay": 1.5}}}, "temperature_decay above 0 and at most 1"),
    ],
    ids=str,
)
def test_impossible_settings(corpus: Path, wrong: dict[str, Any], says: str) -> None:
    """What would end in no numbers, or never learn."""
    with pytest.raises(ConfigError, match=says):
        task(corpus, {"model": wrong})


def test_temperatures() -> None:
    published = VqQuantizerConfig()
    assert published.temperature(0) == 2.0 and published.temperature(277_259) == 0.5
    assert published.temperature(277_000) == pytest.approx(0.5, abs=1e-3)
    paper = VqQuantizerConfig(annealing="linear")
    assert [paper.temperature(n) for n in (0, 140_000, 280_000, 400_000)] == [2.0, 1.25, 0.5, 0.5]


class TestCollapse:
    """One entry of each codebook for all frames: the lowest perplexity is the number of codebooks (reference)."""

    def health(self) -> Health:
        return Health(600, 2, 64, codes_are_all=True)

    def test_told(self) -> None:
        health = self.health()
        said = [health.look(update, 4.83, 4.835, 0.0, 2.01) for update in range(25, 150, 25)]
        assert health.verdict == "collapsed"
        told = [sentence for sentence in said if sentence]
        assert len(told) == 1 and "COLLAPSED" in told[0] and "fewest possible: 2" in told[0]
        assert "temperature_decay" in told[0]

    def test_not_at_the_start(self) -> None:
        """Runs begin with few codes in use, and leave that."""
        health = self.health()
        for update, codes in ((5, 2.0), (10, 2.1), (15, 2.4), (40, 3.0), (65, 8.0)):
            health.look(update, 4.0, 4.835, 0.2, codes)
        assert health.verdict == "healthy"

    def test_few_codes_and_an_easy_task_are_no_collapse(self) -> None:
        """Unlike in wav2vec 2.0: what is hard to say is hard to hear, too."""
        health = self.health()
        for update in range(25, 200, 25):
            health.look(update, 1.0, 4.835, 0.8, 2.9)
        assert health.verdict == "healthy"

    def test_in_a_run(self, corpus: Path, tmp_path: Path) -> None:
        """A codebook whose projection is so steep that one entry always wins."""
        trained = task(corpus, {"steps": 60})
        with torch.no_grad():
            trained.model.encoder.quantizer.logits.bias[[0, 6]] += 1000
        from tiny import run_task

        run_task(trained, tmp_path / "run")
        assert status(tmp_path / "run")["health"] == "collapsed"


def test_kmeans_from_frames(corpus: Path, tmp_path: Path) -> None:
    """The same start in every process and after a stop, whatever an update is cut into; more codes in use than else."""
    frames = {"model": {"encoder": {"quantizer": {"start": 0.0}}}}
    one, other = task(corpus, KMEANS, frames), task(corpus, KMEANS, frames, {"training": {"micro_batch_seconds": 0.8}})
    books = [made.model.encoder.quantizer.codebooks for made in (one, other)]
    assert torch.equal(*books) and float(books[0].detach().std()) > 0.3
    assert pretrain(corpus, tmp_path / "run", KMEANS, frames, {"steps": 5}) == 0
    assert next(record for record in read_log(tmp_path / "run") if "codes_used" in record)["codes_used"] >= 9
