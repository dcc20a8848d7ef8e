"""Each layout on a small made-up tree gives the utterances that its own tools would see."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
from conftest import tone, write_tone

from firstwords.corpus.importers import ImportOptions, detect, import_corpus
from firstwords.corpus.importers.common import split_named
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError


def by_id(source: Path, **options: object) -> dict[str, Utterance]:
    found = import_corpus(source, ImportOptions(**options))  # type: ignore[arg-type]
    return {utterance.id: utterance for utterance in found.utterances}


def problems(source: Path, **options: object) -> dict[str, str]:
    return {problem.where: problem.what for problem in import_corpus(source, ImportOptions(**options)).problems}  # type: ignore[arg-type]


def test_folder_pairs_texts_and_reports_what_is_alone(tmp_path: Path) -> None:
    write_tone(tmp_path / "train" / "ann" / "a.wav", 0.1)
    (tmp_path / "train" / "ann" / "a.txt").write_text("\ufeff two\n words ", encoding="utf-8")
    write_tone(tmp_path / "test" / "bob" / "B.FLAC", 0.1, format="FLAC")
    (tmp_path / "test" / "bob" / "none.txt").write_text("nobody says this")
    write_tone(tmp_path / "test" / "bob" / "c.wav", 0.1)
    (tmp_path / "test" / "bob" / "c.txt").write_bytes(b"\xff\xfe\xff")
    write_tone(tmp_path / ".trash" / "hidden.wav", 0.1)
    (tmp_path / "talk.m4a").write_bytes(b"anything")

    assert detect(tmp_path) == "folder"
    found = by_id(tmp_path, speaker_from_folder=True)
    assert {id: (u.text, u.speaker, u.split) for id, u in found.items()} == {
        "train/ann/a": ("two words", "ann", "train"),
        "test/bob/B": (None, "bob", "test"),
        "test/bob/c": (None, "bob", "test"),
    }
    said = problems(tmp_path)
    assert said[str(tmp_path / "test" / "bob" / "none.txt")] == "text without audio"
    assert said["test/bob/B"] == "audio without text"
    assert "UTF-8" in said[str(tmp_path / "test" / "bob" / "c.txt")]
    assert "ffmpeg" in said[str(tmp_path / "talk.m4a")]
    assert len(said) == 5  # and test/bob/c is without text


def test_folder_without_any_text_is_no_problem(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 0.1)
    assert problems(tmp_path) == {}


def test_recordings_that_differ_in_their_ending_only_keep_it(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 0.1)
    write_tone(tmp_path / "a.flac", 0.1)
    assert set(by_id(tmp_path)) == {"a.wav", "a.flac"}


def test_a_link_to_its_own_folder_does_not_go_round_for_ever(tmp_path: Path) -> None:
    write_tone(tmp_path / "x" / "a.wav", 0.1)
    (tmp_path / "x" / "again").symlink_to(tmp_path)
    assert set(by_id(tmp_path)) == {"x/a"}


def test_one_recording_is_a_corpus_too(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "talk.wav", 0.1)
    (tmp_path / "talk.txt").write_text("hello")
    assert by_id(path)["talk"].text == "hello"


def test_common_voice_as_it_ships(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_tone(tmp_path / "clips" / f"cv_{name}.mp3", 0.2)
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tgender\taccents\tlocale\tsegment\n"
    (tmp_path / "train.tsv").write_text(header + 's1\tcv_a.mp3\t9\tHe said "no.\t2\ttwenties\t\t\ten\t\n')
    (tmp_path / "test.tsv").write_text(
        header + "s2\tcv_b.mp3\t9\tYes.\t2\t\t\t\ten\t\ns2\tgone.mp3\t9\tNo.\t2\t\t\t\ten\t\n"
    )
    (tmp_path / "validated.tsv").write_text(header + "s3\tcv_c.mp3\t9\tUnused here.\t2\t\t\t\ten\t\n")
    (tmp_path / "reported.tsv").write_text("sentence\tsentence_id\treason\nx\ty\tz\n")

    assert detect(tmp_path) == "table"
    found = by_id(tmp_path)
    assert set(found) == {"cv_a", "cv_b"}
    a = found["cv_a"]
    assert (a.text, a.speaker, a.language, a.split) == ('He said "no.', "s1", "en", "train")
    assert a.extras == {"age": "twenties"}
    assert found["cv_b"].split == "test"
    assert "gone.mp3" in problems(tmp_path)[f"{tmp_path / 'test.tsv'}, line 3"]
    assert set(by_id(tmp_path / "validated.tsv")) == {"cv_c"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    write_tone(tmp_path / "x" / "a.wav", 0.1)
    quote = '"' if delimiter in ",;" else ""
    rows = [
        ["Filename", "Split", "Transcription"],
        ["x/a.wav", "dev", f"{quote}well{delimiter if quote else ','} yes{quote}"],
    ]
    (tmp_path / "list.csv").write_text("\n".join(delimiter.join(row) for row in rows) + "\n\n")
    utterance = by_id(tmp_path / "list.csv")["x/a"]
    assert utterance.text == f"well{delimiter if quote else ','} yes"
    assert utterance.split == "dev"


def test_table_names_the_columns_that_it_found(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 0.1)
    (tmp_path / "t.csv").write_text("clip,words\na.wav,hello\n")
    with pytest.raises(CorpusError, match=r"the columns are: clip, words; name it: --path-column"):
        import_corpus(tmp_path / "t.csv")
    with pytest.raises(CorpusError, match=r"no column 'txt' \(--text-column\); the columns are: clip, words"):
        import_corpus(tmp_path / "t.csv", ImportOptions(path_column="clip", text_column="txt"))
    assert by_id(tmp_path / "t.csv", path_column="clip", text_column="Words")["a"].text == "hello"
    assert detect(tmp_path) == "folder"
    assert "the columns are: clip, words" in problems(tmp_path)[str(tmp_path / "t.csv")]


def test_lj_speech_without_header(tmp_path: Path) -> None:
    write_tone(tmp_path / "wavs" / "LJ001-0001.wav", 0.1)
    (tmp_path / "metadata.csv").write_text('LJ001-0001|Printing, in 1891|"Printing, in eighteen ninety-one\n')
    assert detect(tmp_path) == "table"
    assert by_id(tmp_path)["LJ001-0001"].text == '"Printing, in eighteen ninety-one'
    assert by_id(tmp_path, path_column="1", text_column="2")["LJ001-0001"].text == "Printing, in 1891"
    with pytest.raises(CorpusError, match="has 3 columns, not 4"):
        import_corpus(tmp_path / "metadata.csv", ImportOptions(text_column="4"))


def test_librispeech(tmp_path: Path) -> None:
    root = tmp_path / "test" / "LibriSpeech"  # a folder above that is called like a split must not count
    for subset, speaker in (("train-clean-100", "19"), ("dev-other", "26")):
        write_tone(root / subset / speaker / "7" / f"{speaker}-7-0000.flac", 0.1)
        lines = f"{speaker}-7-0000 NORTHANGER ABBEY\n{speaker}-7-0001 GONE\n"
        (root / subset / speaker / "7" / f"{speaker}-7.trans.txt").write_text(lines)
    assert detect(root) == "librispeech"
    found = by_id(root)
    utterance = found["19-7-0000"]
    assert (utterance.text, utterance.speaker, utterance.split) == ("NORTHANGER ABBEY", "19", "train")
    assert utterance.extras == {"subset": "train-clean-100"}
    assert found["26-7-0000"].split == "dev"
    assert by_id(root / "dev-other")["26-7-0000"].split == "dev"
    assert by_id(root / "dev-other" / "26")["26-7-0000"].split is None
    assert list(problems(root).values()) == ["text without audio", "text without audio"]


def test_libri_light(tmp_path: Path) -> None:
    book = tmp_path / "small" / "100" / "sea_fairies"
    write_tone(book / "01_fairies.flac", 0.1)
    (book / "01_fairies.json").write_text("{}")
    assert detect(tmp_path) == "librispeech"
    assert by_id(tmp_path)["01_fairies"].speaker == "100"
    assert problems(tmp_path) == {}


def test_kaldi_directory_with_segments(tmp_path: Path) -> None:
    data = tmp_path / "data" / "train"
    write_tone(tmp_path / "wav" / "call.wav", 3.0)
    write_tone(tmp_path / "wav" / "b c.flac", 1.0)
    soundfile.write(tmp_path / "wav" / "two.wav", tone(2.0).reshape(-1, 2), 16_000)
    data.mkdir(parents=True)
    (data / "wav.scp").write_text(
        f"call wav/call.wav\nfl flac -c -d -s '{tmp_path}/wav/b c.flac' |\n"
        f"sp sph2pipe -f wav -p -c 1 {tmp_path}/wav/call.wav |\n"
        f"st sph2pipe -f wav -p -c 2 {tmp_path}/wav/two.wav |\n"
        "sx sox wav/call.wav -t wav - speed 1.1 |\nark feats/raw.ark:17\n"
    )
    assert detect(data) == "kaldi"
    assert set(by_id(data)) == {"call", "fl", "sp"}
    assert by_id(data)["call"].audio.resolve() == (tmp_path / "wav" / "call.wav").resolve()
    said = problems(data)
    assert "one of 2 channels" in said[f"{data / 'wav.scp'}, line 4"]
    assert "a pipe: sox" in said[f"{data / 'wav.scp'}, line 5"]
    assert "inside an archive" in said[f"{data / 'wav.scp'}, line 6"]

    (data / "segments").write_text("u1 call 0.5 1.25\nu2 call 2 -1\nu3 sx 0 1\nu4 lost 0 1\n")
    (data / "text").write_text("u1 hello  there\nu9 nobody\n")
    (data / "utt2spk").write_text("u1 ann\nu2 bob\n")
    found = by_id(tmp_path / "data")  # the folder of data directories
    assert {id: (u.start, u.duration, u.text, u.speaker, u.split) for id, u in found.items()} == {
        "u1": (0.5, 0.75, "hello there", "ann", "train"),
        "u2": (2.0, None, None, "bob", "train"),
    }
    assert len(found["u1"].read()) == 12_000
    assert len(found["u2"].read()) == 16_000
    said = problems(tmp_path / "data")
    assert "not in wav.scp" in said[f"{data / 'segments'}: u4"]
    assert said[f"{data / 'text'}, line 2"] == "text without audio (u9)"
    (data / "segments").write_text("u1 call 1.5 1.25\n")
    with pytest.raises(CorpusError, match=r"segments, line 1: expected UTTERANCE RECORDING START END"):
        import_corpus(data)


def test_fairseq_lists(tmp_path: Path) -> None:
    write_tone(tmp_path / "audio" / "s" / "a.wav", 0.1)
    write_tone(tmp_path / "audio" / "b.wav", 0.1)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.tsv").write_text(f"{tmp_path / 'audio'}\ns/a.wav\t1600\n")
    (lists / "train.ltr").write_text("H E | S A I D |\n")
    (lists / "train.phn").write_text("HH IY S EH D\n")
    (lists / "valid.tsv").write_text(f"{tmp_path / 'audio'}\nb.wav\t1600\n")
    (lists / "valid.wrd").write_text("yes\n")
    assert detect(lists) == detect(lists / "train.tsv") == "fairseq"
    found = by_id(lists)
    assert (found["s/a"].text, found["s/a"].split) == ("HE SAID", "train")
    assert found["s/a"].extras == {"phones": ["HH IY S EH D"]}
    assert (found["b"].text, found["b"].split) == ("yes", "dev")
    assert found["b"].read().shape == (1600,)

    (lists / "train.ltr").write_text("H E |\nN O |\n")
    with pytest.raises(CorpusError, match=r"train.ltr: 2 lines for the 1 recordings of train.tsv"):
        import_corpus(lists)
    (lists / "valid.tsv").write_text("/nowhere/at/all\nb.wav\t1600\n")
    with pytest.raises(CorpusError, match="--audio-root"):
        import_corpus(lists / "valid.tsv")
    assert set(by_id(lists / "valid.tsv", audio_root=tmp_path / "audio")) == {"b"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-clean-100", "train"),
        ("Training", "train"),
        ("dev_other", "dev"),
        ("validation", "dev"),
        ("valid", "dev"),
        ("val2", "dev"),
        ("test", "test"),
        ("evaluation", "test"),
        ("validated", None),
        ("testimonies", None),
        ("trains", None),
        ("my-train", None),
    ],
)
def test_names_that_stand_for_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_layout_can_be_said(tmp_path: Path) -> None:
    write_tone(tmp_path / "1" / "2" / "a.flac", 0.1)
    (tmp_path / "1" / "2" / "1-2.trans.txt").write_text("a HELLO\n")
    assert by_id(tmp_path)["a"].text == "HELLO"
    assert set(by_id(tmp_path, layout="folder")) == {"1/2/a"}


def test_no_audio_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "talk.m4a").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"no audio found among 2 files; looked for .*wav.scp.*\.flac.*ffmpeg"):
        import_corpus(tmp_path)
    with pytest.raises(CorpusError, match="no such file or folder"):
        import_corpus(tmp_path / "gone")
    with pytest.raises(CorpusError, match="say which it is: --layout"):
        detect(tmp_path / "notes.md")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "b", "audio": ', "not JSON"),
        ('["b"]', "expected keys and values"),
        ('{"id": "b"}', "no 'audio' key"),
        ('{"id": "a", "audio": "a.wav"}', "'a' stands in line 1 already"),
        ('{"id": "b", "audio": "a.wav", "duration": "2"}', "'duration' holds '2', expected a number"),
        ('{"id": "b", "audio": "a.wav", "duration": NaN}', "'duration' is nan, expected zero or more"),
        ('{"id": "b", "audio": "a.wav", "start": -1}', "'start' is -1"),
        ('{"id": "b", "audio": "a.tar", "offset": 512}', "'offset' and 'size' belong together"),
        ('{"id": "b", "audio": "a.tar", "offset": 5.5, "size": 2}', "expected a whole number"),
    ],
)
def test_a_broken_manifest_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"id": "a", "audio": "a.wav"}) + "\n\n" + line + "\n")
    with pytest.raises(CorpusError, match=rf"manifest.jsonl, line 3: .*{re.escape(said)}"):
        import_corpus(tmp_path)
