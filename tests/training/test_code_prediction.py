"""BERT over codes: learns what codes around tell, whole however an update is split, exact after a stop."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_split_updates import assert_same, gradients
from tiny import assert_bitwise_equal, run_task

import firstwords.training.loop as loop
from firstwords.config import from_dict
from firstwords.errors import ConfigError, CorpusError
from firstwords.models.code_bert import END, START, UNKNOWN
from firstwords.training.code_bert import CodePrediction, CodePretrainConfig, check_codes, pack
from firstwords.training.processes import Processes
from firstwords.training.run import read_log

TINY: dict[str, Any] = {
    "steps": 20, "seed": 3,
    "model": {
        "layers": 2, "dim": 16, "feed_forward_dim": 32, "heads": 2, "positions": 40,
        "dropout": 0.0, "attention_dropout": 0.0,
    },
    "mask": {"length": 3},
    "training": {
        "batch_tokens": 400, "bucket_tokens": 200, "micro_batch_tokens": 200, "device": "cpu", "precision": "float32",
        "log_every": 5, "validate_every": 20, "save_every": 7, "schedule": {"peak": 3e-3, "warmup": 0.1},
    },
}  # fmt: skip


def speech(seed: int = 0, utterances: int = 30) -> list[np.ndarray]:
    """Codes that a neighbour tells: pairs that go round in a circle, each staying for two frames."""
    random = np.random.default_rng(seed)
    pairs = np.stack([np.arange(12) % 4, np.arange(12) // 4], 1)
    found = []
    for _ in range(utterances):
        steps = (np.arange(random.integers(5, 60)) // 2 + random.integers(12)) % 12
        found.append(pairs[steps])
    return found


def task(*changes: dict[str, Any], validation: bool = True) -> CodePrediction:
    config = from_dict(CodePretrainConfig, TINY, "test")
    for change in changes:
        config = from_dict(CodePretrainConfig, change, "test", config)
    return CodePrediction(config, speech(), speech(1, 5) if validation else [], Processes("cpu"))


class TestPacking:
    def test_whole_utterances_with_ends(self) -> None:
        blocks = pack([np.array([5, 6]), np.array([7]), np.array([8, 9, 10]), np.zeros(0, np.int64)], 7)
        assert [block.tolist() for block in blocks] == [[START, 5, 6, END, 7, END], [START, 8, 9, 10, END]]

    def test_long_ones_are_cut_into_equal_parts(self) -> None:
        blocks = pack([np.arange(10, 21)], 8)
        assert [block.tolist() for block in blocks] == [[START, *range(10, 15), END], [START, *range(15, 21), END]]

    def test_nothing_is_lost(self) -> None:
        random = np.random.default_rng(0)
        sequences = [random.integers(4, 99, random.integers(0, 90)) for _ in range(50)]
        blocks = pack(sequences, 32)
        assert max(map(len, blocks)) <= 32
        codes = np.concatenate(blocks)
        assert np.array_equal(codes[codes >= 4], np.concatenate(sequences))


def test_masks_depend_on_the_update_and_the_block_alone() -> None:
    made = task()
    members = np.arange(4)
    together = made.make_batch(made.training, members, (1, 7))
    for row in range(4):
        alone = made.make_batch(made.training, members[row : row + 1], (1, 7))
        count = int(alone.lengths)
        assert torch.equal(together.tokens[row, :count], alone.tokens[0])
    again = made.make_batch(made.training, members, (1, 8))
    assert not torch.equal(again.tokens, together.tokens)
    width = together.tokens.shape[1]
    originals = torch.stack(
        [torch.from_numpy(made.training[int(p) // width])[int(p) % width] for p in together.scored.tolist()]
    )
    assert torch.equal(originals, together.targets) and int(together.targets.min()) >= 4


def test_micro_batches() -> None:
    one = {"training": {"batch_tokens": 10_000, "bucket_tokens": 10_000, "micro_batch_tokens": 10_000}}
    many = {"training": {**one["training"], "micro_batch_tokens": 80}}
    whole, few, loss = gradients(task(one))
    parts, count, sum_of_parts = gradients(task(many))
    assert few == 1 and count >= 5
    assert sum_of_parts == pytest.approx(loss, rel=1e-5)
    assert_same(parts, whole)


def test_stopped_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropouts = {"model": {"dropout": 0.1, "attention_dropout": 0.1}}
    run_task(task(dropouts), tmp_path / "unbroken")
    mix, seen = loop._mix, []

    def signalling(*numbers: int) -> int:
        seen.append(numbers[1])
        if numbers[1] == 9 and len(seen) == 10:
            signal.raise_signal(signal.SIGTERM)
        return mix(*numbers)

    monkeypatch.setattr(loop, "_mix", signalling)
    run_task(task(dropouts), tmp_path / "broken")
    run_task(task(dropouts), tmp_path / "broken")
    assert seen == list(range(20))
    assert_bitwise_equal(tmp_path / "broken", tmp_path / "unbroken")


def test_learns_from_what_stands_around(tmp_path: Path) -> None:
    """Far below what frequencies alone give; frequencies are below chance."""
    made = task({"steps": 200, "training": {"validate_every": 200, "schedule": {"peak": 1e-2}}})
    run_task(made, tmp_path / "run")
    last = [record for record in read_log(tmp_path / "run") if "valid_bits" in record][-1]
    assert last["valid_chance_bits"] == pytest.approx(math.log2(12), abs=1e-3)
    assert made.unigram_bits <= last["valid_chance_bits"] + 1e-9
    assert last["valid_bits"] < 0.75 * made.unigram_bits and last["valid_accuracy"] > 0.3


def test_unknown_combinations_are_read_but_not_foretold() -> None:
    rare = [np.array([[3, 3]]), *speech()]
    config = from_dict(CodePretrainConfig, TINY | {"data": {"min_count": 2}}, "test")
    made = CodePrediction(config, rare, [], Processes("cpu"))
    assert len(made.vocabulary.combinations) == 12 and made.training[0][1] == UNKNOWN
    batch = made.make_batch(made.training, np.arange(len(made.training)), (1,))
    assert UNKNOWN not in batch.targets and UNKNOWN in batch.tokens


def test_stuck_is_told() -> None:
    made = task({"chance_patience": 100})
    level = made.unigram_bits
    assert made.judge(50, {"bits": level}) == ("healthy", None)
    verdict, said = made.judge(100, {"bits": level})
    assert verdict == "stuck" and said is not None and "STUCK" in said
    assert made.judge(150, {"bits": level}) == ("stuck", None)
    assert made.judge(200, {"bits": level / 2})[0] == "healthy"


def test_nothing_to_learn_from() -> None:
    with pytest.raises(CorpusError, match="no codes"):
        CodePrediction(from_dict(CodePretrainConfig, TINY, "test"), [], [], Processes("cpu"))
    with pytest.raises(ConfigError, match="min_count"):
        task({"data": {"min_count": 100_000}})


@pytest.mark.parametrize(
    "change",
    [{"training": {"batch_tokens": 0}}, {"data": {"held_out": 2.0}}, {"data": {"min_count": 0}}, {"steps": 0}],
)
def test_impossible_settings(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_codes(from_dict(CodePretrainConfig, TINY | change, "test"))
