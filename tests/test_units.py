"""Units of a corpus: those of each recording alone; taken up after a stop; how they agree with phones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints.small import KINDS, encoder_config, pretrained, recogniser, saved
from conftest import write_tone

from firstwords import features, units
from firstwords.audio import read_audio
from firstwords.codebook import Codebook, draw
from firstwords.coder import load_coder
from firstwords.corpus.intervals import Interval
from firstwords.corpus.utterance import Utterance
from firstwords.embedding import gather
from firstwords.encoder import Encoder, load_encoder
from firstwords.errors import CheckpointError, ConfigError
from firstwords.features import LayerFeatures, OwnCodes
from firstwords.nn.kmeans import assign
from firstwords.unit_quality import UnitCounts
from firstwords.units import UnitConfig, UnitsError, read_units, write_units
from firstwords.windows import WindowConfig

SECONDS = [0.9, 0.31, 0.6, 0.02, 1.2, 0.33]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(saved(recogniser(KINDS["vox"]), tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("corpus")
    for number, seconds in enumerate(SECONDS):
        write_tone(folder / f"talk{number}.wav", seconds, number)
    return gather([folder])[0]


@torch.inference_mode()
def alone(encoder: Encoder, utterance: Utterance, codebook: Codebook, layer: int) -> list[int]:
    samples = torch.from_numpy(read_audio(utterance.audio))
    samples = torch.nn.functional.pad(samples, (0, max(0, encoder.receptive_field - len(samples))))
    found: list[int] = assign(encoder(samples[None], None, layer)[0], codebook.centroids).tolist()
    return found


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("hours", [None, 1.3 / 3600])
def test_units_are_those_of_each_recording_alone(
    hours: float | None, encoder: Encoder, corpus: list[Utterance], tmp_path: Path
) -> None:
    config = UnitConfig(clusters=5, hours=hours, repetitions=True)
    found = write_units(LayerFeatures(encoder, 1), corpus, tmp_path / "out", config, progress=False)
    codebook = Codebook.load(tmp_path / "out" / "codebook.safetensors")
    lines = read_lines(found.path)
    assert [line["id"] for line in lines] == [utterance.id for utterance in corpus]
    for utterance, line in zip(corpus, lines, strict=True):
        assert line["units"] == alone(encoder, utterance, codebook, 1)
    assert len({unit for line in lines for unit in line["units"]}) > 2
    assert not (tmp_path / "out" / "features").exists()
    if hours is not None:
        assert codebook.about["hours"] * 3600 < sum(SECONDS) - 1


def test_repetitions_removed_and_durations_kept_say_the_same(
    encoder: Encoder, corpus: list[Utterance], tmp_path: Path
) -> None:
    layer = LayerFeatures(encoder, 2)
    every = write_units(layer, corpus, tmp_path / "every", UnitConfig(4, repetitions=True), progress=False)
    codebook = Codebook.load(tmp_path / "every" / "codebook.safetensors")
    runs = write_units(layer, corpus, tmp_path / "runs", UnitConfig(durations=True), codebook, progress=False)
    text = UnitConfig(format="text", durations=True)
    texts = write_units(layer, corpus, tmp_path / "text", text, codebook, progress=False)
    for one, frames, line in zip(
        read_lines(runs.path), read_lines(every.path), texts.path.read_text().splitlines(), strict=True
    ):
        assert np.repeat(one["units"], one["durations"]).tolist() == frames["units"]
        assert all(a != b for a, b in zip(one["units"], one["units"][1:], strict=False))
        joined = " ".join(map(str, one["units"])), " ".join(map(str, one["durations"]))
        assert line == "\t".join([one["id"], *joined])
        assert read_units(tmp_path / "runs")[one["id"]].frames[:, 0].tolist() == frames["units"]


def test_a_models_own_codes(corpus: list[Utterance], tmp_path: Path) -> None:
    coder = load_coder(saved(pretrained(encoder_config()), tmp_path), device="cpu")
    config = UnitConfig(format="text", repetitions=True, windows=WindowConfig(1.0, 0.01))  # some are long then
    found = write_units(OwnCodes(coder), corpus, tmp_path / "out", config, progress=False)
    for utterance, line in zip(corpus, found.path.read_text().splitlines(), strict=True):
        samples = torch.from_numpy(read_audio(utterance.audio))
        samples = torch.nn.functional.pad(samples, (0, max(0, coder.receptive_field - len(samples))))
        with torch.inference_mode():
            codes = coder(samples[None])[0].tolist()
        assert line == f"{utterance.id}\t" + " ".join("-".join(map(str, pair)) for pair in codes)
    assert (found.groups, found.entries) == (2, 6)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("hours", [None, 1.3 / 3600])
@pytest.mark.parametrize("moment", [0, 2, 4])
def test_stopped_it_goes_on_to_the_same_units(
    hours: float | None, moment: int, encoder: Encoder, corpus: list[Utterance], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(features, "READ_AHEAD", 3)
    layer, config = LayerFeatures(encoder, 1), UnitConfig(4, hours=hours)
    whole = write_units(layer, corpus, tmp_path / "unbroken", config, progress=False)
    run_line = units._run_line
    with monkeypatch.context() as patch:
        count = iter(range(99))

        def killed(sequence: units.UnitSequence) -> str:
            if next(count) == moment:
                raise Killed
            return run_line(sequence)

        patch.setattr(units, "_run_line", killed)
        with pytest.raises(Killed):
            write_units(layer, corpus, tmp_path / "stopped", config, progress=False)
    with open(tmp_path / "stopped" / "runs.jsonl", "a") as lines:
        lines.write('["talk5", 0.3')
    with pytest.raises(UnitsError, match="not complete"):
        read_units(tmp_path / "stopped")
    again = write_units(layer, corpus, tmp_path / "stopped", config, progress=False)
    assert again.before == moment and again.path.read_bytes() == whole.path.read_bytes()
    assert write_units(layer, corpus, tmp_path / "stopped", config, progress=False).before == len(corpus)


def test_wrong_wishes_are_told(encoder: Encoder, corpus: list[Utterance], tmp_path: Path) -> None:
    layer = LayerFeatures(encoder, 1)
    with pytest.raises(ConfigError, match="900 clusters need at least as many frames"):
        write_units(layer, corpus, tmp_path / "many", UnitConfig(900), progress=False)
    with pytest.raises(ConfigError, match="centroids of width 3 do not fit features of width 16"):
        write_units(layer, corpus, tmp_path / "wide", codebook=Codebook(torch.zeros(2, 3)), progress=False)
    write_units(layer, corpus, tmp_path / "out", UnitConfig(3), progress=False)
    with pytest.raises(UnitsError, match="begun with clusters 3, now clusters is 4"):
        write_units(layer, corpus, tmp_path / "out", UnitConfig(4), progress=False)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    with pytest.raises(UnitsError, match="holds something else"):
        write_units(layer, corpus, tmp_path / "taken", UnitConfig(4), progress=False)
    with pytest.raises(CheckpointError, match="no such file of a k-means"):
        Codebook.load(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="more than 0"):
        draw(corpus, 0.0, 0)


def test_a_sample_of_hours_is_drawn_by_the_seed(corpus: list[Utterance]) -> None:
    drawn = [u.id for u in draw(corpus, 1.0 / 3600, 0)]
    assert drawn == [u.id for u in draw(corpus, 1.0 / 3600, 0)] and 0 < len(drawn) < len(corpus)
    assert any(drawn != [u.id for u in draw(corpus, 1.0 / 3600, seed)] for seed in range(1, 9))
    assert draw(corpus, None, 0) == corpus


def test_purities_and_mutual_information_are_those_of_the_definition() -> None:
    """Against sums over the joint distribution, written out."""
    random = np.random.default_rng(0)
    phones = random.integers(0, 4, 500)
    found = np.where(random.random(500) < 0.7, phones * 2 + random.integers(0, 2, 500), random.integers(0, 9, 500))
    counts = UnitCounts(stride=320, receptive_field=320)
    intervals = [Interval("abcd"[phone], t * 0.02, (t + 1) * 0.02) for t, phone in enumerate(phones)]
    counts.add(found[:, None], intervals)
    (quality,) = counts.qualities()
    joint = np.zeros((4, 9))
    np.add.at(joint, (phones, found), 1 / 500)
    p_y, p_z = joint.sum(1), joint.sum(0)
    phone_purity = sum(p_z[z] * (joint[:, z] / p_z[z]).max() for z in range(9))
    cluster_purity = sum(p_y[y] * (joint[y] / p_y[y]).max() for y in range(4))
    told = sum(p * np.log(p / (p_y[y] * p_z[z])) for (y, z), p in np.ndenumerate(joint) if p)
    entropy = -sum(p * np.log(p) for p in p_y)
    assert quality.phone_purity == pytest.approx(phone_purity)
    assert quality.cluster_purity == pytest.approx(cluster_purity)
    assert quality.pnmi == pytest.approx(told / entropy)
    assert (quality.frames, quality.phones, quality.units) == (500, 4, 9)
    assert quality.commonest == pytest.approx(p_y.max())


def test_codebooks_are_measured_together_and_each() -> None:
    phones = np.array([0, 1, 2, 3] * 50)
    codes = np.stack([phones // 2, phones % 2], 1)  # only together do they tell the phone
    counts = UnitCounts(stride=320, receptive_field=320, groups=2)
    counts.add(codes, [Interval("abcd"[phone], t * 0.02, (t + 1) * 0.02) for t, phone in enumerate(phones)])
    both, first, second = counts.qualities()
    assert both.pnmi == pytest.approx(1) and both.phone_purity == 1
    assert first.pnmi == second.pnmi == pytest.approx(0.5)


def test_frames_outside_every_interval_are_silence() -> None:
    counts = UnitCounts(stride=320, receptive_field=400)
    counts.add(np.array([[7], [7], [8], [8]]), [Interval("AH0", 0.04, 0.08), Interval("AH1", 0.08, 0.2)])
    (quality,) = counts.qualities()
    assert (quality.phones, quality.pnmi) == (2, pytest.approx(1))  # stress is dropped
