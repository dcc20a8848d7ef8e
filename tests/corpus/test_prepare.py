"""`prepare` writes a corpus that training can trust, names what it left out, and overwrites nothing by accident."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone, write_tone

from firstwords.cli import main
from firstwords.corpus.importers import ImportOptions
from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.prepare import PrepareOptions, prepare
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two good recordings among one of every bad kind."""
    folder = tmp_path / "recordings"
    write_tone(folder / "good.flac", 1.0, seed=1)
    (folder / "good.txt").write_text("hello there")
    write_tone(folder / "sub" / "phone.wav", 0.5, seed=2, rate=8_000)
    cut = write_tone(folder / "cut.wav", 1.0)
    cut.write_bytes(cut.read_bytes()[:9_000])
    cut = write_tone(folder / "torn.flac", 1.0)
    cut.write_bytes(cut.read_bytes()[:9_000])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "nothing.wav", np.zeros(0, np.float32), 16_000)
    soundfile.write(folder / "one.wav", tone(0.1)[:1], 16_000)
    bad = tone(0.1)
    bad[7] = np.nan
    soundfile.write(folder / "nan.wav", bad, 16_000, subtype="FLOAT")
    (folder / "alone.txt").write_text("nobody said this")
    return folder


@pytest.mark.parametrize("shards", [None, "wav", "flac"])
def test_bad_recordings_are_skipped_counted_and_named(recordings: Path, tmp_path: Path, shards: str | None) -> None:
    out = tmp_path / "corpus"
    prepared = prepare(recordings, out, PrepareOptions(shards=shards, language="en"))  # type: ignore[arg-type]
    found = {utterance.id: utterance for utterance in read_manifest(out)}
    assert {id: (u.text, u.duration, u.language) for id, u in found.items()} == {
        "good": ("hello there", 1.0, "en"),
        "sub/phone": (None, 0.5, "en"),
    }
    assert [len(utterance.read()) for utterance in found.values()] == [16_000, 8_000]
    lines = [line.split("\t") for line in (out / "problems.tsv").read_text().splitlines()[1:]]
    lost = {where: what for gone, where, what in lines if gone == "yes"}
    assert prepared.lost == len(lost) == 7
    for id, said in {
        "cut": "cut short",
        "torn": "broken recording",
        "empty": "the file is empty",
        "text": "not a readable recording",
        "nothing": "no samples",
        "one": "too short: 1 samples",
        "nan": "1 samples are not numbers",
    }.items():
        assert said in lost[id]
    kept = {where: what for gone, where, what in lines if gone == "no"}
    assert kept == {str(recordings / "alone.txt"): "text without audio", "sub/phone": "audio without text"}


def test_quick_reads_headers_only(recordings: Path, tmp_path: Path) -> None:
    prepare(recordings, tmp_path / "corpus", PrepareOptions(quick=True))
    found = {utterance.id: utterance.duration for utterance in read_manifest(tmp_path / "corpus")}
    assert found == {"good": 1.0, "sub/phone": 0.5, "torn": 1.0, "nan": 0.1}  # the last two need decoding to be seen


def test_a_wrong_claim_is_caught(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", 1.0)
    lines = [
        Utterance("rate", path, extras={"sample_rate": 44_100}),
        Utterance("long", path, duration=1.5),
        Utterance("right", path, duration=1.04, extras={"sample_rate": 16_000, "mood": "calm"}),
    ]
    write_manifest(lines, tmp_path / "manifest.jsonl")
    for options in (PrepareOptions(), PrepareOptions(quick=True, overwrite=True)):
        prepared = prepare(tmp_path / "manifest.jsonl", tmp_path / "out", options)
        assert [(u.id, u.duration, u.extras.get("mood")) for u in prepared.utterances] == [("right", 1.0, "calm")]
        said = {problem.where: problem.what for problem in prepared.problems}
        assert "44100 Hz" in said["rate"] and "16000 Hz" in said["rate"]
        assert "1.50 s" in said["long"] and "1.00 s" in said["long"]


def test_preparing_again_changes_nothing_and_another_corpus_is_refused(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    prepare(recordings, out, PrepareOptions(shards="wav"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    prepare(recordings, out, PrepareOptions(shards="wav"))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    (recordings / "good.txt").write_text("something else")
    other = tmp_path / "other"
    write_tone(other / "x.wav", 0.2)
    for source, said in (
        (recordings, "utterance good differs in text"),
        (other, "2 utterances that the source has not"),
    ):
        with pytest.raises(CorpusError, match=rf"{said}.*--overwrite"):
            prepare(source, out, PrepareOptions(shards="wav"))
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    prepare(other, out, PrepareOptions(shards="wav", overwrite=True))
    assert [utterance.id for utterance in read_manifest(out)] == ["x"]
    assert not (out / "problems.tsv").exists()


def test_a_corpus_can_be_packed_in_its_own_place(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    prepare(recordings, out, PrepareOptions(shards="wav"))
    before = [utterance.read() for utterance in read_manifest(out)]
    prepare(out, out, PrepareOptions(shards="flac", overwrite=True))
    after = read_manifest(out)
    assert all(np.array_equal(a, b.read()) for a, b in zip(before, after, strict=True))


def test_a_full_disk_says_so_and_keeps_what_was_there(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    prepare(recordings, out)
    before = (out / "manifest.jsonl").read_bytes()
    (recordings / "good.txt").write_text("something else")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("firstwords.corpus.manifest.os.fsync", full)
    assert main(["prepare", str(recordings), str(out), "--overwrite"]) == 2
    assert "manifest.jsonl: cannot be written (No space left on device)" in capsys.readouterr().err
    assert (out / "manifest.jsonl").read_bytes() == before
    assert not list(out.glob("*.part"))


def spoken(tmp_path: Path, speakers: int, each: int) -> Path:
    folder = tmp_path / "speakers"
    for speaker in range(speakers):
        for index in range(each):
            write_tone(folder / f"s{speaker}" / f"{speaker}-{index}.wav", 0.1)
    return folder


def test_splits_keep_speakers_whole_and_stay_the_same(tmp_path: Path) -> None:
    source = spoken(tmp_path, speakers=12, each=3)
    options = PrepareOptions(dev=0.15, test=0.25)
    first = prepare(source, tmp_path / "one", options, ImportOptions(speaker_from_folder=True))
    splits: dict[str, set[str]] = {}
    for utterance in first.utterances:
        splits.setdefault(utterance.split or "", set()).add(utterance.speaker or "")
    assert set(splits) == {"train", "dev", "test"}
    assert sum(map(len, splits.values())) == 12
    assert len(splits["test"]) == 3 and 1 <= len(splits["dev"]) <= 3
    again = prepare(source, tmp_path / "two", options, ImportOptions(speaker_from_folder=True))
    assert [u.split for u in again.utterances] == [u.split for u in first.utterances]
    assert not first.notes


def test_too_few_speakers_are_split_by_utterance_and_said_so(tmp_path: Path) -> None:
    source = spoken(tmp_path, speakers=1, each=20)
    options = PrepareOptions(dev=0.1, test=0.1)
    prepared = prepare(source, tmp_path / "out", options, ImportOptions(speaker_from_folder=True))
    counts = {name: sum(u.split == name for u in prepared.utterances) for name in ("train", "dev", "test")}
    assert counts == {"train": 16, "dev": 2, "test": 2}
    assert "too few speakers" in prepared.notes[0]


def test_splits_of_the_source_stay_unless_told_otherwise(tmp_path: Path) -> None:
    for index in range(4):
        write_tone(tmp_path / "in" / "test" / f"{index}.wav", 0.1)
    kept = prepare(tmp_path / "in", tmp_path / "one", PrepareOptions(dev=0.5))
    assert {utterance.split for utterance in kept.utterances} == {"test"}
    anew = prepare(tmp_path / "in", tmp_path / "two", PrepareOptions(dev=0.5, resplit=True))
    assert {utterance.split for utterance in anew.utterances} == {"train", "dev"}
    with pytest.raises(CorpusError, match="together below 1"):
        prepare(tmp_path / "in", tmp_path / "three", PrepareOptions(dev=0.5, test=0.5))


def test_names_that_are_not_unicode_survive(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "in" / "a.wav", 0.1)
    strange = os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.wav")
    try:
        os.rename(path, strange)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    prepare(tmp_path / "in", tmp_path / "one")
    assert len(read_manifest(tmp_path / "one")[0].read()) == 1600
    prepare(tmp_path / "in", tmp_path / "two", PrepareOptions(shards="wav"))
    assert len(read_manifest(tmp_path / "two")[0].read()) == 1600


def test_a_corpus_behind_a_link_finds_its_recordings(tmp_path: Path) -> None:
    write_tone(tmp_path / "recordings" / "a.wav", 0.1)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "corpus").symlink_to(tmp_path / "far" / "away")
    prepare(tmp_path / "recordings", tmp_path / "corpus")
    assert len(read_manifest(tmp_path / "corpus")[0].read()) == 1600
    assert len(read_manifest(tmp_path / "far" / "away")[0].read()) == 1600


def test_the_command_says_what_there_is(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(recordings), str(tmp_path / "corpus"), "--shards", "flac"]) == 0
    said = capsys.readouterr().out
    assert "read as folder" in said and "7 left out" in said and "... and 2 more" in said and "problems.tsv" in said
    assert main(["prepare", str(tmp_path / "nowhere"), str(tmp_path / "c")]) == 2
    (tmp_path / "void").mkdir()
    assert main(["prepare", str(tmp_path / "void"), str(tmp_path / "c")]) == 2
    error = capsys.readouterr().err
    assert "no such file or folder" in error and "no audio found among 0 files; looked for manifest.jsonl" in error
    assert not (tmp_path / "c").exists()
    (tmp_path / "broken.jsonl").write_text('{"audio": "a.wav"}\n{"audio"\n')
    assert main(["prepare", str(tmp_path / "broken.jsonl"), str(tmp_path / "c")]) == 2
    assert "broken.jsonl, line 2: not JSON" in capsys.readouterr().err


def test_shared_manifests_work_as_they_are(speech: Path, tmp_path: Path) -> None:
    prepared = prepare(speech / "yesno", tmp_path / "yesno", PrepareOptions(shards="wav"))
    assert (len(prepared.utterances), prepared.problems) == (55, [])
    original = {utterance.id: utterance for utterance in read_manifest(speech / "yesno")}
    stored = read_manifest(tmp_path / "yesno")[17]
    assert np.abs(stored.read() - original[stored.id].read()).max() <= 0.5 / 32768
    assert (stored.text, stored.extras) == (original[stored.id].text, original[stored.id].extras)


def test_corpus_code_does_not_load_torch() -> None:
    code = "import sys, firstwords.cli.prepare, firstwords.cli.audit; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", "import json; " + code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
