"""Pre-training on several languages: what was heard of each is counted, resumed and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import (
    PRETRAIN,
    assert_bitwise_equal,
    finish,
    merged,
    pretrain,
    pretrain_arguments,
    pretraining,
    start,
    write_corpus,
    write_manifest,
)

from firstwords.cli import main
from firstwords.corpus.manifest import read_manifest
from firstwords.recipes import load_recipe
from firstwords.training.multilingual import again
from firstwords.training.pretrain import PretrainConfig
from firstwords.training.run import read_log

CHANGES: dict[str, Any] = {
    "steps": 12,
    "data": {"language_alpha": 0.5, "held_out": 0.3},
    "training": {"batch_seconds": 2.0, "bucket_seconds": 1.0, "log_every": 4, "validate_every": 6, "save_every": 5},
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three languages in two corpora, one of them small."""
    folder = tmp_path_factory.mktemp("corpora")
    one = write_corpus(folder / "one", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.55, 0.65, 0.75, 0.85], language="en")
    lines = []
    for number, utterance in enumerate(read_manifest(one)[:8]):
        language = {"language": "de" if number < 3 else "sw"} if number < 7 else {}
        sound = {"id": f"v{number}", "audio": str(utterance.audio), "duration": utterance.duration}
        lines.append(sound | language)
    return [one, write_manifest(folder / "two", lines)]


def arguments(corpora: list[Path], out: Path, *more: object, changes: dict[str, Any] = CHANGES) -> list[str]:
    words = pretrain_arguments(corpora[0], out, *more, changes=changes)
    return [*words[:2], str(corpora[1]), *words[2:]]


def test_a_run(corpora: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hours, loss and accuracy of each language are in the log, their use of codes in the folder; all is told."""
    out = tmp_path / "run"
    assert main(arguments(corpora, out)) == 0
    said = capsys.readouterr()
    assert "1 of 13 utterances" in said.out and "have no language, the first v7" in said.out
    records = read_log(out)
    last = [record for record in records if "bits" in record][-1]
    names = ["de", "en", "none", "sw"]
    assert sum(last[f"hours/{name}"] for name in names) == pytest.approx(last["hours_total"], rel=1e-3)
    assert all(last[f"hours/{name}"] > 0 for name in names)
    validated = [record for record in records if "valid_bits" in record][-1]
    assert all(0 < validated[f"valid_bits/{name}"] < 10 for name in ("de", "en", "sw"))
    assert all(f"valid_accuracy/{name}" in validated for name in ("de", "en", "sw"))
    assert "de: loss" in said.out and "held-out bits" in said.out and "How alike codes are used" in said.out
    values = json.loads((out / "languages.json").read_text())
    assert values["similarity"]["languages"] and np.array(values["similarity"]["matrix"], dtype=float).shape == (3, 3)
    assert sum(one["share_asked"] for one in values["languages"].values()) == pytest.approx(1)
    assert (out / "languages.png").stat().st_size > 5000
    assert main(arguments(corpora, out)) == 0 and "finished already" in capsys.readouterr().out


def test_killed(corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at a write, gone on with: the same weights, bit for bit, and the same hours of each language."""
    assert main(arguments(corpora, tmp_path / "unbroken")) == 0

    class Dead(BaseException):
        pass

    from firstwords.training import loop

    real, made = loop.snapshot, []

    def dying(*given: Any) -> Any:
        made.append(given)
        if len(made) == 3:
            raise Dead
        return real(*given)

    monkeypatch.setattr(loop, "snapshot", dying)
    with pytest.raises(Dead):
        main(arguments(corpora, tmp_path / "broken"))
    monkeypatch.setattr(loop, "snapshot", real)
    assert main(arguments(corpora, tmp_path / "broken")) == 0
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")
    ours, theirs = (read_log(tmp_path / name) for name in ("broken", "unbroken"))
    for name in ("de", "en", "sw", "none"):
        found = [{r["update"]: r[f"hours/{name}"] for r in log if f"hours/{name}" in r} for log in (ours, theirs)]
        assert found[0] == found[1] and len(found[0]) == 3


def test_over_two_processes(corpora: list[Path], tmp_path: Path) -> None:
    """The same utterances are heard, and as much of each language."""
    changes = merged(CHANGES, {"steps": 4})
    assert main(arguments(corpora, tmp_path / "one", changes=changes)) == 0
    code, said = finish(start(arguments(corpora, tmp_path / "two", changes=changes), processes=2))
    assert code == 0, said
    one, two = ([r for r in read_log(tmp_path / name) if "bits" in r][-1] for name in ("one", "two"))
    for key in ("hours_total", "hours/de", "hours/en", "hours/sw", "hours/none"):
        assert two[key] == pytest.approx(one[key], rel=1e-9), key
    assert two["bits"] == pytest.approx(one["bits"], abs=1e-3)


def test_a_repetition_is_another_crop(corpora: list[Path]) -> None:
    task = pretraining(corpora[0], {"data": {"crop_seconds": 0.3}})
    utterance = task.training[0]
    assert again(utterance, 0) is utterance
    batch = task.make_batch([utterance, again(utterance, 1), again(utterance, 2)], 4800, (3, 0))
    assert batch is not None and len({tuple(row.tolist()) for row in batch.waveforms}) == 3
    assert len(set(batch.noise_seeds)) == 3


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"language_alpha": 0.5}, "are all of language 'en'"),
        ({"language_alpha": -1.0}, "language_alpha: -1.0"),
    ],
)
def test_bad_input(
    change: dict[str, Any], what: str, corpora: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if change["language_alpha"] < 0:
        assert main(arguments(corpora, tmp_path / "run", changes={"data": change})) == 2
    else:
        assert pretrain(corpora[0], tmp_path / "run", changes={"data": change}) == 2
    assert what in capsys.readouterr().err


def test_the_recipe() -> None:
    """XLSR-53 has LARGE's shape of LV-60k, and samples languages."""
    xlsr, large = (load_recipe(name, "pretrain", PretrainConfig) for name in ("xlsr-53", "wav2vec2-large-vox"))
    assert xlsr.model == large.model and xlsr.data.language_alpha == 0.5 and large.data.language_alpha is None
    assert (xlsr.steps, xlsr.training.schedule.peak, xlsr.training.schedule.warmup) == (250_000, 1e-3, 0.1)
    assert PRETRAIN["data"].get("language_alpha") is None
