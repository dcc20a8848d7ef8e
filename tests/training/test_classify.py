"""Training of classifiers: cached and plain paths agree, runs resume bit by bit, oddities of labels are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TRAINING, add_lines, assert_bitwise_equal, pretrain, status, tensors, write_corpus
from tiny import write_manifest as write_lines

import firstwords.training.classify as classify_module
from firstwords.checkpoints.models import load_encoder_weights
from firstwords.classification import evaluate_classifier, train_classifier
from firstwords.classifier import SpeechClassifier
from firstwords.cli import main
from firstwords.config import from_dict, merged
from firstwords.corpus.manifest import read_manifest
from firstwords.errors import CheckpointError, CorpusError
from firstwords.training.classify_config import ClassifyConfig
from firstwords.training.run import read_log

CLASSIFY: dict[str, Any] = {
    "steps": 12, "seed": 3, "head": {"projection": 6}, "data": {"label": "who", "held_out": 0.2},
    "training": TRAINING
    | {
        "schedule": {"kind": "linear", "peak": 1e-2, "warmup": 0.1}, "log_every": 4, "validate_every": 6,
        "save_every": 5,
    },
}  # fmt: skip
XVECTOR: dict[str, Any] = {
    "head": {
        "kind": "x-vector", "tdnn_dims": [6, 6], "tdnn_kernels": [3, 1], "tdnn_dilations": [1, 1], "embedding": 4,
    },
    "data": {"crop_seconds": 0.25},
}  # fmt: skip


def config(**changes: Any) -> ClassifyConfig:
    return from_dict(ClassifyConfig, merged(CLASSIFY, changes), "test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 sounds by three speakers, lengths mixed."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), [0.3 + 0.05 * (i % 7) for i in range(18)])
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return write_lines(folder, [line | {"who": f"s{i % 3}"} for i, line in enumerate(lines)])


@pytest.fixture(scope="module")
def listened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("listened") / "run"
    assert pretrain(corpus, out, changes={"steps": 2}) == 0
    return str(out)


def train(corpus: Path, source: str, out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    assert train_classifier([corpus], source, out, config(**changes)) == 0
    return tensors(out / "last.safetensors")


def test_hearing_once_is_hearing_always(corpus: Path, listened: str, tmp_path: Path) -> None:
    """The cache changes rounding only: weights after the run, and what is logged, are those of the plain path."""
    cached = train(corpus, listened, tmp_path / "cached")
    plain = train(corpus, listened, tmp_path / "plain", cache="never")
    assert (tmp_path / "cached" / "features").is_dir() and not (tmp_path / "plain" / "features").exists()
    assert cached.keys() == plain.keys()
    assert all(torch.allclose(cached[name], plain[name], atol=2e-5) for name in cached if name.startswith("weights/"))
    logs = [[line["valid_accuracy"] for line in read_log(tmp_path / name) if "valid_accuracy" in line]
            for name in ("cached", "plain")]  # fmt: skip
    assert logs[0] == logs[1] and len(logs[0]) == 2


def test_a_frozen_encoder_is_the_one_it_came_from(corpus: Path, listened: str, tmp_path: Path) -> None:
    train(corpus, listened, tmp_path / "run")
    ours, theirs = (load_encoder_weights(place)[0].state_dict() for place in (tmp_path / "run", listened))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        XVECTOR,
        {
            "learn": "all", "frozen": 0.3, "head": {"layers": "last"}, "mask": {"probability": 0.3, "length": 2},
            "adapt": {"layerdrop": 0.3, "activation_dropout": 0.2}, "data": {"crop_seconds": 0.4},
        },
    ],
    ids=["probe", "x-vector", "all"],
)  # fmt: skip
def test_a_run_that_stopped_ends_with_the_same_weights(
    changes: dict[str, Any], corpus: Path, listened: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(corpus, listened, tmp_path / "whole", **changes)
    loss = classify_module.Classification.loss

    def failing(self: Any, module: Any, batch: Any, update: int, counts: Any, whole: Any) -> Any:
        if update == 8:
            raise KeyboardInterrupt
        return loss(self, module, batch, update, counts, whole)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(classify_module.Classification, "loss", failing)
        train(corpus, listened, tmp_path / "stopped", **changes)
    train(corpus, listened, tmp_path / "stopped", **changes)
    assert_bitwise_equal(tmp_path / "whole", tmp_path / "stopped")


def test_parts_of_the_cache_that_were_cut_short_are_heard_again(corpus: Path, listened: str, tmp_path: Path) -> None:
    train(corpus, listened, tmp_path / "run", steps=2)
    part = tmp_path / "run" / "features" / "00000.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[:-100])
    (tmp_path / "run" / "status.json").write_text('{"state": "running"}')
    train(corpus, listened, tmp_path / "run", steps=2)
    assert part.read_bytes() == whole


def test_splitting_changes_no_gradient(corpus: Path, listened: str, tmp_path: Path) -> None:
    one, other = (
        train(corpus, listened, tmp_path / str(micro), steps=4, cache="never", training={"micro_batch_seconds": micro})
        for micro in (0.7, 4.0)
    )
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one if name.startswith("weights/head"))


def test_it_learns_and_says_so(corpus: Path, listened: str, tmp_path: Path) -> None:
    """Eighteen sounds are learnt by heart, and evaluation finds what training found."""
    changes = {"steps": 40, "learn": "all", "adapt": {"gradient_scale": 1.0, "activation_dropout": 0.0},
               "data": {"held_out": 0.0}, "training": {"validate_every": 40, "save_every": 40}}  # fmt: skip
    train(corpus, listened, tmp_path / "run", **changes)
    found = evaluate_classifier(SpeechClassifier.load(tmp_path / "run", "cpu"), read_manifest(corpus))
    assert found.score is not None and found.score.accuracy > 0.8
    assert status(tmp_path / "run")["state"] == "finished"


@pytest.mark.parametrize("learn", ["head", "all"])
def test_baselines(learn: str, corpus: Path, listened: str, tmp_path: Path) -> None:
    """Log-mel bands and random weights take the pre-trained encoder's place; recipes are enough for both."""
    bands = train(corpus, listened, tmp_path / "bands", steps=2, learn=learn, frontend="log_mel")
    assert any("transformer" in name for name in bands) == (learn == "all")
    train(corpus, listened, tmp_path / "random", steps=2, learn=learn, weights="random")
    ours, theirs = (load_encoder_weights(place)[0].state_dict() for place in (tmp_path / "random", listened))
    assert not torch.equal(ours["projection.weight"], theirs["projection.weight"])
    if learn == "head":
        train(corpus, "wav2vec2-tiny", tmp_path / "recipe", steps=1)


def test_frames(corpus: Path, listened: str, tmp_path: Path) -> None:
    """A head on frames learns stretches, and finds them."""
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    parts = [
        line | {"audio": str(corpus / line["audio"]), "parts": [[0, 0.15, "a"], [0.15, 0.2, "b"]]} for line in lines
    ]
    folder = write_lines(tmp_path / "frames", parts)
    changes = {"head": {"kind": "frames"}, "data": {"label": "parts"}, "training": {"schedule": {"peak": 0.05}}}
    train(folder, listened, tmp_path / "run", **changes, steps=50)
    classifier = SpeechClassifier.load(tmp_path / "run", "cpu")
    found = evaluate_classifier(classifier, read_manifest(folder))
    assert found.score is not None and found.score.accuracy > 0.7
    prediction = classifier.classify_one(str(corpus / "0.wav"))
    assert prediction.stretches[0].start == 0 and prediction.stretches[-1].end == pytest.approx(prediction.duration)
    assert all(a.end == b.start for a, b in zip(prediction.stretches, prediction.stretches[1:], strict=False))


class TestLabels:
    """What is wrong with labels is said before anything is trained."""

    def refused(self, lines: list[dict[str, Any]], corpus: Path, listened: str, tmp_path: Path, label: str) -> str:
        folder = write_lines(tmp_path / "odd", [line | {"audio": str(corpus / line["audio"])} for line in lines])
        with pytest.raises(CorpusError) as error:
            train(folder, listened, tmp_path / "run", data={"label": label})
        assert not (tmp_path / "run").exists()
        return str(error.value)

    def lines(self, corpus: Path, **fields: Any) -> list[dict[str, Any]]:
        return [json.loads(line) | fields for line in (corpus / "manifest.jsonl").read_text().splitlines()]

    def test_one_class(self, corpus: Path, listened: str, tmp_path: Path) -> None:
        said = self.refused(self.lines(corpus, who="ann"), corpus, listened, tmp_path, "who")
        assert "one class 'ann'" in said

    def test_no_such_field(self, corpus: Path, listened: str, tmp_path: Path) -> None:
        said = self.refused(self.lines(corpus), corpus, listened, tmp_path, "whom")
        assert "did you mean 'who'?" in said

    def test_frames_without_stretches(self, corpus: Path, listened: str, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match=r"list of \[start, end, class\]"):
            train(corpus, listened, tmp_path / "run", head={"kind": "frames"}, data={"label": "nothing"})

    def test_some_lacking_and_unseen(
        self, corpus: Path, listened: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = [line | {"audio": str(corpus / line["audio"]), "split": "train"} for line in self.lines(corpus)]
        for line in lines[:10]:
            del line["who"]
        lines[-2] |= {"split": "dev", "who": "stranger"}
        lines[-1] |= {"split": "dev"}
        folder = write_lines(tmp_path / "odd", lines)
        train(folder, listened, tmp_path / "run", steps=1)
        said = capsys.readouterr().out
        assert "10 of 16 training utterances have no 'who' and are left out; is that the right field?" in said
        assert "1 ('stranger') classes of the validation are not in training: 1 utterances are left out" in said
        assert "1 to validate on" in said

    def test_x_vectors_are_validated_on_strangers(
        self, corpus: Path, listened: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = [line | {"audio": str(corpus / line["audio"]), "split": "train"} for line in self.lines(corpus)]
        for number, line in enumerate(lines[-6:]):
            line |= {"split": "dev", "who": f"stranger{number % 2}"}
        folder = write_lines(tmp_path / "odd", lines)
        train(folder, listened, tmp_path / "run", **merged(XVECTOR, {"steps": 6}))
        said = [line for line in capsys.readouterr().out.splitlines() if "/6  validation" in line]
        assert said and all("EER" in line and "accuracy" not in line for line in said)
        assert any("valid_eer" in line for line in read_log(tmp_path / "run"))


def test_by_hand(corpus: Path, listened: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line: train, evaluate, predict, and what it refuses."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(json.dumps({"kind": "classify"} | merged(CLASSIFY, {"data": {"label": ""}})))
    run = tmp_path / "run"
    start = ["classify", "train", str(corpus), "--from", listened, "--recipe", str(recipe), "--out", str(run)]
    assert main(start) == 2
    assert "--label" in capsys.readouterr().err
    assert main([*start, "--label", "who", "--steps", "3"]) == 0
    assert main([*start, "--label", "who", "--steps", "4"]) == 2
    assert "steps: 3 there, 4 asked" in capsys.readouterr().err
    score, picture = tmp_path / "score.json", tmp_path / "confusions.png"
    assert main(["classify", "evaluate", str(run), str(corpus), "--json", str(score), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "macro-F1" in said and "Layers heard" in said
    assert json.loads(score.read_text())["utterances"] == 18 and picture.stat().st_size > 5000
    vectors = tmp_path / "vectors.npz"
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    assert main(["classify", "predict", str(run), str(corpus / "0.wav"), str(broken), "--vectors", str(vectors)]) == 0
    out = capsys.readouterr()
    assert out.out.startswith(f"{corpus / '0.wav'}\ts") and "left out" in out.err and vectors.exists()
    assert main(["classify", "predict", str(run), str(corpus), "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 18 and sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert main(["classify", "predict", str(run), str(corpus), "--format", "rttm"]) == 2
    assert main(["classify", "predict", listened, str(corpus)]) == 2
    assert "has no classes; first: firstwords classify train" in capsys.readouterr().err
    assert main(["classify", "guess"]) == 2
    assert main(["classify"]) == 0 and "evaluate" in capsys.readouterr().out


def test_trials(corpus: Path, listened: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(corpus, listened, tmp_path / "run", **XVECTOR)
    trials = tmp_path / "trials.txt"
    trials.write_text("1 u0 u3\n1 u1 u4\n0 u0 u1\n0 u2 u3\n")
    arguments = ["classify", "evaluate", str(tmp_path / "run"), str(corpus), "--trials", str(trials)]
    assert main(arguments) == 0
    assert "equal error rate" in capsys.readouterr().out
    trials.write_text("1 u0 u3\n0 u0 nobody\n")
    assert main(arguments) == 2
    assert "1 of 3 utterances of the trials are not in the corpus" in capsys.readouterr().err


def test_a_head_of_another_size_is_refused(corpus: Path, listened: str, tmp_path: Path) -> None:
    """A run goes on with its classes only: another label, or a class more, is another run."""
    train(corpus, listened, tmp_path / "run", steps=2, data={"held_out": 0.0})
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    other = write_lines(tmp_path / "other", [line | {"audio": str(corpus / line["audio"])} for line in lines])
    add_lines(other, lines[0] | {"id": "more", "audio": str(corpus / "0.wav"), "who": "s9"})
    (tmp_path / "run" / "status.json").write_text('{"state": "running"}')
    with pytest.raises(CheckpointError, match="classes: 3 there, 4 asked"):
        train(other, listened, tmp_path / "run", steps=2, data={"held_out": 0.0})
