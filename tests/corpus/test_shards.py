"""Shards hold what the recordings hold, other tools can read them, and a failure leaves nothing half-written."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from conftest import tone, write_tone

from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.parallel import map_in_order
from firstwords.corpus.shards import ShardFormat, member_key, write_shards
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError

IDS = ["plain", "a/b/c.d", "../up", "spaces and ünïcode", "100%", "x" * 150]


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Six 16-bit 16 kHz recordings with awkward ids."""
    paths = [write_tone(tmp_path / f"{index}.wav", 0.2 + 0.1 * index, seed=index) for index in range(len(IDS))]
    return [Utterance(id, path, text=id.upper(), speaker="s") for id, path in zip(IDS, paths, strict=True)]


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_random_access_equals_the_original(tmp_path: Path, utterances: list[Utterance], format: ShardFormat) -> None:
    utterances[1] = replace(utterances[1], start=0.05, duration=0.1)
    out = tmp_path / "corpus"
    sharded = write_shards(utterances, out / "shards", format, shard_bytes=20_000)
    write_manifest(sharded.utterances, out / "manifest.jsonl")
    os.rename(out, tmp_path / "moved")  # a corpus is relative to itself
    back = read_manifest(tmp_path / "moved")
    assert [utterance.id for utterance in back] == IDS
    assert len({utterance.audio for utterance in back}) > 1
    for original, stored in reversed(list(zip(utterances, back, strict=True))):
        samples = original.read()
        assert np.array_equal(stored.read(), samples)
        assert stored.duration == len(samples) / 16_000
        assert (stored.text, stored.start) == (original.text, 0.0)


def test_other_rates_and_floats_come_back_within_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(0.5, 1, 44_100), tone(0.5, 2, 44_100)], axis=1), 44_100, subtype="FLOAT")
    original = Utterance("a", path, extras={"sample_rate": 44_100})
    stored = write_shards([original], tmp_path / "shards").utterances[0]
    assert np.abs(stored.read() - original.read()).max() <= 0.5 / 32768
    assert stored.extras == {"sample_rate": 16_000, "src_rate": 44_100}


def test_tar_has_webdataset_members(tmp_path: Path, utterances: list[Utterance]) -> None:
    sharded = write_shards(utterances, tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "shard-000000.tar") as tar:
        names = tar.getnames()
        assert names == [f"{member_key(id)}.{kind}" for id in IDS for kind in ("wav", "json")]
        for utterance, name in zip(sharded.utterances, names[::2], strict=True):
            assert name.count(".") == 1 and "/" not in name  # a key ends at its first dot
            assert unquote(name.removesuffix(".wav")) == utterance.id
            content = tar.extractfile(name).read()  # type: ignore[union-attr]
            assert content == utterance.source()
            about = soundfile.info(io.BytesIO(content))
            assert (about.samplerate, about.channels, about.subtype) == (16_000, 1, "PCM_16")
            fields = json.load(tar.extractfile(name.replace(".wav", ".json")))  # type: ignore[arg-type]
            assert fields == {
                "id": utterance.id,
                "duration": utterance.duration,
                "text": utterance.text,
                "speaker": "s",
            }


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path, utterances: list[Utterance]) -> None:
    soundfile.write(tmp_path / "one.wav", tone(0.1)[:1], 16_000)
    soundfile.write(tmp_path / "loud.wav", tone(0.1) * 100, 16_000, subtype="FLOAT")
    bad = [Utterance("gone", tmp_path / "gone.wav"), Utterance("one", tmp_path / "one.wav")]
    sharded = write_shards([*bad, Utterance("loud", tmp_path / "loud.wav"), *utterances], tmp_path / "shards")
    assert [utterance.id for utterance in sharded.utterances] == ["loud", *IDS]
    assert [(problem.where, problem.lost) for problem in sharded.problems] == [
        ("gone", True),
        ("one", True),
        ("loud", False),
    ]
    assert "no such file" in sharded.problems[0].what
    assert "1 samples" in sharded.problems[1].what
    with pytest.raises(CorpusError, match=r"none of the 2 recordings can be used:\n  gone: .*no such file"):
        write_shards(bad, tmp_path / "others")
    assert not (tmp_path / "others").exists()


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_full_disk_leaves_the_old_shards_and_no_half_ones(
    tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    old = write_shards(utterances[:1], tmp_path / "shards").utterances[0]
    before = old.read()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if moment == "write":
        monkeypatch.setattr("firstwords.corpus.shards.os.fsync", full)
    else:
        rename = os.replace
        monkeypatch.setattr(
            "firstwords.corpus.shards.os.replace", lambda a, b: full() if str(a).endswith(".part") else rename(a, b)
        )
    with pytest.raises(CorpusError, match=r"cannot be written \(No space left on device"):
        write_shards(utterances[1:], tmp_path / "shards", shard_bytes=10_000)
    assert np.array_equal(old.read(), before)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["shards"]


def test_a_really_full_device(tmp_path: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    real = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *args, **more: real("/dev/full" if str(path).endswith(".tar") else path, *args, **more),
    )
    with pytest.raises(CorpusError, match="No space left on device"):
        write_shards(utterances, tmp_path / "shards")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_shard_that_was_cut_says_so(tmp_path: Path, utterances: list[Utterance]) -> None:
    last = write_shards(utterances, tmp_path / "shards").utterances[-1]
    os.truncate(last.audio, (last.offset or 0) + 100)
    with pytest.raises(AudioError, match=r"shard ends before utterance x+ does"):
        last.read()


def test_threads_keep_the_order_and_hold_few_results() -> None:
    lock, running, most = threading.Lock(), 0, 0
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1, 101):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (item % 3))
        with lock:
            running -= 1
        return item

    seen = []
    for result in map_in_order(work, items(), workers=3):
        seen.append(result)
        assert taken[-1] - result <= 5
    assert seen == list(range(1, 101))
    assert 1 < most <= 3
