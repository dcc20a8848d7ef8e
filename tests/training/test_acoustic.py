"""Acoustic models: every way to start runs; resumed as unbroken; parts of an update as the whole; recognisers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    PRETRAIN,
    TRAINING,
    assert_bitwise_equal,
    finish,
    merged,
    pretrain,
    settings,
    start,
    status,
    tensors,
    write_corpus,
    write_recipe,
)

import firstwords.training.loop as loop
from firstwords.checkpoints.own import read_checkpoint
from firstwords.cli import main
from firstwords.config import from_dict
from firstwords.corpus.manifest import read_manifest
from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.options import DecoderConfig
from firstwords.evaluation import evaluate
from firstwords.listening import listen
from firstwords.models.wav2vec2 import Wav2Vec2Encoder
from firstwords.recognizer import Recognizer
from firstwords.training.acoustic import AcousticTraining
from firstwords.training.acoustic_config import AcousticRecipe
from firstwords.training.data import Skipped
from firstwords.training.processes import Processes
from firstwords.training.run import read_log
from firstwords.tuning import TuneConfig, tune

RECIPE: dict[str, Any] = {
    "kind": "acoustic", "steps": 20, "seed": 3, "self_transition": 1.0, "linear_updates": 3,
    "network": {"kind": "gated", "channels": [12, 12], "kernels": [5, 4], "dropout": 0.2},
    "data": {"held_out": 0.2}, "text": {"unknown": "drop"},
    "training": TRAINING | {
        "schedule": {"kind": "tri-stage", "peak": 0.05, "warmup": 0.0, "hold": 1.0},
        "optimizer": {"momentum": 0.9, "clip_norm": 1.0, "transition_scale": 0.5},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def listened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listened") / "run"
    assert pretrain(corpus, out, changes={"steps": 1}) == 0
    return out


@pytest.fixture(scope="module")
def lm(corpus: Path) -> Path:
    path = corpus / "words.arpa"
    estimate([str(utterance.text) for utterance in read_manifest(corpus)], 2, ())[0].save(path)
    return path


def words(
    corpus: Path, source: Path | str, out: Path, *more: object, changes: dict[str, Any] | None = None
) -> list[str]:
    recipe = write_recipe(out.parent, RECIPE, changes)
    return ["finetune", str(corpus), "--from", str(source), "--recipe", str(recipe), "--out", str(out), *map(str, more)]


def task(corpus: Path, changes: dict[str, Any] | None = None, on: bool = False) -> AcousticTraining:
    """The task alone, on log-mel bands or a tiny encoder."""
    values = merged(RECIPE, changes or {})
    values.pop("kind")
    recipe = from_dict(AcousticRecipe, values, "test")
    torch.manual_seed(0)
    encoder = Wav2Vec2Encoder(settings(PRETRAIN).model.encoder) if on else None
    return AcousticTraining(recipe, encoder, read_manifest(corpus), [], Processes("cpu"), Skipped(), "test")


VARIANTS: dict[str, list[object]] = {
    "the recipe": [],
    "a layer": ["--layer", 1],
    "all layers": ["--weighted", "True"],
    "ctc": ["--criterion", "ctc"],
    "prelu": ["--network.kind", "prelu"],
    "no repetitions": ["--text.repetitions", 0, "--text.first-boundary", "False"],
    "nothing kept": ["--data.cache-gigabytes", 0],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs(variant: str, corpus: Path, listened: Path, tmp_path: Path) -> None:
    """To the end, with figures that are numbers; the encoder stays as it was, everything else has moved."""
    out = tmp_path / "run"
    assert main(words(corpus, listened, out, "--steps", 6, *VARIANTS[variant])) == 0
    records = read_log(out)
    assert any("valid_wer" in record for record in records)
    assert all(value == value for record in records for value in record.values())
    before, after = tensors(listened / "last.safetensors"), tensors(out / "last.safetensors")
    kept = {name: value for name, value in after.items() if name.startswith("weights/features.encoder.")}
    assert kept
    for name, value in kept.items():
        assert torch.equal(value, before[name.replace("features.encoder.", "encoder.")]), name
    assert ("weights/transitions" in after) == (variant != "ctc")
    assert ("weights/layer_weights" in after) == (variant == "all layers")
    recognizer = Recognizer.load(out)
    assert len(recognizer.transcribe(list(read_manifest(corpus)[:3]))) == 3


def test_log_mel_and_phones(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", phones="sil b aa sil sil")
    changes = {"text": {"units": "phonemes", "final_boundary": False, "first_boundary": False}}
    assert main(words(corpus, "log-mel", tmp_path / "run", "--steps", 4, changes=changes)) == 0
    recognizer = Recognizer.load(tmp_path / "run")
    assert recognizer.alphabet.symbols == ("|", "sil", "aa", "b", "1", "2")
    assert recognizer.clock.hop == 0.01
    found = evaluate(recognizer, read_manifest(corpus))
    assert found.score.tokens.rate >= 0


def test_with_a_language_model(corpus: Path, listened: Path, lm: Path, tmp_path: Path) -> None:
    """Validation reads with it and without; the recogniser is tuned, evaluated and aligned as any other."""
    out = tmp_path / "run"
    assert main(words(corpus, listened, out, "--steps", 20, "--validation.lm", lm)) == 0
    last = [record for record in read_log(out) if "valid_wer" in record][-1]
    assert {"valid_wer", "valid_cer", "valid_path_wer", "valid_path_cer"} <= set(last)
    utterances = read_manifest(corpus)[:4]
    recognizer = Recognizer.load(out, lm=lm)
    known = {str(word) for utterance in read_manifest(corpus) for word in str(utterance.text).split()}
    assert all(word.text in known for one in recognizer.transcribe(list(utterances)) for word in one.words)
    assert (
        main(["tune", str(out), str(corpus), "--split", "all", "--lm", str(lm), "--trials", "2", "--processes", "0"])
        == 0
    )
    assert main(["evaluate", str(out), str(corpus), "--split", "all", "--lm", str(lm), "--processes", "0"]) == 0
    heard = listen(recognizer, utterances, lambda name, error: None)
    found = tune(heard, recognizer.alphabet, DecoderConfig(lm=lm), TuneConfig(trials=2), recognizer.transitions)
    assert len(found.trials) == 2
    aligned = recognizer.align(utterances[0], str(utterances[0].text))
    assert [word.text for word in aligned.words] == str(utterances[0].text).split()
    assert all(word.start <= word.end for word in aligned.words)


def test_a_language_model_of_other_words(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One with words that the transcripts' letters do not spell is refused, with the option that leaves them out."""
    path = tmp_path / "other.arpa"
    texts = [str(utterance.text) for utterance in read_manifest(corpus)]
    estimate([f"{text} 1888 {number}ß" for number, text in enumerate(texts)], 2, ())[0].save(path)
    arguments = words(corpus, "log-mel", tmp_path / "run", "--steps", 2, "--validation.lm", path)
    assert main(arguments) == 2
    assert "--validation.unspellable skip" in capsys.readouterr().err
    assert main([*arguments, "--validation.beam", "0"]) == 2
    assert "--validation.beam 0: 1 is the least" in capsys.readouterr().err
    assert main([*arguments, "--validation.unspellable", "skip"]) == 0
    assert any("valid_path_wer" in record for record in read_log(tmp_path / "run"))


def test_the_best_checkpoint_and_the_end(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation figures choose the best; after `patience` validations without a better one training ends, and the same
    command then has nothing to do."""
    rates = iter([0.9, 0.7, 0.8, 0.75, 0.5, 0.4])
    validate = AcousticTraining.validate
    monkeypatch.setattr(AcousticTraining, "validate", lambda self, u: validate(self, u) | {"cer": next(rates)})
    arguments = words(corpus, "log-mel", tmp_path / "run", "--training.patience", 2, "--training.validate-every", 2)
    assert main(arguments) == 0
    assert status(tmp_path / "run")["state"] == "finished" and status(tmp_path / "run")["update"] == 8
    assert read_checkpoint(tmp_path / "run" / "best.safetensors").state["progress"]["update"] == 4
    assert main(arguments) == 0 and status(tmp_path / "run")["update"] == 8


class Stopped(Exception):
    pass


def test_resumed_is_unbroken(
    corpus: Path, listened: Path, lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any update: momentum, transitions, patience and dropout go on bit for bit."""
    extra = ("--weighted", "True", "--validation.lm", lm, "--training.validate-every", 5, "--training.patience", 3)
    assert main(words(corpus, listened, tmp_path / "whole", *extra)) == 0
    update = loop._Trainer._update
    for last in (4, 11, 17):

        def stopping(self: Any, *arguments: Any, last: int = last) -> None:
            if self.progress.update == last:
                raise Stopped
            update(self, *arguments)

        monkeypatch.setattr(loop._Trainer, "_update", stopping)
        with pytest.raises(Stopped):
            main(words(corpus, listened, tmp_path / "parts", *extra))
    monkeypatch.setattr(loop._Trainer, "_update", update)
    assert main(words(corpus, listened, tmp_path / "parts", *extra)) == 0
    assert_bitwise_equal(tmp_path / "whole", tmp_path / "parts")
    lines = [[json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in
             ("whole", "parts")]  # fmt: skip
    assert [one.get("valid_wer") for one in lines[0]] == [one.get("valid_wer") for one in lines[1]]


@pytest.mark.parametrize("criterion", ["asg", "ctc"])
def test_parts_of_an_update_are_the_whole(corpus: Path, criterion: str) -> None:
    """The gradient of an update does not depend on how it is cut into micro-batches; the network in 64 bits, for what
    the larger weights of its start make of rounding."""
    gradients = []
    for micro in (100.0, 3.0, 0.3):
        changes = {"criterion": criterion, "network": {"dropout": 0.0}, "linear_updates": 0}
        sizes = {"batch_seconds": 8.0, "bucket_seconds": 8.0, "micro_batch_seconds": micro}
        one = task(corpus, changes | {"training": sizes}, on=True)
        batches, _ = next(one.loader.updates(0, loop.Progress().position, 1))
        one.model.double()
        counts = one.count(batches)
        for batch in batches:
            batch.features = batch.features.double()
            one.loss(one.model, batch, 0, counts, None)[0].backward()
        gradients.append((len(batches), {name: value.grad for name, value in one.model.learning()}))
    assert gradients[0][0] < gradients[1][0] < gradients[2][0]
    for _, other in gradients[1:]:
        for name, value in gradients[0][1].items():
            assert value is not None
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_features_do_not_depend_on_the_batch(corpus: Path) -> None:
    """Heard alone, kept, or heard again: bit for bit."""
    kept, anew = task(corpus, on=True), task(corpus, {"data": {"cache_gigabytes": 0.0}}, on=True)
    first, second, other = (
        kept.make_batch(kept.training),
        kept.make_batch(kept.training),
        anew.make_batch(anew.training),
    )
    assert first is not None and second is not None and other is not None and kept._known and not anew._known
    assert torch.equal(first.features, second.features) and torch.equal(first.features, other.features)
    for number, utterance in enumerate(kept.training):
        alone = anew.make_batch([utterance])
        assert alone is not None
        length = int(alone.lengths[0])
        assert torch.equal(alone.features[0], first.features[number, :length])
        labels = first.targets[number, : first.target_lengths[number]].tolist()
        assert kept.alphabet.decode(labels) == utterance.text


def test_two_processes_share_an_update(corpus: Path, tmp_path: Path) -> None:
    """Weights as with one, to rounding; transitions too, which are no part of the network's output."""
    changes = {"network": {"dropout": 0.0}, "steps": 4}
    assert (
        main(words(corpus, "log-mel", tmp_path / "one" / "run", changes=changes)) == 0
        if (tmp_path / "one").mkdir() is None
        else False
    )
    (tmp_path / "two").mkdir()
    process = start(words(corpus, "log-mel", tmp_path / "two" / "run", changes=changes), processes=2)
    code, said = finish(process)
    assert code == 0, said
    one, two = (tensors(tmp_path / name / "run" / "last.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and "optimizer/transitions/momentum_buffer" in one
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def test_wrong_settings_are_said(
    corpus: Path, listened: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, expected in (
        (["--layer", 9], "this encoder has 0 to 2"),
        (["--layer", 1, "--weighted", "True"], "take one of both"),
        (["--text.repetitions", 12], "repetitions must be from 0 to 9"),
        (["--training.optimizer.momentum", -1], "momentum must not be below 0"),
    ):
        assert main(words(corpus, listened, tmp_path / "run", *more)) == 2
        assert expected in capsys.readouterr().err
