"""Classes out of manifest fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firstwords.corpus.labels import label_of, labels_of, stretches_of
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError


def utterance(name: str = "u", speaker: str | None = "ann", **extras: Any) -> Utterance:
    return Utterance(name, Path("a.wav"), duration=1.0, speaker=speaker, extras=extras)


def test_every_kind_of_field() -> None:
    one = utterance(gender="f", age=6, native=True, intent={"intent": "order", "slots": {"size": "big"}}, empty="")
    assert label_of(one, "speaker") == "ann" and label_of(one, "gender") == "f"
    assert label_of(one, "age") == "6" and label_of(one, "native") == "true"
    assert label_of(one, "intent.intent") == "order" and label_of(one, "intent.slots.size") == "big"
    assert label_of(one, "language") is None and label_of(one, "empty") is None and label_of(one, "none.at") is None


def test_lists_and_mappings_are_no_classes() -> None:
    with pytest.raises(CorpusError, match=r"several values; name one of them: intent\.intent"):
        label_of(utterance(intent={"intent": "order"}), "intent")
    with pytest.raises(CorpusError, match="holds a list"):
        label_of(utterance(phones=["a"]), "phones")


def test_a_field_that_nobody_has_names_those_there_are() -> None:
    with pytest.raises(
        CorpusError, match=r"none of 2 .* 'gendre'; did you mean 'gender'\? .*speaker \(2\).*gender \(1\)"
    ):
        labels_of([utterance("u", gender="f"), utterance("v")], "gendre")


def test_stretches() -> None:
    assert stretches_of(utterance(parts=[[0, 0.5, "a"], {"start": 0.5, "end": 1, "label": 2}]), "parts") == [
        (0.0, 0.5, "a"),
        (0.5, 1.0, "2"),
    ]
    assert stretches_of(utterance(), "parts") == []
    with pytest.raises(CorpusError, match=r"list of \[start, end, class\]"):
        stretches_of(utterance(parts=[[0, "a"]]), "parts")
