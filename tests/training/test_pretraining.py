"""The pre-training task: every ablation runs, at any length; validation is the same each time; illness is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_tone
from tiny import pretrain, pretraining, run_task, status, tensors, write_corpus, write_manifest

from firstwords.config import merged
from firstwords.corpus.batches import Position
from firstwords.training.run import read_log

VARIANTS: dict[str, dict[str, Any]] = {
    "method": {},
    "layer norm": {
        "encoder": {"feature_encoder": {"norm": "layer", "bias": True}, "transformer": {"norm_first": True}}
    },
    "normalised": {"encoder": {"normalize_waveform": True}},
    "padded statistics": {"encoder": {"feature_encoder": {"group_statistics": "padded"}}},
    "frozen feature encoder": {"encoder": {"feature_encoder": {"gradient_scale": 0.0}}},
    "quantised inputs": {"quantize_inputs": True},
    "continuous targets": {"quantize_targets": False},
    "quantised inputs, continuous targets": {"quantize_inputs": True, "quantize_targets": False},
    "no Gumbel noise": {"quantizer": {"gumbel_noise": False}},
    "one codebook": {"quantizer": {"groups": 1, "entries": 12}},
    "deep quantiser": {"quantizer": {"groups": 4, "entries": 3, "depth": 2, "dim": 12}},
    "spans apart": {"mask": {"overlap": False}},
    "uniform spans": {"mask": {"distribution": "uniform", "other": 1.0}},
    "normal spans": {"mask": {"distribution": "normal", "other": 2.0}},
    "poisson spans": {"mask": {"distribution": "poisson"}},
    "equal counts, some unmasked": {"mask": {"equalize": True, "dropout": 0.1}},
    "scored at edges": {"contrast": {"scored": "edges", "edge_frames": 1}},
    "scored at centres": {"contrast": {"scored": "centres"}},
    "candidates everywhere": {"contrast": {"candidates": "all"}},
    "distractors of the batch": {"contrast": {"batch_distractors": 5}},
    "distractors of the batch only": {"contrast": {"distractors": 0, "batch_distractors": 5}},
    "dropouts": {
        "encoder": {
            "transformer": {"dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2, "layerdrop": 0.5},
            "input_dropout": 0.2,
        },
        "feature_dropout": 0.2,
    },
    "no extra losses": {"diversity_weight": 0.0, "feature_penalty": 0.0},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds from the shortest that gives a frame to a third of a second."""
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(
        folder, [400 / 16_000, 719 / 16_000, 720 / 16_000, 1401 / 16_000, 2000 / 16_000, 0.2, 0.3, 4999 / 16_000]
    )


SHORT = {"data": {"min_seconds": 0.0, "crop_seconds": 0.25}, "training": {"batch_seconds": 0.5, "bucket_seconds": 0.3}}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("micro", [0.1, 10.0])
def test_updates(corpus: Path, variant: str, micro: float) -> None:
    """Two epochs of updates with finite losses and gradients; every part of the model learns what it should."""
    changes = merged(SHORT, {"model": VARIANTS[variant], "training": {"micro_batch_seconds": micro}})
    task = pretraining(corpus, changes)
    task.model.train()
    steps = 2 * len(task.loader.plan.epoch(0))
    learnt = 0
    for update, (batches, _) in enumerate(task.loader.updates(0, Position(), steps)):
        counts = task.count(batches)
        for batch in batches:
            check_batch(task, batch)
        if not counts[0]:
            continue
        whole = task.survey(batches, update, counts)
        task.model.zero_grad()
        total: dict[str, torch.Tensor] = {}
        for batch in batches:
            loss, sums = task.loss(task.model, batch, update, counts, whole)
            assert torch.isfinite(loss)
            loss.backward()
            total = {name: total.get(name, 0) + value.detach() for name, value in sums.items()}
        gradients = {name: value.grad for name, value in task.model.named_parameters() if value.grad is not None}
        assert all(torch.isfinite(value).all() for value in gradients.values())
        learnt += 1
        assert total["scored"] == counts[0] and total["frames"] == counts[2]
        figures = task.describe(total)
        assert all(np.isfinite(value) for value in figures.values())
        assert 0 <= figures["accuracy"] <= 1 and 0 < figures["masked_share"] < 1
    assert learnt >= 3


def check_batch(task: Any, batch: Any) -> None:
    """Masks lie within each utterance's frames and leave one; crops have the bucket's length at most."""
    frames = task.model.encoder.frames(batch.lengths)
    inside = torch.arange(batch.mask.shape[1]) < frames[:, None]
    assert not (batch.mask & ~inside).any()
    assert (batch.mask.sum(1) < frames).all()
    assert batch.waveforms.shape[1] == int(batch.lengths.max()) <= task.crop
    assert batch.frames == int(frames.sum())
    assert batch.mask.flatten()[batch.indices.scored].all()
    assert inside.flatten()[batch.indices.pool].all()
    assert sum(batch.candidates) == len(batch.indices.pool)


@pytest.mark.parametrize("start", range(0, 4600, 920))
def test_any_length(start: int, tmp_path: Path) -> None:
    """Alone in its update, and with a companion; no length from 400 to 5000 samples gives a number that is none."""
    lengths = range(400 + start, 400 + start + 920, 46)
    corpus = write_corpus(tmp_path, [length / 16_000 for length in lengths])
    task = pretraining(corpus, {"data": {"min_seconds": 0.0}})
    task.model.train()
    for number, utterance in enumerate(task.training):
        assert round((utterance.duration or 0) * 16_000) == lengths[number]
        for group in ([utterance], [utterance, task.training[0]]):
            batch = task.make_batch(group, 10_000, (1, number))
            assert batch is not None
            check_batch(task, batch)
            counts = task.count([batch])
            if counts[0]:
                loss, _ = task.loss(task.model, batch, 0, counts, task.survey([batch], 0, counts))
                loss.backward()
                assert torch.isfinite(loss)
    assert all(torch.isfinite(v.grad).all() for v in task.model.parameters() if v.grad is not None)


def test_random_choices_do_not_depend_on_neighbours(corpus: Path) -> None:
    """An utterance's crop, mask, distractors and noise are the same in any batch of the same length."""
    task = pretraining(corpus, SHORT)
    long = [utterance for utterance in task.training if (utterance.duration or 0) >= 0.2]
    together = task.make_batch(long, 3200, (1, 5))
    assert together is not None and len(long) == 3
    for number, utterance in enumerate(long):
        alone = task.make_batch([utterance], 3200, (1, 5))
        assert alone is not None
        assert torch.equal(alone.waveforms[0], together.waveforms[number])
        assert torch.equal(alone.mask[0], together.mask[number])
        assert alone.noise_seeds[0] == together.noise_seeds[number]
        rows = alone.indices.choices.shape[1]
        assert torch.equal(alone.indices.choices[0], together.indices.choices[number, :rows])
        other = task.make_batch([utterance], 3200, (1, 6))
        assert other is not None and alone.noise_seeds != other.noise_seeds


def test_crops_are_everywhere(tmp_path: Path) -> None:
    """Crops start anywhere in the recording, first and last possible sample included, and hold its samples."""
    corpus = write_manifest(tmp_path, [{"id": "a", "audio": "a.wav", "duration": 1.0}])
    soundfile.write(corpus / "a.wav", np.arange(16_000) / 16_000, 16_000, subtype="FLOAT")
    task = pretraining(corpus)
    starts = set()
    for update in range(60):
        batch = task.make_batch(task.training, 15_995, (3, update))
        assert batch is not None
        crop = batch.waveforms[0] * 16_000
        assert torch.allclose(crop, crop[0] + torch.arange(15_995), atol=1e-2)
        starts.add(round(float(crop[0])))
    assert starts == set(range(6))


class TestValidation:
    @pytest.fixture
    def held(self, tmp_path: Path) -> Path:
        return write_corpus(tmp_path / "corpus", [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])

    def test_same_each_time(self, held: Path, tmp_path: Path) -> None:
        """Same crops, masks and distractors: with a rate of almost 0 the figures stay the same to the last digit."""
        changes = {
            "steps": 12,
            "data": {"held_out": 0.4},
            "training": {"validate_every": 3, "schedule": {"peak": 1e-30}, "optimizer": {"weight_decay": 0.0}},
        }
        assert pretrain(held, tmp_path / "run", changes=changes) == 0
        seen = [record for record in read_log(tmp_path / "run") if "valid_bits" in record]
        assert [record.pop("update") for record in seen] == [3, 6, 9, 12]
        for record in seen:
            del record["valid_temperature"]  # the schedule's, which validation does not use
        assert seen[0] == seen[1] == seen[2] == seen[3]

    def test_does_not_disturb_training(self, held: Path, tmp_path: Path) -> None:
        """How often it is done changes no weight."""
        changes = {"data": {"held_out": 0.4}, "model": {"feature_dropout": 0.2}}
        for name, every in (("often", 2), ("never", 1000)):
            assert (
                pretrain(held, tmp_path / name, changes=merged(changes, {"training": {"validate_every": every}})) == 0
            )
        often, never = (tensors(tmp_path / name / "last.safetensors") for name in ("often", "never"))
        assert all(torch.equal(often[name], never[name]) for name in never)

    def test_how_it_is_cut_changes_nothing(self, held: Path) -> None:
        """Micro-batches of validation hold the same crops."""
        figures = []
        for micro in (0.8, 100.0):
            task = pretraining(held, {"training": {"micro_batch_seconds": micro, "bucket_seconds": 1.5}})
            task.validation = task.training
            task.model.eval()
            with torch.no_grad():
                figures.append(task.validate(0))
        assert figures[0] == pytest.approx(figures[1], rel=1e-4)


class TestIllness:
    def test_stuck_at_chance(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A rate of nearly 0: said and marked within 60 updates, by name once patience is over."""
        corpus = write_corpus(tmp_path / "corpus", [0.5] * 6)
        changes = {
            "steps": 60,
            "chance_patience": 50,
            "model": {"contrast": {"temperature": 10.0}, "quantizer": {"entries": 64}},
            "training": {"log_every": 10, "schedule": {"peak": 1e-12}},
        }
        assert pretrain(corpus, tmp_path / "run", changes=changes) == 0
        said = capsys.readouterr().out
        assert "at chance level after 40 updates" in said
        assert "STUCK at chance level after 50 updates" in said and "Mend: check that the learning rate" in said
        assert status(tmp_path / "run")["health"] == "stuck"
        assert [record["health"] for record in read_log(tmp_path / "run") if "health" in record] == [
            *["healthy"] * 3, "at chance", "stuck", "stuck",
        ]  # fmt: skip

    def test_collapsed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Codebooks with one useful entry: everything is the same, and the task is trivially solved."""
        corpus = write_corpus(tmp_path / "corpus", [0.5] * 6)
        task = pretraining(corpus, {"steps": 40, "training": {"log_every": 10, "schedule": {"peak": 1e-5}}})
        with torch.no_grad():
            task.model.quantizer.logits.weight.zero_()
            task.model.quantizer.logits.bias.view(2, -1)[:, 0] = 30.0
        run_task(task, tmp_path / "run")
        said = capsys.readouterr().out
        assert "COLLAPSED after 20 updates" in said and "Mend:" in said
        assert status(tmp_path / "run")["health"] == "collapsed"
        assert read_log(tmp_path / "run")[-1]["health"] == "collapsed"

    @pytest.mark.parametrize("level", [0.0, 0.3])
    def test_silent_recordings(self, level: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Silence, or nothing but an offset, and nothing else: no run."""
        corpus = write_corpus(tmp_path / "corpus", [0.5] * 6)
        for number in range(6):
            soundfile.write(corpus / f"{number}.wav", np.full(8000, level), 16_000)
        assert pretrain(corpus, tmp_path / "run") == 2
        said = capsys.readouterr()
        assert "utterance u0: nothing to hear" in said.out and "firstwords audit" in said.err

    @pytest.mark.parametrize("level", [0.0, 0.3])
    def test_constant_recordings(
        self, level: float, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Were they let through: the run is not called healthy."""
        monkeypatch.setattr("firstwords.training.audio_only.is_silent", lambda waveform: False)
        corpus = write_corpus(tmp_path / "corpus", [0.5] * 6)
        for number in range(6):
            soundfile.write(corpus / f"{number}.wav", np.full(8000, level), 16_000)
        assert pretrain(corpus, tmp_path / "run", changes={"steps": 60, "training": {"log_every": 10}}) == 0
        assert status(tmp_path / "run")["health"] in ("collapsed", "at chance", "stuck")
        assert "firstwords audit" in capsys.readouterr().out


def test_written_tones_are_read_as_they_were(tmp_path: Path) -> None:
    """The corpora of these tests are what they claim to be."""
    path = write_tone(tmp_path / "a.wav", 400 / 16_000)
    assert soundfile.info(path).frames == 400


def test_what_cannot_be_heard_is_left_out_and_named(tmp_path: Path) -> None:
    """Silence, a constant value and a last bit that flickers; very quiet sound and a DC offset are not silence."""
    random = np.random.default_rng(1)
    steps = {
        "zeros": np.zeros(8000),
        "constant": np.full(8000, 8192),
        "flicker": random.integers(-1, 2, 8000),
        "quiet": np.rint(20 * np.sin(np.arange(8000) / 5)),
        "offset": 8192 + np.rint(2000 * np.sin(np.arange(8000) / 5)),
    }
    for name, samples in steps.items():
        soundfile.write(tmp_path / f"{name}.wav", samples.astype(np.int16), 16_000)
    write_manifest(tmp_path, [{"id": name, "audio": f"{name}.wav", "duration": 0.5} for name in steps])
    task = pretraining(tmp_path)
    batch = task.make_batch(task.training, 8000, (1,))
    assert batch is not None and len(batch.waveforms) == 2
    assert set(task.skipped.reasons) == {"zeros", "constant", "flicker"}
    assert all("nothing to hear" in reason for reason in task.skipped.reasons.values())


def test_a_silent_crop_of_a_recording_is_passed_over_that_time_only(tmp_path: Path) -> None:
    samples = np.zeros(32_000)
    samples[:4000] = np.sin(np.arange(4000) / 5)
    soundfile.write(tmp_path / "pause.wav", samples, 16_000)
    write_manifest(tmp_path, [{"id": "pause", "audio": "pause.wav", "duration": 2.0}])
    task = pretraining(tmp_path)
    batches = [task.make_batch(task.training, 4000, (1, update)) for update in range(40)]
    assert 0 < sum(batch is None for batch in batches) < 40
    assert not task.skipped.reasons
