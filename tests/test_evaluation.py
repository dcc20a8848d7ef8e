"""Comparing evaluations: read back as written, on the command line as in Python, on a page as heard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_tone
from rich.console import Console

from firstwords.cli import main
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError
from firstwords.evaluation import Evaluation, is_corpus, read_evaluation
from firstwords.report.comparison import print_comparison
from firstwords.report.utterances import write_utterances
from firstwords.scoring import ErrorCounts, Scored, score


def evaluation(mistakes: int) -> Evaluation:
    pairs = [
        Scored(f"u{n}", "one two <three>", "one two" if n < mistakes else "one two <three>", f"s{n % 3}")
        for n in range(12)
    ]
    return Evaluation(score(pairs), {}, 0, 24.0, 6.0, ErrorCounts(hits=35, deletions=1))


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(evaluation(5).to_dict()))
    found = read_evaluation(path)
    assert found.score == evaluation(5).score
    assert found.real_time_factor == 0.25 and found.oracle == ErrorCounts(hits=35, deletions=1)
    for text in ("[1]", "{", '{"wer": 1}'):
        path.write_text(text)
        with pytest.raises(CorpusError, match=r"a\.json"):
            read_evaluation(path)


def test_results_are_told_from_corpora(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").touch()
    assert not is_corpus(tmp_path / "run") and not is_corpus(Path("a.json")) and not is_corpus(Path("x.safetensors"))
    assert is_corpus(tmp_path) and is_corpus(Path("corpus/manifest.jsonl"))


def test_compared_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mistakes in (("a.json", 9), ("b.json", 1)):
        (tmp_path / name).write_text(json.dumps(evaluation(mistakes).to_dict()))
    assert main(["evaluate", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "25.00" in said and "2.78" in said and "-22.22" in said
    assert main(["evaluate", str(tmp_path / "run")]) == 2


def test_different_utterances_are_not_compared() -> None:
    other = Evaluation(score([Scored("x", "one", "one"), Scored("y", "two", "two")]), {}, 0)
    with pytest.raises(CorpusError, match="not in both"):
        print_comparison({"a": evaluation(1), "b": other}, Console(quiet=True))


def test_page_has_everything_worst_first(tmp_path: Path) -> None:
    audio = write_tone(tmp_path / "a.wav", 0.3)
    path = tmp_path / "page.html"
    write_utterances(path, {"a <b>": evaluation(2), "c": evaluation(3)}, [Utterance("u1", audio)])
    page = path.read_text()
    assert page.count("<article>") == 12 and page.count("<audio") == 1
    assert "data:audio/flac;base64," in page and "a &lt;b&gt;" in page and "&lt;three&gt;" in page
    assert "<three>" not in page and "http" not in page
    order = [page.index(f'<div class="id">u{n} ') for n in (0, 1, 2, 3)]
    assert order == sorted(order)
