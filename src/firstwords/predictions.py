"""Predictions of a classifier as text, JSON Lines, RTTM, and vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from firstwords.classifier import Prediction
from firstwords.errors import ConfigError

PredictionFormat = Literal["tsv", "jsonl", "rttm"]


def write_predictions(
    predictions: Iterable[Prediction],
    lines: TextIO,
    name: PredictionFormat = "tsv",
    top: int = 3,
    vectors: Path | None = None,
) -> int:
    """Writes predictions one after the other, as they come; returns how many.

    Args:
        predictions: any number.
        lines: where to.
        name: "tsv": a line a recording (its name, then class and probability by turns), or, of a head on frames, a line
            a stretch (name, start, end, class, probability); "jsonl": everything; "rttm": a line a stretch, as
            diarisation tools read it.
        top: tsv: classes to name.
        vectors: a .npz file that gets `ids` (n,) and `vectors` (n, E).

    Raises:
        ConfigError: the vectors cannot be written there.
    """
    ids, rows = [], []
    for one in predictions:
        lines.write(_WRITERS[name](one, top))
        lines.flush()
        ids.append(one.id)
        rows.append(one.embedding)
    if vectors is not None and ids:
        try:
            with open(vectors, "wb") as file:
                np.savez(file, ids=np.array(ids), vectors=np.stack(rows))
        except OSError as error:
            raise ConfigError(f"{vectors}: cannot be written ({error.strerror})") from error
    return len(ids)


def _tsv(one: Prediction, top: int) -> str:
    if one.stretches:
        return "".join(f"{one.id}\t{s.start:.3f}\t{s.end:.3f}\t{s.label}\t{s.probability:.4f}\n" for s in one.stretches)
    likely = islice(one.probabilities.items(), max(1, top))
    return "\t".join([one.id, *(f"{label}\t{chance:.4f}" for label, chance in likely)]) + "\n"


def _jsonl(one: Prediction, top: int) -> str:
    values = {
        "id": one.id,
        "duration": round(one.duration, 4),
        "label": one.label,
        "probabilities": {label: round(chance, 6) for label, chance in one.probabilities.items()},
    }
    if one.stretches:
        values["stretches"] = [
            {
                "start": round(s.start, 4),
                "end": round(s.end, 4),
                "label": s.label,
                "probability": round(s.probability, 6),
            }
            for s in one.stretches
        ]
    return json.dumps(values, ensure_ascii=False) + "\n"


def _rttm(one: Prediction, top: int) -> str:
    """NIST's Rich Transcription Time Marked: type, file, channel, start, duration, two fields unused, name."""
    name = "_".join(one.id.split()) or "recording"
    return "".join(
        f"SPEAKER {name} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {'_'.join(s.label.split())} <NA> <NA>\n"
        for s in one.stretches
    )


_WRITERS = {"tsv": _tsv, "jsonl": _jsonl, "rttm": _rttm}
