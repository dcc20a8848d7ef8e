"""The whole of wav2vec-U in one command: what lies in the folder, what is done twice, what its page says."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from tiny import pretrain

from firstwords.cli import main
from firstwords.corpus.prepared import read_prepared
from firstwords.corpus.synthetic import demo_sentences, make_corpus, voices
from firstwords.models.wav2vec_u import GeneratorConfig, Wav2VecUConfig
from firstwords.report.preparation import Stage
from firstwords.unsupervised import whole
from firstwords.unsupervised.report import Places, conclusion, find_truth, leave_report
from firstwords.unsupervised.times import said_spans, segment_edges, spans_of


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run that is as small as can be, without its --out."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("whole")
    sentences = demo_sentences()
    speakers = voices(2, languages=("en-us",))
    make_corpus(folder / "corpus", sentences[:8], speakers, "train")
    make_corpus(folder / "corpus", sentences[14:17], speakers, "dev")
    (folder / "text.txt").write_text("\n".join(sentences[100:180]) + "\n")
    assert pretrain(folder / "corpus", folder / "listen", changes={"steps": 1}) == 0
    small = (
        "--layer 1 --clusters 12 --iterations 2 --restarts 1 --dim 8 --device cpu --recipe wav2vec-u-small "
        "--gan.steps 4 --gan.batch 4 --gan.matching.restarts 0 --gan.discriminator.dim 8 --gan.grid.seeds 0 1 "
        "--gan.grid.gradient 1.5 --gan.grid.smoothness 0.5 --gan.grid.diversity 2.0 --gan.choice.validate-every 2 "
        "--gan.save-every 2 --decode.beam 4 --decode.lm-weight 1 --decode.word-score 0 --decode.processes 0 "
        "--self-train.rounds 1 --self-train.beam 4 --self-train.hmm.gaussians 1 --self-train.hmm.viterbi-rounds 1 "
        "--self-train.hmm.em-rounds 0 --self-train.hmm.lda 0 --self-train.ctc none"
    )
    return ["--audio", str(folder / "corpus"), "--text", str(folder / "text.txt"), "--encoder", str(folder / "listen"),
            *small.split()]  # fmt: skip


def run(arguments: list[str], out: Path, *more: object) -> int:
    return main(["unsupervised", "run", *arguments, "--out", str(out), *map(str, more)])


def page_of(folder: Path) -> str:
    """The page without what is inside its pictures."""
    page = (folder / "report.html").read_text()
    assert 'src="data:' in page and not re.search(r'(src|href)="(?!data:)', page), "one file, which names no other"
    return re.sub(r"base64,[^\"]+", "", page)


@pytest.fixture(scope="module")
def done(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four steps; SIGTERM came in the second."""
    out = tmp_path_factory.mktemp("done") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "find_truth", lambda prepared: os.kill(os.getpid(), signal.SIGTERM))
        assert run(arguments, out, "--anyway") == 128 + signal.SIGTERM
    assert not (out / "gan").exists() and "No verdict yet" in (out / "report.html").read_text()
    assert run(arguments, out, "--anyway") == 0
    return out


def test_everything_is_there_and_on_the_page(done: Path) -> None:
    assert {one.name for one in done.iterdir()} == {
        "prepared", "gan", "decoded.jsonl", "words", "run.json", "report.html",
    }  # fmt: skip
    prepared = read_prepared(done / "prepared")
    lines = [json.loads(line) for line in (done / "decoded.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [*prepared.train.ids, *prepared.valid.ids]
    page = page_of(done)
    for said in ("CONVERGE", "recordings", "runs of one cluster", "clusters to a phone", "How often each phone is said",
                 "All members of the sweep", "One utterance", "What is heard", "generator, words", "HMM, words",
                 "phones used", "After self-training"):  # fmt: skip
        assert said in page, said
    assert page.count("<img") == 3 and page.count("<article>") == 3 and page.count("<audio") == 3
    verdict = json.loads((done / "gan" / "status.json").read_text())["verdict"]
    assert verdict.split(" (")[0] in page


def test_what_is_done_is_not_done_again(arguments: list[str], done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [done / "prepared" / "train.npy", done / "gan" / "best.safetensors", done / "decoded.jsonl",
             done / "words" / "hmm1" / "hmm.safetensors", done / "prepared" / "truth.json"]  # fmt: skip
    before = [one.stat().st_mtime_ns for one in files]
    assert run(arguments, done, "--anyway") == 0
    assert [one.stat().st_mtime_ns for one in files] == before
    said = capsys.readouterr()
    assert "decoded.jsonl: up to date" in said.out and "CONVERGE" in said.out and "report.html" in said.err
    assert run(arguments, done, "--anyway", "--decode.read", "greedy") == 0
    assert files[2].stat().st_mtime_ns != before[2] and files[3].stat().st_mtime_ns == before[3]


def test_nothing_is_built_on_what_did_not_converge(
    arguments: list[str], done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prepared").symlink_to(done / "prepared")
    (tmp_path / "gan").symlink_to(done / "gan")
    assert run(arguments, tmp_path) == 0
    assert "--anyway" in capsys.readouterr().out
    assert not (tmp_path / "words").exists() and "DID NOT CONVERGE" in page_of(tmp_path)


def test_the_page_of_a_part(done: Path, tmp_path: Path) -> None:
    assert leave_report(tmp_path, Places(tmp_path / "nowhere")) is None
    assert leave_report(tmp_path, Places(done / "prepared")) is not None
    page = (tmp_path / "report.html").read_text()
    assert "No verdict yet" in page and "<img" not in page and "recordings" in page
    assert leave_report(tmp_path, Places(done / "prepared", done / "gan")) is not None
    assert "After self-training" not in page_of(tmp_path)


def test_clusters_are_asked_once_what_phones_they_are(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstwords.unsupervised.report.frame_phones", None)
    truth = find_truth(read_prepared(done / "prepared"))
    assert truth is not None and 0 < truth.purity.phone <= 1 and truth.purity.clusters_per_phone >= 1
    assert all(one[0] < one[1] for one in truth.spans)


def test_segments_lie_where_their_frames_do(done: Path) -> None:
    prepared = read_prepared(done / "prepared")
    for number in range(len(prepared.valid)):
        edges = segment_edges(prepared, "valid", number)
        assert len(edges) == len(prepared.valid[number]) + 1 and (np.diff(edges) > 0).all() and edges[0] == 0
        assert edges[-1] == pytest.approx(0.02 * prepared.features("valid", "frames").lengths[number])


def test_steps_of_the_generator_in_seconds() -> None:
    phones = ("a", "b", "<SIL>")
    # kernel 4 over 4 segments gives 5 steps; the first and last see half of what the others do
    config = Wav2VecUConfig(generator=GeneratorConfig(kernel=4, stride=1))
    spans = said_spans(np.array([0, 0, 1, 2, 2]), phones, config, np.array([0.0, 0.2, 0.4, 0.6, 1.0]))
    assert [span.phone for span in spans] == ["a", "b", "<SIL>"]
    assert [edge for span in spans for edge in span[:2]] == pytest.approx([0, 0.3, 0.3, 0.5, 0.5, 1.0])
    # 2.0: kernel 9, stride 3: the middle of step k is frame 3 k
    config = Wav2VecUConfig(generator=GeneratorConfig(kernel=9, stride=3))
    spans = said_spans(np.array([0, 1]), phones, config, np.arange(7) * 0.02)
    assert [span[:2] for span in spans] == [pytest.approx((0, 0.04)), pytest.approx((0.04, 0.1))]
    assert spans_of(np.zeros(0, dtype=int), phones, np.zeros(1)) == []


def test_a_verdict_and_what_self_training_made_of_it() -> None:
    stages = [
        Stage("generator, greedy", 9.0, 1.0, 0.4, 0.3, None, 0.8),
        Stage("CTC, greedy", 8.0, 1.0, 0.8, 0.1, 0.2, 0.9),
    ]
    said = conclusion("CONVERGED.", stages) or ""
    assert "(CTC, greedy) what it hears is much like the text: fluency 0.80, balance 90%; PER 10.0% from 30.0%" in said
    few = [stages[0], Stage("HMM, words", 5.0, 0.05, 2.3, None, None, 0.1)]
    assert "little like the text" in (conclusion("CONVERGED.", few) or ""), "fluent, but of few phones"
    assert conclusion(None, stages) is None and conclusion("CONVERGED.", []) == "CONVERGED."


def test_what_cannot_be_is_told_before_any_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*more: object, out: Path = tmp_path / "out") -> str:
        assert run(arguments, out, *more) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "add --recipe wav2vec-u2" in wrong("--kind", "2.0")
    assert "batch must be at least 1" in wrong("--gan.batch", 0)
    assert "hmm.gaussians 0" in wrong("--self-train.hmm.gaussians", 0)
    assert "takes no --lm" in wrong("--decode.read", "greedy", "--decode.lm", "x.arpa")
    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty, and no run" in wrong(out=tmp_path)
    assert "a file" in wrong(out=tmp_path / "notes.txt")
