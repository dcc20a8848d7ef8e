"""Embedding a corpus: as each recording alone, in every format; stopped and taken up; what is broken is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints.small import KINDS, encoder_config, recogniser, saved
from conftest import write_tone

from firstwords import feature_files, features
from firstwords.audio import read_audio
from firstwords.checkpoints.own import Checkpoint, write_checkpoint
from firstwords.corpus.utterance import Utterance
from firstwords.embedding import EmbedConfig, embed, gather
from firstwords.encoder import Encoder, load_encoder
from firstwords.errors import CheckpointError, ConfigError, CorpusError
from firstwords.feature_files import FORMATS, Embeddings, FeatureFileError, FileFormat
from firstwords.features import LayerFeatures, probe_weights
from firstwords.pooling import PoolConfig
from firstwords.windows import WindowConfig

SECONDS = [0.9, 0.31, 0.6, 0.02, 1.7, 0.33]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(saved(recogniser(KINDS["vox"]), tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("corpus")
    for number, seconds in enumerate(SECONDS):
        write_tone(folder / "some" / f"talk.{number}.wav", seconds, number)
    utterances, problems = gather([folder])
    assert not problems and [u.id for u in utterances] == [f"some/talk.{number}" for number in range(len(SECONDS))]
    return utterances


@torch.inference_mode()
def alone(encoder: Encoder, utterance: Utterance, layer: int | None = None) -> np.ndarray:
    samples = torch.from_numpy(read_audio(utterance.audio))
    samples = torch.nn.functional.pad(samples, (0, max(0, encoder.receptive_field - len(samples))))
    return encoder(samples[None], None, layer)[0].numpy()


def needs(format: FileFormat) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")


def shards(**changes: Any) -> EmbedConfig:
    return dataclasses.replace(EmbedConfig(shard_megabytes=0.004), **changes)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_what_each_recording_gives_alone(
    format: FileFormat, encoder: Encoder, corpus: list[Utterance], tmp_path: Path
) -> None:
    needs(format)
    done = embed(LayerFeatures(encoder, 1), corpus, tmp_path / "out", shards(format=format), progress=False)
    found = Embeddings(tmp_path / "out")
    assert list(found) == [utterance.id for utterance in corpus] and not done.skipped
    for utterance in corpus:
        np.testing.assert_allclose(found[utterance.id], alone(encoder, utterance, 1), atol=2e-5, rtol=1e-4)
    assert done.rows == sum(len(rows) for rows in found.values())
    if format in ("safetensors", "parquet"):
        assert len({entry.file for entry in found.entries.values()}) > 1  # several files, none lost between them


def test_other_programs_read_the_files(encoder: Encoder, corpus: list[Utterance], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    layer = LayerFeatures(encoder, 2)
    for format in ("npy", "memmap", "safetensors"):
        embed(layer, corpus, tmp_path / format, EmbedConfig(format=format), progress=False)  # type: ignore[arg-type]
    single = np.load(tmp_path / "npy" / "some%2Ftalk%2E4.npy")
    tensors = load_file(tmp_path / "safetensors" / "features-00000.safetensors")
    together = np.load(tmp_path / "memmap" / "features.npy", mmap_mode="r")
    lengths = [int(line) for line in (tmp_path / "memmap" / "features.lengths").read_text().split()]
    ids = (tmp_path / "memmap" / "features.ids").read_text().split()
    begin = sum(lengths[: ids.index("some/talk.4")])
    assert len(together) == sum(lengths)
    np.testing.assert_array_equal(together[begin : begin + len(single)], single)
    np.testing.assert_array_equal(tensors["some/talk.4"].numpy(), single)


@pytest.mark.parametrize("format", ["safetensors", "parquet"])
@pytest.mark.parametrize("pool", ["mean", "statistics"])
def test_an_utterance_is_one_vector(
    format: FileFormat, pool: str, encoder: Encoder, corpus: list[Utterance], tmp_path: Path
) -> None:
    needs(format)
    config = shards(format=format, pooling=PoolConfig("utterance", pool))  # type: ignore[arg-type]
    embed(LayerFeatures(encoder), corpus, tmp_path / "out", config, progress=False)
    found = Embeddings(tmp_path / "out")
    for utterance in corpus:
        frames = alone(encoder, utterance).astype(np.float64)
        wanted = frames.mean(0) if pool == "mean" else np.concatenate([frames.mean(0), frames.std(0)])
        np.testing.assert_allclose(found[utterance.id], wanted, atol=2e-5, rtol=1e-4)


def test_parquet_has_the_manifest_beside_the_windows(encoder: Encoder, corpus: list[Utterance], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    corpus = [dataclasses.replace(one, speaker=f"s{number % 2}") for number, one in enumerate(corpus)]
    pooling = PoolConfig("window", window=0.4, hop=0.2)
    embed(LayerFeatures(encoder), corpus, tmp_path / "out", EmbedConfig(pooling, "parquet"), progress=False)
    table = parquet.read_table(tmp_path / "out" / "features-00000.parquet").to_pydict()
    own = [row for row, name in enumerate(table["id"]) if name == corpus[0].id]
    assert [(table["start"][row], round(table["end"][row], 3)) for row in own] == [
        (0.0, 0.4), (0.2, 0.6), (0.4, 0.8), (pytest.approx(0.6), 0.9),
    ]  # fmt: skip
    assert {table["speaker"][row] for row in own} == {"s0"} and table["text"][0] is None
    rows = Embeddings(tmp_path / "out")[corpus[0].id]
    np.testing.assert_array_equal(np.array([table["features"][row] for row in own], dtype=np.float32), rows)


@pytest.mark.parametrize("kind", ["vox", "base"])
def test_long_recordings_pass_in_windows_as_if_heard_at_once(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder(saved(recogniser(KINDS[kind]), tmp_path), device="cpu")
    write_tone(tmp_path / "long" / "long.wav", 2.4, 9)
    utterances, _ = gather([tmp_path / "long"])
    config = EmbedConfig(windows=WindowConfig(1.0, 0.3))
    # without attention, windows give the same: waveform and norms over time see the whole recording
    embed(LayerFeatures(encoder, 0), utterances, tmp_path / "first", config, progress=False)
    wanted = alone(encoder, utterances[0], 0)
    np.testing.assert_allclose(Embeddings(tmp_path / "first")["long"], wanted, atol=5e-5, rtol=1e-4)
    embed(LayerFeatures(encoder), utterances, tmp_path / "last", config, progress=False)
    wanted = alone(encoder, utterances[0])
    found = Embeddings(tmp_path / "last")["long"]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() < 0.05 * np.abs(wanted).mean()  # attention ends at a window's edge


def test_a_weighted_sum_of_layers_is_that_of_each(encoder: Encoder, corpus: list[Utterance], tmp_path: Path) -> None:
    weights = [0.2, -0.5, 1.3]
    embed(LayerFeatures(encoder, weights=weights), corpus, tmp_path / "out", progress=False)
    for utterance in corpus:
        states = [alone(encoder, utterance, layer) for layer in (0, 1, None)]
        wanted = sum(weight * state for weight, state in zip(weights, states, strict=True))
        np.testing.assert_allclose(Embeddings(tmp_path / "out")[utterance.id], wanted, atol=5e-5, rtol=1e-4)


def test_the_weights_of_a_trained_probe(tmp_path: Path) -> None:
    logits = torch.tensor([0.0, 2.0, -1.0])
    write_checkpoint(tmp_path / "best.safetensors", Checkpoint("classifier", {}, {"head.layer_weights": logits}))
    assert probe_weights(tmp_path) == pytest.approx(logits.softmax(0).tolist())
    with pytest.raises(CheckpointError, match="no weights of layers"):
        probe_weights(saved(recogniser(encoder_config()), tmp_path / "other"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("moment", [1, 3, 5])
def test_stopped_anywhere_it_goes_on_to_the_same_files(
    format: FileFormat, moment: int, encoder: Encoder, corpus: list[Utterance], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    needs(format)
    monkeypatch.setattr(features, "READ_AHEAD", 4)
    layer, config = LayerFeatures(encoder, 1), shards(format=format)
    embed(layer, corpus, tmp_path / "unbroken", config, progress=False)
    commit = feature_files.FeatureWriter._commit
    count = 0

    def killed(self: Any, entry: Any) -> Any:
        nonlocal count
        count += 1
        if count > moment:
            raise Killed
        return commit(self, entry)

    monkeypatch.setattr(feature_files.FeatureWriter, "_commit", killed)
    with pytest.raises(Killed):
        embed(layer, corpus, tmp_path / "stopped", config, progress=False)
    monkeypatch.setattr(feature_files.FeatureWriter, "_commit", commit)
    with pytest.raises(FeatureFileError, match="not complete"):
        Embeddings(tmp_path / "stopped")
    with open(tmp_path / "stopped" / "features.part", "ab") as part:  # half a recording, and half a line about it
        part.write(b"rubbish")
    with open(tmp_path / "stopped" / "index.jsonl", "a") as index:
        index.write('{"id": "some/ta')
    again = embed(layer, corpus, tmp_path / "stopped", config, progress=False)
    assert again.before == moment
    assert contents(tmp_path / "stopped") == contents(tmp_path / "unbroken")
    assert embed(layer, corpus, tmp_path / "stopped", config, progress=False).complete_before


def test_rows_lost_in_a_power_cut_are_made_again(
    encoder: Encoder, corpus: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, config = LayerFeatures(encoder, 1), EmbedConfig(format="memmap")
    embed(layer, corpus, tmp_path / "unbroken", config, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(feature_files.FeatureWriter, "_finish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            embed(layer, corpus, tmp_path / "stopped", config, progress=False)
    part = tmp_path / "stopped" / "features.part"
    with open(part, "r+b") as file:
        file.truncate(part.stat().st_size // 2)
    assert 0 < embed(layer, corpus, tmp_path / "stopped", config, progress=False).before < len(corpus)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "unbroken")


def test_a_full_disk_keeps_what_is_finished(
    encoder: Encoder, corpus: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        seal = feature_files.FeatureWriter._seal_npy

        def full(self: Any, file: str, rows: int) -> None:
            if len(self.entries) == 2:
                raise OSError(28, "No space left on device")
            seal(self, file, rows)

        patch.setattr(feature_files.FeatureWriter, "_seal_npy", full)
        with pytest.raises(FeatureFileError, match=r"No space left on device.* 2 recordings are kept"):
            embed(LayerFeatures(encoder), corpus, tmp_path / "out", progress=False)
    assert embed(LayerFeatures(encoder), corpus, tmp_path / "out", progress=False).before == 2
    assert len(Embeddings(tmp_path / "out")) == len(corpus)


def test_broken_recordings_are_told_and_left_out(encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    for number in range(3):
        write_tone(folder / f"{number}.wav", 0.4, number)
    write_tone(folder / "long.wav", 2.5)
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:3000])
    (folder / "long.wav").write_bytes((folder / "long.wav").read_bytes()[:50_000])
    (folder / "talk.m4a").write_bytes(b"x")
    utterances, problems = gather([folder])
    config = EmbedConfig(windows=WindowConfig(1.0, 0.1))
    done = embed(LayerFeatures(encoder), utterances, tmp_path / "out", config, progress=False)
    assert set(done.skipped) == {"1", "long"} and list(Embeddings(tmp_path / "out")) == ["0", "2"]
    assert "ffmpeg" in next(iter(problems.values()))


def test_wrong_wishes_are_told(encoder: Encoder, corpus: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer 3: this encoder has 0 .* to 2"):
        LayerFeatures(encoder, 3)
    with pytest.raises(ConfigError, match="2 weights of layers: this encoder has 3"):
        LayerFeatures(encoder, weights=[1, 2])
    with pytest.raises(CorpusError, match="no utterances"):
        embed(LayerFeatures(encoder), [], tmp_path / "out")
    with pytest.raises(ConfigError, match="at least a frame"):
        config = EmbedConfig(PoolConfig("window", window=0.001))
        embed(LayerFeatures(encoder), corpus, tmp_path / "out", config)
    with pytest.raises(FeatureFileError, match="no format 'hdf5'"):
        embed(LayerFeatures(encoder), corpus, tmp_path / "out", EmbedConfig(format="hdf5"))  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="no such recording"):
        gather([tmp_path / "nowhere"])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    with pytest.raises(FeatureFileError, match="holds something else"):
        embed(LayerFeatures(encoder), corpus, tmp_path / "taken")
    embed(LayerFeatures(encoder, 1), corpus, tmp_path / "out", progress=False)
    with pytest.raises(FeatureFileError, match="begun with layer 1, now layer is 2"):
        embed(LayerFeatures(encoder, 2), corpus, tmp_path / "out")
    with pytest.raises(FeatureFileError, match="begun with utterances"):
        embed(LayerFeatures(encoder, 1), corpus[1:], tmp_path / "out")


def test_half_precision_is_half_the_size_and_refuses_what_it_cannot_hold(
    encoder: Encoder, corpus: list[Utterance], tmp_path: Path
) -> None:
    half = EmbedConfig(dtype="float16")
    embed(LayerFeatures(encoder), corpus[:2], tmp_path / "half", half, progress=False)
    found = Embeddings(tmp_path / "half")[corpus[0].id]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, alone(encoder, corpus[0]), atol=2e-3, rtol=2e-3)
    large = LayerFeatures(encoder, weights=[0, 0, 1e7])
    with pytest.raises(FeatureFileError, match="do not fit in float16"):
        embed(large, corpus[:2], tmp_path / "large", half, progress=False)


def test_ids_of_several_places_differ(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_tone(tmp_path / folder / "talk.wav", 0.1)
    lines = [json.dumps({"id": "talk", "audio": "a/talk.wav"})]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    places = [tmp_path, tmp_path / "a", tmp_path / "b" / "talk.wav"]
    assert [utterance.id for utterance in gather(places)[0]] == ["talk", "a/talk", "b/talk"]


def test_the_model_is_part_of_what_was_asked(corpus: list[Utterance], encoder: Encoder, tmp_path: Path) -> None:
    other = load_encoder(saved(recogniser(encoder_config(vox=True), seed=1), tmp_path), device="cpu")
    embed(LayerFeatures(encoder), corpus, tmp_path / "out", progress=False)
    with pytest.raises(FeatureFileError, match="begun with model"):
        embed(LayerFeatures(other), corpus, tmp_path / "out")
