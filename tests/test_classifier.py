"""Predictions: in order, the same alone and in a batch, long recordings in parts."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone, write_tone

from firstwords.classifier import SpeechClassifier, Stretch, joined
from firstwords.errors import AudioError
from firstwords.models.classifier import Classifier, ClassifierConfig, HeadConfig
from firstwords.predictions import write_predictions

ENCODER = {
    "feature_encoder": {"channels": [6, 6, 8, 8, 8, 8, 8]},
    "transformer": {
        "layers": 1, "dim": 8, "feed_forward_dim": 8, "heads": 2, "position_kernel": 4, "position_groups": 2,
    },
}  # fmt: skip
HEADS = {
    "mean": HeadConfig(projection=4),
    "frames": HeadConfig(kind="frames"),
    "x-vector": HeadConfig(kind="x-vector", tdnn_dims=(4,), tdnn_kernels=(3,), tdnn_dilations=(4,), embedding=3),
}


def classifier(head: str, whole: float = 60.0) -> SpeechClassifier:
    torch.manual_seed(1)
    model = Classifier(ClassifierConfig("wav2vec2", ENCODER, HEADS[head], 3))
    for value in model.head.parameters():
        torch.nn.init.normal_(value)
    return SpeechClassifier(model, ["a", "b", "c d"], whole=whole)


@pytest.mark.parametrize("head", HEADS)
def test_in_order_and_the_same_alone(head: str) -> None:
    sounds = [tone(seconds, number) for number, seconds in enumerate((0.4, 1.1, 0.6, 1.0, 0.45))]
    one = classifier(head)
    together = list(one.classify(sounds, batch_seconds=3.0))
    assert [p.id for p in together] == [f"array {number}" for number in range(5)]
    for sound, prediction in zip(sounds, together, strict=True):
        alone = one.classify_one(sound)
        assert list(alone.probabilities) == list(prediction.probabilities) == sorted(
            alone.probabilities, key=lambda label: -alone.probabilities[label]
        )  # fmt: skip
        assert np.allclose(alone.embedding, prediction.embedding, atol=1e-5)
        assert alone.duration == pytest.approx(len(sound) / 16_000)


@pytest.mark.parametrize("head", HEADS)
def test_long_recordings_are_heard_in_parts(head: str) -> None:
    """Of a sound that repeats, the parts say the same as the whole, and stretches cover all of it once."""
    sound = np.tile(tone(0.64), 5)  # parts of 0.64 s, to the frame
    parts, whole = classifier(head, whole=0.64).classify_one(sound), classifier(head).classify_one(sound[:10_240])
    assert parts.duration == pytest.approx(3.2)
    assert parts.probabilities == pytest.approx(whole.probabilities, abs=1e-4)
    if head == "frames":
        assert parts.stretches[0].start == 0 and parts.stretches[-1].end == pytest.approx(3.2)
        assert all(a.end == pytest.approx(b.start) for a, b in zip(parts.stretches, parts.stretches[1:], strict=False))


def test_a_short_rest_belongs_to_the_part_before() -> None:
    one = classifier("x-vector", whole=1.0)
    sizes = [len(part) for part in one._parts(torch.zeros(2 * 16_000 + 100))]
    assert sum(sizes) == 32_100 and min(sizes) >= one.shortest


def test_too_short_for_an_x_vector(tmp_path: Path) -> None:
    one = classifier("x-vector")
    short, long = write_tone(tmp_path / "short.wav", 0.1), write_tone(tmp_path / "long.wav", 0.5)
    with pytest.raises(AudioError, match=r"0\.10 s, the x-vector head needs"):
        one.classify_one(short)
    left_out: list[str] = []
    found = list(one.classify([short, long], skip=lambda name, error: left_out.append(name)))
    assert [p.id for p in found] == [str(long)] and left_out == [str(short)]
    assert classifier("mean").classify_one(np.zeros(10, np.float32)).label in "ab c d"


def test_similarity() -> None:
    one = classifier("x-vector")
    assert one.similarity(tone(0.5), tone(0.5)) == pytest.approx(1)
    assert -1 <= one.similarity(tone(0.5, 1), tone(0.5, 2)) <= 1


def test_frames_may_overlap_or_not() -> None:
    one = classifier("frames")
    chances = np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.1], [0.3, 0.2, 0.1]], np.float32)
    both = one._stretches(chances, 0.0, 0.06, overlapping=True)
    assert [(s.label, s.start) for s in both] == [("a", 0.0), ("b", 0.0)] and both[0].end > both[1].end
    best = one._stretches(chances, 0.0, 0.06, overlapping=False)
    assert [(s.label, s.start, s.end) for s in best] == [("a", 0.0, 0.06)]
    assert joined([Stretch(0, 1, "a", 0.5), Stretch(1, 3, "a", 0.8), Stretch(4, 5, "a", 1)]) == (
        Stretch(0, 3, "a", pytest.approx(0.7)), Stretch(4, 5, "a", 1),
    )  # fmt: skip


def test_formats(tmp_path: Path) -> None:
    sounds = [tone(0.5, 1), tone(0.5, 2)]
    text = io.StringIO()
    assert write_predictions(classifier("mean").classify(sounds), text, top=2, vectors=tmp_path / "v.npz") == 2
    fields = text.getvalue().splitlines()[0].split("\t")
    assert fields[0] == "array 0" and len(fields) == 5 and float(fields[2]) >= float(fields[4])
    kept = np.load(tmp_path / "v.npz")
    assert kept["ids"].tolist() == ["array 0", "array 1"] and kept["vectors"].shape == (2, 4)
    for name in ("tsv", "jsonl", "rttm"):
        text = io.StringIO()
        write_predictions(classifier("frames").classify(sounds[:1]), text, name)  # type: ignore[arg-type]
        lines = text.getvalue().splitlines()
        if name == "jsonl":
            assert json.loads(lines[0])["stretches"][0]["start"] == 0
        elif name == "rttm":
            assert lines[0].startswith("SPEAKER array_0 1 0.000 ") and len(lines[0].split()) == 10
        else:
            assert len(lines[0].split("\t")) == 5
