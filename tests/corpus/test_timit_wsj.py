"""TIMIT and WSJ on small made-up trees of the discs' layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_tone
from shorten_writer import pack, sphere

from firstwords.audio import read_audio
from firstwords.corpus.importers import ImportOptions, detect, import_corpus
from firstwords.corpus.importers.timit import CORE_TEST, DEVELOPMENT, PHONES, fold
from firstwords.corpus.importers.wsj import normalize_transcript
from firstwords.corpus.prepare import PrepareOptions, prepare
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError

PHN = "0 500 h#\n500 900 sh\n900 1400 iy\n1400 1500 q\n1500 2000 tcl\n2000 2100 t\n2100 2400 ax-h\n2400 3200 h#\n"


def sentence(folder: Path, name: str, seed: int = 0, lower: bool = False) -> None:
    """A recording with a SPHERE header, phones, and words."""
    write_tone(folder / "tone.wav", 0.2, seed, format="NIST")
    spell = str.lower if lower else str.upper
    (folder / "tone.wav").rename(folder / spell(f"{name}.WAV"))
    (folder / spell(f"{name}.PHN")).write_text(PHN)
    (folder / spell(f"{name}.TXT")).write_text("0 3200 She had your dark suit.\n")
    (folder / spell(f"{name}.WRD")).write_text("500 1400 she\n")


@pytest.fixture
def timit(tmp_path: Path) -> Path:
    for part, region, speaker in (
        ("TRAIN", "DR1", "FCJF0"), ("TEST", "DR1", "FELC0"), ("TEST", "DR2", "FPAS0"), ("TEST", "DR4", "FADG0"),
        ("TEST", "DR1", "FAKS1"),
    ):  # fmt: skip
        for name in ("SA1", "SI1027", "SX37"):
            sentence(tmp_path / "TIMIT" / part / region / speaker, name, seed=len(name))
    return tmp_path / "TIMIT"


def by_id(source: Path, **options: object) -> dict[str, Utterance]:
    return {u.id: u for u in import_corpus(source, ImportOptions(**options)).utterances}  # type: ignore[arg-type]


def test_timit(timit: Path) -> None:
    assert detect(timit) == "timit"
    found = by_id(timit)
    assert {id: u.split for id, u in found.items()} == {
        "fcjf0-si1027": "train", "fcjf0-sx37": "train", "felc0-si1027": "test", "felc0-sx37": "test",
        "fpas0-si1027": "test", "fpas0-sx37": "test", "fadg0-si1027": "dev", "fadg0-sx37": "dev",
        "faks1-si1027": "complete-test", "faks1-sx37": "complete-test",
    }  # fmt: skip
    one = found["fcjf0-sx37"]
    assert one.extras == {"phones": "sil sh iy sil t ah sil", "dialect": "dr1"}
    assert one.text == "She had your dark suit." and one.speaker == "fcjf0"
    assert len(one.read()) == 3200
    assert by_id(timit, timit_phones="48")["fcjf0-sx37"].extras["phones"] == "sil sh iy cl t ax sil"
    said = import_corpus(timit).problems
    assert [problem.what for problem in said] == [
        "5 SA sentences left out, as is usual: all speakers read the same two"
    ]


def test_timit_copies(tmp_path: Path) -> None:
    """Small letters, copies with RIFF beside SPHERE, a part of the tree, files that are not what they should be."""
    folder = tmp_path / "timit" / "test" / "dr3" / "mjmp0"
    sentence(folder, "sx5", lower=True)
    write_tone(folder / "sx5.wav.wav", 0.2)
    sentence(folder, "sx95", lower=True)
    (folder / "sx95.wav").rename(folder / "sx95.WAV.wav")
    sentence(folder, "sx185", lower=True)
    (folder / "sx185.phn").write_text("0 500 h#\n500 900 nonsense\n")
    sentence(folder, "sx275", lower=True)
    (folder / "sx275.wav").unlink()
    found = import_corpus(tmp_path / "timit" / "test" / "dr3")
    assert found.layout == "timit"
    assert {u.id: u.audio.name for u in found.utterances} == {
        "mjmp0-sx5": "sx5.wav", "mjmp0-sx95": "sx95.WAV.wav",
    }  # fmt: skip
    assert sorted(problem.what for problem in found.problems) == [
        "expected first sample, last sample and one of TIMIT's phones, found '500 900 nonsense'",
        "phones without audio",
    ]


def test_phone_sets() -> None:
    """61 labels, of which q goes, to 60, 48 and 39; speakers of the splits are as many as everybody's."""
    assert len(PHONES) == 61 and len(CORE_TEST) == 24 and len(DEVELOPMENT) == 50 and not CORE_TEST & DEVELOPMENT
    sizes = {to: len(set(fold(sorted(PHONES), to))) for to in ("60", "48", "39")}  # type: ignore[arg-type]
    assert sizes == {"60": 60, "48": 48, "39": 39}


def wsj_tree(root: Path, discs: bool) -> None:
    """A recording of each set, some of others, transcripts, and index files where the discs are as they came."""
    places = {
        "11-1.1": ("wsj0/si_tr_s/01i/01ic0201", "wsj0/si_tr_s/40a/40ac0201"),
        "11-2.1": ("wsj0/si_tr_s/401/401c0201",),
        "13-16.1": ("wsj1/si_dt_20/4k0/4k0c0301", "wsj1/si_dt_05/4k0/4k0c0a01"),
        "13-1.1": ("wsj1/si_tr_s/4a0/4a0c0201",),
        "11-14.1": ("wsj0/si_et_20/440/440c0401",),
    }
    for number, (disc, names) in enumerate(places.items()):
        for name in names:
            path = root / (disc if discs else "") / name
            write_tone(path.with_suffix(".wav"), 0.2, number, format="NIST")
            path.with_suffix(".wav").rename(path.with_suffix(".wv1"))
            path.with_suffix(".wv2").write_bytes(b"the second microphone")
    dots = root / ("11-4.1" if discs else "") / "wsj0" / "transcrp" / "dots" / "si_tr_s" / "01i"
    dots.mkdir(parents=True)
    (dots / "01ic0200.dot").write_text("The sale of Mr. Smith's hotels [door_slam] is part ,COMMA . (01ic0201)\r\n")
    trans = root / ("13-34.1" if discs else "") / "wsj1" / "trans" / "wsj1"
    trans.mkdir(parents=True)
    (trans / "4k0c0300.dot").write_text('A <and> \\"DOUBLE-QUOTE W. [<breath>] thirty-five --DASH (4K0C0301)\nbroken\n')
    if not discs:
        return
    indices = root / "11-13.1" / "wsj0" / "doc" / "indices"
    (indices / "train").mkdir(parents=True)
    (indices / "test" / "nvp").mkdir(parents=True)
    (indices / "train" / "tr_s_wv1.ndx").write_text(
        "; a remark\n11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1\n11_2_1:wsj0/si_tr_s/401/401c0201.wv1\n"
        "11_1_1: wsj0/si_tr_s/01i/01ic0202.wv1\n"
    )
    (indices / "test" / "nvp" / "si_et_20.ndx").write_text("11_14_1:wsj0/si_et_20/440/440c0401\n")


def test_wsj_as_its_indices_say(tmp_path: Path) -> None:
    wsj_tree(tmp_path, discs=True)
    found = import_corpus(tmp_path)
    assert found.layout == "wsj"
    assert {u.id: (u.split, u.extras["subset"], u.speaker) for u in found.utterances} == {
        "01ic0201": ("train", "si284", "01i"), "4a0c0201": ("train", "si284", "4a0"),
        "4k0c0301": ("dev", "nov93dev", "4k0"), "440c0401": ("test", "nov92", "440"),
    }  # fmt: skip
    texts = {u.id: u.text for u in found.utterances}
    assert texts["01ic0201"] == "the sale of mr. smith's hotels is part comma"
    assert texts["4k0c0301"] == "a and double quote w. thirty five dash"
    said = " / ".join(f"{problem.where}: {problem.what}" for problem in found.problems)
    assert "1 utterances of si284 are listed, but their recordings are not here" in said
    assert "wsj1/si_dt_05: 1 recordings of other sets" in said and "found 'broken'" in said


def test_wsj_by_folder(tmp_path: Path) -> None:
    """wsj0 and wsj1 copied together without index files; the speaker that nobody takes is not taken."""
    wsj_tree(tmp_path, discs=False)
    prepared = prepare(tmp_path, tmp_path / "corpus")
    assert {u.id: u.split for u in prepared.utterances} == {
        "01ic0201": "train", "40ac0201": "train", "4a0c0201": "train", "4k0c0301": "dev", "440c0401": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A. T. and T. :COLON", "a. t. and t. colon"),
        ("*McDonald's 'SINGLE-QUOTE .PERIOD", "mcdonald's single quote period"),
        ("[phone_ring/] he'd (LEFT-PAREN go~ [/phone_ring] ~", "he'd left paren go"),
        ("%PERCENT ...ELLIPSIS [<tongue_click>] .", "percent ellipsis"),
        ("[noise] .", None),
    ],
)
def test_wsj_transcripts(line: str, words: str | None) -> None:
    assert normalize_transcript(line) == words


def test_wsj_as_shipped(tmp_path: Path) -> None:
    """Recordings packed with shorten, as on the discs."""
    wsj_tree(tmp_path, discs=False)
    samples = np.random.default_rng(1).integers(-3000, 3000, (4000, 1)).astype(np.int16)
    packed = tmp_path / "wsj0" / "si_tr_s" / "01i" / "01ic0201.wv1"
    packed.write_bytes(sphere(samples, pack(samples, [1], low=7)))
    found = {u.id: u for u in prepare(tmp_path, tmp_path / "corpus", PrepareOptions(shards="wav")).utterances}
    assert len(found) == 5
    assert np.array_equal(found["01ic0201"].read(), samples[:, 0] / np.float32(32768))


def test_other_packings_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.wv1"
    path.write_bytes(sphere(np.zeros((100, 1)), bytes(200), "pcm,embedded-wavpack-v2.00"))
    with pytest.raises(AudioError, match=r"wavpack-v2\.00.*sph2pipe"):
        read_audio(path)
