"""Updates of an epoch: every utterance once, of the asked size, alike however they are shared out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from firstwords.corpus.batches import CROP_SAMPLES, Bucket, Position, UpdatePlan, share
from firstwords.errors import CorpusError

SECOND = 16_000
UPDATE, BUCKET = 60 * SECOND, 20 * SECOND


def lengths(kind: str, count: int = 500) -> np.ndarray:
    random = np.random.default_rng(0)
    if kind == "alike":
        return np.full(count, 3 * SECOND)
    if kind == "short":
        return random.integers(400, 6000, count)
    if kind == "cropped":
        return np.minimum(random.integers(SECOND, 30 * SECOND, count), 10 * SECOND)
    return random.integers(SECOND // 2, 16 * SECOND, count)


KINDS = ["alike", "short", "cropped", "mixed"]


def plan(kind: str, crop: bool = True, count: int = 500, seed: int = 1) -> UpdatePlan:
    return UpdatePlan(lengths(kind, count), UPDATE, BUCKET, crop, seed)


def members(update: list[Bucket]) -> list[int]:
    return [int(member) for bucket in update for member in bucket.members]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crop", [True, False])
class TestEpoch:
    def test_every_utterance_once(self, kind: str, crop: bool) -> None:
        for epoch in range(3):
            heard = [member for update in plan(kind, crop).epoch(epoch) for member in members(update)]
            assert sorted(heard) == list(range(500))

    def test_buckets_share_a_length(self, kind: str, crop: bool) -> None:
        """Cropped: no member is shorter, in tenths of a second. Padded: none is longer. A bucket holds what it may."""
        made = plan(kind, crop)
        for bucket in itertools.chain.from_iterable(made.epoch(0)):
            own = made.lengths[bucket.members]
            tenths = own.min() // CROP_SAMPLES * CROP_SAMPLES or own.min()
            assert bucket.samples == (tenths if crop else own.max())
            assert len(own) == 1 or len(own) * bucket.samples <= BUCKET

    def test_updates_are_of_the_asked_size(self, kind: str, crop: bool) -> None:
        sizes = [sum(len(b.members) * b.samples for b in update) for update in plan(kind, crop).epoch(0)]
        total = sum(sizes)
        assert len(sizes) == max(1, round(total / UPDATE))
        assert np.mean(sizes) == pytest.approx(UPDATE, rel=0.5 / len(sizes) + 0.01)
        assert max(sizes) <= UPDATE + 1.5 * BUCKET and min(sizes) >= UPDATE - 1.5 * BUCKET

    def test_little_is_lost_to_cropping_or_padding(self, kind: str, crop: bool) -> None:
        made = plan(kind, crop)
        used = sum(len(bucket.members) * bucket.samples for bucket in itertools.chain.from_iterable(made.epoch(0)))
        assert abs(used / made.lengths.sum() - 1) < (0.65 if kind == "short" else 0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 41])
def test_one_bucket_an_update(count: int) -> None:
    """Where a bucket is as large as an update, each update is one bucket; none is left empty, none holds two."""
    made = UpdatePlan(np.full(4 * count, 3 * SECOND), 12 * SECOND, 12 * SECOND, True, 1)
    assert [len(update) for update in made.epoch(0)] == [1] * count


def test_order_follows_from_seed_and_epoch() -> None:
    first = [members(update) for update in plan("mixed").epoch(0)]
    assert first == [members(update) for update in plan("mixed").epoch(0)]
    assert first != [members(update) for update in plan("mixed").epoch(1)]
    assert first != [members(update) for update in plan("mixed", seed=2).epoch(0)]


def test_neighbours_change_between_epochs() -> None:
    """Utterances do not always meet the same others."""
    pairs = [
        {
            frozenset(pair)
            for b in itertools.chain(*plan("cropped", count=5000).epoch(e))
            for pair in itertools.combinations(b.members, 2)
        }
        for e in (0, 1)
    ]
    assert len(pairs[0] & pairs[1]) < 0.2 * len(pairs[0])


class TestPosition:
    def test_goes_on_anywhere(self) -> None:
        made = plan("mixed")
        unbroken = list(itertools.islice(made.updates_from(Position()), 200))
        assert unbroken[-1][1].epoch >= 2
        for stop in (0, 1, 57, 130, 199):
            position = unbroken[stop - 1][1] if stop else Position()
            again, after = next(made.updates_from(position))
            assert members(again) == members(unbroken[stop][0]) and after == unbroken[stop][1]

    def test_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One epoch is planned, however many went before."""
        planned: list[int] = []
        epoch = UpdatePlan.epoch
        monkeypatch.setattr(UpdatePlan, "epoch", lambda self, number: planned.append(number) or epoch(self, number))
        next(plan("mixed").updates_from(Position(1_000_000, 3)))
        assert planned == [1_000_000]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("micro", [1, 5 * SECOND, 20 * SECOND, 10**9])
def test_shares_cover_an_update_exactly(kind: str, ranks: int, micro: int) -> None:
    for update in plan(kind).epoch(0)[:5]:
        wanted = sorted((m, b.samples) for b in update for m in b.members.tolist())
        shares = [share(update, micro, rank, ranks) for rank in range(ranks)]
        found = [piece for pieces in shares for piece in pieces]
        assert sorted((m, piece.samples) for piece in found for m in piece.members.tolist()) == wanted
        assert all(len(piece.members) == 1 or len(piece.members) * piece.samples <= micro for piece in found)
        assert sum(bool(pieces) for pieces in shares) == min(ranks, len(wanted))
        audio = [sum(len(piece.members) * piece.samples for piece in pieces) for pieces in shares]
        if kind != "short" and ranks <= 3 and len(wanted) >= 8 * ranks:
            assert max(audio) <= 2 * min(audio)


def test_too_few_utterances() -> None:
    shares = [share([Bucket(np.array([4, 5]), SECOND)], UPDATE, rank, 3) for rank in range(3)]
    assert sorted(piece.members.tolist() for pieces in shares for piece in pieces) == [[4], [5]]
    with pytest.raises(CorpusError, match="no utterances"):
        UpdatePlan(np.zeros(0, dtype=np.int64), UPDATE, BUCKET, True, 0)
