"""What a sweep reads: short utterances are left out, and everything follows from (seed, update)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from firstwords.errors import CorpusError
from firstwords.losses.adversarial import IGNORED
from firstwords.models.wav2vec_u import PAD
from firstwords.training.unpaired import Speech, Text, UnpairedBatches

CPU = torch.device("cpu")


def speech(lengths: list[int], units: bool = False) -> Speech:
    """Utterance n has n in all its values."""
    values = np.repeat(np.arange(len(lengths), dtype=np.float32), lengths)[:, None] * np.ones(2, np.float32)
    return Speech(values, np.array(lengths), np.arange(sum(lengths)) if units else None, [f"u{n}" for n in range(99)])


def test_short_utterances_are_left_out() -> None:
    found = speech([5, 2, 3, 0, 9])
    assert len(found) == 3 and found.short == 2
    assert found.ids == ["u0", "u2", "u4"]
    features, lengths, _ = found.batch(np.array([2, 1]), CPU)
    assert lengths.tolist() == [9, 3]
    assert features[:, 0, 0].tolist() == [4.0, 2.0]
    assert features[1, 3:].abs().sum() == 0


def test_units_stand_beside_their_frames() -> None:
    _, _, targets = speech([4, 2, 6], units=True).batch(np.array([1, 0]), CPU)
    assert targets is not None and targets.shape == (2, 6)
    assert targets[0].tolist() == list(range(6, 12))  # after the 4 + 2 frames before
    assert targets[1].tolist() == [0, 1, 2, 3, IGNORED, IGNORED]


def test_text_is_ids_after_the_specials() -> None:
    text = Text([["a", "b"], [], ["b"]], ["a", "b"])
    assert len(text) == 2
    tokens, lengths = text.batch(np.array([1, 0]))
    assert tokens.tolist() == [[5, PAD], [4, 5]] and lengths.tolist() == [1, 2]


def test_text_of_another_dictionary() -> None:
    with pytest.raises(CorpusError, match=r"sentence 2 .* 'c'.*different versions"):
        Text([["a"], ["c"]], ["a", "b"])
    with pytest.raises(CorpusError, match="no sentence"):
        Text([[]], ["a"])


def test_an_epoch_has_every_utterance_once() -> None:
    batches = UnpairedBatches(speech([4] * 12), Text([["a"]] * 5, ["a"]), 4)
    heard = [int(v) for update in range(3) for v in batches.batch(0, update, CPU).features[:, 0, 0]]
    assert sorted(heard) == list(range(12))
    again = [int(v) for update in range(3, 6) for v in batches.batch(0, update, CPU).features[:, 0, 0]]
    assert sorted(again) == list(range(12)) and again != heard


def test_batches_follow_from_seed_and_update() -> None:
    def fresh() -> UnpairedBatches:
        return UnpairedBatches(speech([4] * 50), Text([["a"] * n for n in range(1, 30)], ["a"]), 8)

    ordered, jumped = fresh(), fresh()
    for update in range(20):
        one = ordered.batch(3, update, CPU)
    other = jumped.batch(3, 19, CPU)
    assert torch.equal(one.features, other.features) and torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.features, jumped.batch(4, 19, CPU).features)


def test_fewer_utterances_than_a_batch() -> None:
    batches = UnpairedBatches(speech([4, 5]), Text([["a"]], ["a"]), 160)
    assert batches.batch(0, 7, CPU).features.shape[0] == 2
    with pytest.raises(CorpusError, match="no utterance of 3"):
        UnpairedBatches(speech([1, 2]), Text([["a"]], ["a"]), 160)
