"""`audit` finds what will hurt, and only that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone, write_tone

from firstwords.cli import main
from firstwords.corpus.audit import audit, clipped_share, frames_needed, frames_of, silence_share
from firstwords.corpus.importers import import_corpus
from firstwords.corpus.manifest import read_manifest, write_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError
from firstwords.report.audit import findings


def test_a_good_corpus_has_no_findings(tmp_path: Path) -> None:
    for index in range(10):
        write_tone(tmp_path / f"{index}.flac", 2.5, seed=index)
        (tmp_path / f"{index}.txt").write_text("a bad cab" if index % 2 else "bad cab")
    found = import_corpus(tmp_path)
    result = audit([replace(utterance, speaker="s") for utterance in found.utterances], found.problems)
    assert findings(result) == []
    assert result.seconds == 25.0
    assert result.histogram() == [(2.0, 3.0, 10)]
    assert result.characters["a"] == 25
    assert (result.sample_rates, result.channels) == ({16_000: 10}, {1: 10})


def test_every_kind_of_trouble_is_found(tmp_path: Path) -> None:
    write_tone(tmp_path / "first.wav", 3.0, seed=1)
    write_tone(tmp_path / "copy.flac", 3.0, seed=1)
    write_tone(tmp_path / "short.wav", 1.0, seed=3)
    soundfile.write(tmp_path / "tiny.wav", tone(0.02, 4), 16_000)
    soundfile.write(tmp_path / "silent.wav", 1e-4 * tone(3.0, 5), 16_000)
    soundfile.write(tmp_path / "loud.wav", np.clip(tone(3.0, 6) * 20, -1, 1), 16_000)
    soundfile.write(tmp_path / "stereo.wav", tone(6.0, 7).reshape(-1, 2), 8_000)
    (tmp_path / "broken.wav").write_text("no")
    pause = np.concatenate([tone(1.0, 8), np.zeros(32_000, np.float32)])
    soundfile.write(tmp_path / "pause.wav", pause, 16_000)

    def line(name: str, **more: object) -> Utterance:
        path = next(tmp_path.glob(f"{name}.*"))
        return Utterance(name, path, **more)  # type: ignore[arg-type]

    result = audit(
        [
            line("first", text="hello", speaker="ann", split="train", extras={"sample_rate": 8_000}),
            line("copy", text="hello", speaker="ann", split="test", duration=2.0),
            line("short", text="x" * 30, speaker="bob", split="train"),
            line("tiny", split="dev"),
            line("silent", duration=4.0),
            line("loud"),
            line("stereo"),
            line("broken"),
            line("pause"),
            replace(line("first"), id="stretch", start=1.0, duration=1.0),
        ]
    )
    assert [problem.where for problem in result.unreadable] == ["broken"]
    assert result.duplicates == []
    assert result.too_short == ["tiny"]
    assert result.short == ["short", "stretch"]
    assert result.silent == ["silent"]
    assert result.mostly_silent == ["pause"]
    assert result.clipped == ["loud"]
    assert result.crowded == [("short", 59, 49)]
    assert result.shared_speakers == {"train and test": ["ann"]}
    assert result.shared_sentences == {"train and test": ["hello"]}
    assert result.rare_characters == {"h": "first", "e": "first", "l": "first", "o": "first"}
    said = {problem.where: problem.what for problem in result.claims}
    assert said == {
        "first": "the manifest says 8000 Hz, the recording 16000 Hz",
        "copy": "the manifest says 2.00 s, the recording holds 3.00 s",
        "silent": "the manifest says 4.00 s, the recording holds 3.00 s",
    }
    assert (result.sample_rates[8_000], result.channels[2]) == (1, 1)
    assert len(result.lengths) == 9
    words = " ".join(finding.what for finding in findings(result))
    for part in ("cannot be used", "as the manifest says", "one frame", "silent throughout", "more labels", "clipped"):
        assert part in words
    for part in ("1 speaker is in more than one split", "1 sentence is in more than one split", "shorter than 2 s"):
        assert part in words


def test_duplicates_are_found_across_lossless_formats(tmp_path: Path) -> None:
    sound = (tone(1.0) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    soundfile.write(tmp_path / "b.flac", sound, 16_000)
    soundfile.write(tmp_path / "c.wav", sound, 8_000)  # same numbers, another sound
    sound[5] += 1
    soundfile.write(tmp_path / "d.wav", sound, 16_000)
    assert audit(import_corpus(tmp_path).utterances).duplicates == [["a", "b"]]


def test_silence_is_what_lies_at_the_noise_floor() -> None:
    random = np.random.default_rng(0)
    noise = 0.002 * random.standard_normal(32_000).astype(np.float32)
    sound = noise.copy()
    sound[:16_000] += tone(1.0)
    assert silence_share(sound) == pytest.approx(0.5, abs=0.05)
    assert silence_share(0.1 * sound) == pytest.approx(0.5, abs=0.05)
    assert silence_share(tone(2.0)) < 0.05
    assert silence_share(np.zeros(100, np.float32)) == 1.0
    assert silence_share(np.full(1, 0.5, np.float32)) == 0.0


def test_clipping_is_runs_at_full_scale() -> None:
    sound = np.zeros((1000, 2), np.float32)
    sound[100:102] = 1.0  # two samples are a peak, not a run
    assert clipped_share(sound) == 0.0
    sound[200:205, 1] = -1.0
    assert clipped_share(sound) == 5 / 2000


def test_frames_and_labels() -> None:
    assert [frames_of(samples) for samples in (1, 399, 400, 719, 720, 16_000, 400_000)] == [0, 0, 1, 1, 2, 49, 1249]
    assert [frames_needed(text) for text in ("", "abc", "hello", "aaa")] == [0, 3, 6, 5]


def test_the_command_on_real_speech(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    assert main(["audit", str(speech / "yesno"), *files]) == 0
    said = capsys.readouterr().out
    assert "1 speaker is in more than one split" in said and "made at 8,000 Hz" in said
    content = json.loads((tmp_path / "a.json").read_text())
    manifest = read_manifest(speech / "yesno")
    assert content["hours"] == pytest.approx(sum(u.duration or 0 for u in manifest) / 3600, rel=1e-3)
    assert sum(entry["count"] for entry in content["length_histogram"]) == 55
    assert content["unreadable"] == content["claims"] == content["duplicates"] == content["crowded"] == []
    assert set(content["characters"]) == set(" yesno")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_audit_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest([Utterance("a", write_tone(tmp_path / "a.wav", 0.5), split="train")], tmp_path / "manifest.jsonl")
    assert main(["audit", str(tmp_path), "--split", "dev"]) == 2
    assert "is the split's name right?" in capsys.readouterr().err
    with pytest.raises(CorpusError):
        audit([])
