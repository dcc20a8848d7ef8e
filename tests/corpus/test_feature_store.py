"""Features on disk: what was written is read, and a writer that was killed goes on where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.corpus.feature_store import FeatureWriter, have_features, read_features, written_with
from firstwords.errors import CorpusError

PARTS = {f"one/{n}": np.random.default_rng(n).normal(size=(n % 4, 3)).astype(np.float32) for n in range(9)}


def test_what_was_written_is_read_back_utterance_by_utterance(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path, "train") as writer:
        for name, values in PARTS.items():
            writer.add(name, values)
    found = read_features(tmp_path, "train")
    assert found.ids == tuple(PARTS) and found.dim == 3 and found.places["one/4"] == 4
    for ours, values in zip(found, PARTS.values(), strict=True):
        np.testing.assert_array_equal(ours, values)
    np.testing.assert_array_equal(found[-1], PARTS["one/8"])
    assert isinstance(found.values, np.memmap)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.ids", "train.lengths", "train.npy"]


@pytest.mark.parametrize("torn", [0, 1, 5, 30])
def test_a_killed_writer_goes_on_behind_the_last_whole_utterance(tmp_path: Path, torn: int) -> None:
    """`torn`: bytes that never reached the disk."""
    writer = FeatureWriter(tmp_path, "train", key="a")
    for name, values in list(PARTS.items())[:6]:
        writer.add(name, values)
    writer._file.close()
    writer._journal.close()
    part = tmp_path / "train.npy.part"
    part.write_bytes(part.read_bytes()[: part.stat().st_size - torn])
    assert not have_features(tmp_path, "train")
    with FeatureWriter(tmp_path, "train", key="a") as again:
        assert again.ids == list(PARTS)[: len(again.ids)]
        assert len(again.ids) >= 6 - 1 - torn // 12
        for name, values in list(PARTS.items())[len(again.ids) :]:
            again.add(name, values)
    found = read_features(tmp_path, "train")
    assert found.ids == tuple(PARTS)
    np.testing.assert_array_equal(found.values, np.concatenate(list(PARTS.values())))
    assert written_with(tmp_path, "train") == "a"


def test_unfinished_features_of_other_inputs_are_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), FeatureWriter(tmp_path, "train", key="a") as writer:
        writer.add("one", np.ones((2, 2)))
        raise RuntimeError("killed")
    with FeatureWriter(tmp_path, "train", key="b") as again:
        assert again.ids == []
        again.add("two", np.zeros((1, 4)))
    assert read_features(tmp_path, "train").ids == ("two",)


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path, "train") as writer:
        writer.add("one", np.ones((2, 2)))
    (tmp_path / "train.lengths").write_text("3\n")
    with pytest.raises(CorpusError, match=r"2 frames, but 3 in train\.lengths"):
        read_features(tmp_path, "train")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_features(tmp_path, "valid")
