"""Curves: drawn from whatever a log holds, and never at the cost of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firstwords.errors import CheckpointError
from firstwords.report.curves import CURVES, leave_curves, plot_curves, plot_run

LISTENING = [
    {"update": 25, "bits": 6.65, "chance_bits": 6.66, "accuracy": 0.03, "codes_perplexity": 100.0},
    {"update": 50, "bits": float("nan"), "chance_bits": 6.66, "accuracy": 0.1, "codes_perplexity": 90.0},
    {"update": 50, "valid_bits": 5.9, "valid_chance_bits": 6.66, "valid_accuracy": 0.12},
]
WORDS = [
    {"update": 25, "bits_per_label": 30.0},
    {"update": 25, "valid_bits_per_label": 5.0, "valid_wer": 1.0, "valid_cer": 2.9},
    {"update": 50, "valid_bits_per_label": 3.0, "valid_wer": 0.9, "valid_cer": 0.5},
]
READ = [record | ({"valid_path_wer": 1.1, "valid_path_cer": 0.8} if "valid_cer" in record else {}) for record in WORDS]
READING = [
    {"update": 25, "bits_per_character": 4.0, "perplexity": 16.0, "learning_rate": 1e-3},
    {"update": 50, "valid_bits_per_character": 3.0, "valid_perplexity": 8.0},
]
CODES = [
    {"update": 25, "bits": 8.1, "unigram_bits": 7.5, "chance_bits": 9.0, "accuracy": 0.05, "learning_rate": 1e-3},
    {"update": 50, "valid_bits": 6.9, "valid_unigram_bits": 7.5, "valid_chance_bits": 9.0, "valid_accuracy": 0.1},
]


def write_log(folder: Path, records: list[dict[str, float]], cut_off: bool = False) -> Path:
    folder.mkdir()
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "log.jsonl").write_text(text + ('{"update": 7' if cut_off else ""))
    return folder


@pytest.mark.parametrize(
    "records", [LISTENING, LISTENING[2:], WORDS, WORDS[:1], READ, READING, READING[:1], CODES, CODES[:1]]
)
def test_a_run_of_any_kind_however_short_gets_its_picture(tmp_path: Path, records: list[dict[str, float]]) -> None:
    path = plot_run(write_log(tmp_path / "run", records, cut_off=True))
    assert path == tmp_path / "run" / CURVES
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_yet(tmp_path: Path) -> None:
    assert plot_run(write_log(tmp_path / "run", [])) is None
    with pytest.raises(CheckpointError, match=r"no log\.jsonl"):
        plot_run(tmp_path)


def test_what_goes_wrong_with_a_picture_stays_with_it(tmp_path: Path) -> None:
    leave_curves(tmp_path / "nowhere")
    folder = write_log(tmp_path / "run", [{"update": "many", "bits": 1.0}])  # type: ignore[dict-item]
    (folder / CURVES).mkdir()
    leave_curves(folder)


def test_the_best_path_is_drawn_where_a_language_model_reads(tmp_path: Path) -> None:
    drawn = {}
    for name, records in (("greedy", WORDS), ("read", READ)):
        plot_curves(tmp_path / f"{name}.svg", words={"run": records})
        drawn[name] = (tmp_path / f"{name}.svg").read_text()
    assert "stroke-dasharray" in drawn["read"] and "stroke-dasharray" not in drawn["greedy"]


def test_runs_side_by_side_and_a_file_type_that_is_none(tmp_path: Path) -> None:
    plot_curves(tmp_path / "both.svg", LISTENING, {"first": WORDS, "second": WORDS[:2]}, title="Two")
    assert "<svg" in (tmp_path / "both.svg").read_text()
    with pytest.raises(CheckpointError, match="cannot be written"):
        plot_curves(tmp_path / "both.talk", LISTENING)
