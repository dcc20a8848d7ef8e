"""Comparing runs: thinned curves tell the same, and a run is placed against a reference by what both heard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from firstwords.cli import main
from firstwords.errors import CheckpointError
from firstwords.recipes import recipe_names
from firstwords.report.compare import pages, plot_comparison, print_comparison, stand
from firstwords.report.reference import (
    MOST_LINES,
    Curve,
    keep,
    load_reference,
    read_runs,
    reference_names,
    references_of,
    thin,
    with_hours,
)


def listening(updates: int, slope: float = 0.001, chance: float = 6.66) -> list[dict[str, float]]:
    """A log as a run writes it: 0.01 h an update, a line every 10 updates, a validation every 100."""
    lines: list[dict[str, float]] = []
    for update in range(10, updates + 1, 10):
        bits = chance - slope * update
        lines.append({"update": update, "bits": bits, "chance_bits": chance, "hours_total": update / 100})
        if update % 100 == 0:
            lines.append({"update": update, "valid_bits": bits + 0.1, "valid_chance_bits": chance})
    return lines


def words(updates: int, cer: float) -> list[dict[str, float]]:
    return [
        line
        for update in range(50, updates + 1, 50)
        for line in (
            {"update": update, "bits_per_label": 4.0, "hours_total": update / 50},
            {"update": update, "valid_bits_per_label": 4.0, "valid_cer": cer, "valid_wer": 1.0},
        )
    ]


def write_run(folder: Path, records: list[dict[str, float]], command: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if command:
        (folder / "config.yaml").write_text(f"kind: pretrain\nfirstwords: '1'\nconfig: {{}}\ncommand: {command}\n")
    return folder


def curve(records: list[dict[str, float]], kind: str = "pretrain", name: str = "run") -> Curve:
    return Curve(name, kind, with_hours(records), reference=name != "run")  # type: ignore[arg-type]


def test_audio_heard_is_known_at_every_line() -> None:
    found = with_hours([{"update": 100, "hours_total": 2.0}, {"update": 150, "valid_bits": 6.0}, {"update": 200}])
    assert [line["hours"] for line in found] == [2.0, 2.0, 2.0]
    between = with_hours([{"update": 50, "valid_bits": 6.0}, {"update": 100, "hours_total": 2.0}])
    assert [line["hours"] for line in between] == [1.0, 2.0]
    assert with_hours([{"update": 1, "bits": 6.0}]) == [{"update": 1, "bits": 6.0}]


@pytest.mark.parametrize("updates", [100, 3000, 40_000])
def test_a_thinned_curve_is_short_ends_where_the_run_ends_and_tells_the_same(updates: int) -> None:
    records = with_hours(listening(updates, slope=6 / updates))
    lines = thin(records)
    assert len(lines) <= MOST_LINES - 1
    assert max(line["update"] for line in lines) == updates
    whole, short = curve(records), curve(lines)
    for key in ("bits", "valid_bits"):
        assert short.points(key, "update")[-1][0] == updates
        exact = dict(whole.points(key, "update"))
        step = 6 / updates * (updates / 50)  # what the loss falls between two lines at the most
        assert all(abs(value - exact[place]) <= step for place, value in short.points(key, "update"))
    assert "chance_bits" in lines[0] and "hours_total" not in lines[0]


def test_a_short_log_is_kept_line_by_line() -> None:
    lines = thin(with_hours(listening(300)))
    assert [line["update"] for line in lines] == sorted(line["update"] for line in with_hours(listening(300)))


def test_kept_and_found_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "listen", listening(500), "firstwords pretrain c --recipe wav2vec2-tiny --out x")
    (made,) = read_runs([run])
    keep(made, tmp_path / "mine.jsonl", {"hardware": "a small machine", "commit": ""})
    again = load_reference(str(tmp_path / "mine.jsonl"))
    assert (again.name, again.kind, again.reference) == ("mine", "pretrain", True)
    assert again.about["recipe"] == "wav2vec2-tiny" and again.about["hardware"] == "a small machine"
    assert "commit" not in again.about
    assert again.records == thin(made.records)


def test_every_shipped_curve_is_short_and_says_where_it_comes_from() -> None:
    names = reference_names()
    assert {"wav2vec2-tiny-real-speech", "wav2vec2-base-nvidia", "ctc-small-real-speech-1h"} <= set(names)
    for name in names:
        found = load_reference(name)
        assert found.name == name and 0 < len(found.records) < MOST_LINES
        assert {"recipe", "corpus", "hardware", "date", "source"} <= set(found.about)
        assert found.about["recipe"] in recipe_names(found.kind)


def test_runs_find_the_references_of_their_recipe(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", listening(100), "firstwords pretrain c --recipe wav2vec2-base --out x")
    assert [one.name for one in references_of(read_runs([run]))] == ["wav2vec2-base-nvidia"]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / where / "listen", listening(100)) for where in ("a", "b")]
    assert [run.name for run in read_runs(folders)] == [str(folder) for folder in folders]


def test_behind_ahead_and_level_at_equal_audio_heard() -> None:
    slow, fast = listening(500, 0.001), listening(1000, 0.002)
    reference = curve(listening(1000, 0.002), name="steady")
    said = stand(curve(slow), reference)
    assert said.startswith("behind steady after 5.00 h heard: loss 6.26 bits, there 5.76 bits")
    assert "which had that after 2.50 h heard" in said
    assert stand(curve(fast), curve(slow, name="slow")).startswith("ahead of slow after 5.00 h heard")
    assert "the reference ends there, the run went on to 4.76 bits" in stand(curve(fast), curve(slow, name="slow"))
    assert stand(curve(fast), reference).startswith("level with steady after 10.00 h heard")


def test_updates_stand_in_where_the_audio_heard_is_not_known() -> None:
    bare = Curve("bare", "pretrain", [{"update": 100, "accuracy": 0.2}, {"update": 300, "accuracy": 0.4}])
    run = [{"update": 200, "valid_accuracy": 0.5, "hours_total": 2.0}]
    said = stand(curve(run), bare)
    assert said == (
        "ahead of bare after 200 updates: accuracy 50.0 %, there 30.0 % (in validation here, in training there)."
    )


def test_a_run_too_short_to_compare_and_one_with_another_chance_level_are_told() -> None:
    late = Curve("late", "pretrain", [{"update": 50_000, "accuracy": 0.491}])
    said = stand(curve([{"update": 100, "accuracy": 0.1}]), late)
    assert said == "not to be compared with late, which begins at 50,000 updates."
    other = stand(curve(listening(500)), curve(listening(500, chance=5.0), name="easier"))
    assert "loss does not compare, as chance is 6.66 bits here, 5.00 there" in other


def test_both_kinds_get_a_page_each(tmp_path: Path) -> None:
    runs = [curve(listening(200)), curve(words(200, 0.5), "finetune")]
    made = pages(tmp_path / "compare.png", runs)
    assert made == {kind: tmp_path / f"compare-{kind}.png" for kind in ("pretrain", "finetune")}
    for kind, path in made.items():
        chosen = [run for run in runs if run.kind == kind]
        plot_comparison(path, chosen, [load_reference(n) for n in reference_names(chosen[0].kind)][:2])
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_table_has_last_and_best_figures(capsys: pytest.CaptureFixture[str]) -> None:
    worse = {"update": 150, "valid_bits_per_label": 4.0, "valid_cer": 0.625, "valid_wer": 1.0}
    records = [*words(100, 0.5), worse]
    print_comparison([curve(records, "finetune")], [], Console(width=120))
    assert "62.5 % (50.0)" in capsys.readouterr().out


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "listen", listening(500), "firstwords pretrain c --recipe wav2vec2-tiny --out x")
    assert main(["compare", str(run), "--out", str(tmp_path / "c.png")]) == 0
    assert "after 5.00 h heard" in capsys.readouterr().out and (tmp_path / "c.png").is_file()
    assert main(["compare", str(run), "--reference", "none", "--out", str(tmp_path / "c.svg")]) == 0
    assert "wav2vec2" not in capsys.readouterr().out
    assert main(["compare", str(run), "--keep", str(tmp_path / "mine.jsonl"), "--hardware", "here"]) == 0
    assert (
        main(["compare", str(run), "--reference", str(tmp_path / "mine.jsonl"), "--out", str(tmp_path / "d.png")]) == 0
    )
    assert "level with mine" in capsys.readouterr().out
    assert main(["compare", str(run), "--reference", "wav2vec2-tinny-demo"]) == 2
    assert "did you mean 'wav2vec2-tiny-demo'" in capsys.readouterr().err
    assert main(["compare", str(tmp_path)]) == 2
    assert "no log.jsonl there" in capsys.readouterr().err


def test_what_is_no_reference_curve_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"update": 1}\n')
    with pytest.raises(CheckpointError, match="--keep NAME makes one"):
        load_reference(str(tmp_path / "x.jsonl"))
