"""ARPA files: those of other toolkits, broken ones, and writing whole or not at all."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from firstwords.decoding.kneser_ney import estimate
from firstwords.decoding.ngram import NgramModel
from firstwords.errors import LanguageModelError

OTHERS = """

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99 <s> -0.3
-1.0 </s>
-2.5\t<UNK>
-0.5  a\t-0.25
-0.6\tb

\\2-grams:
-0.2\t<s> a\t-0.1
-0.3\ta b
-0.4\tb a

\\3-grams:
-0.1\tb b a

\\end\\
"""
"""As other toolkits write them: no back-off weight where it is 0, <UNK>, a context "b b" that is not there itself."""


def written(folder: Path, content: str | bytes, name: str = "lm.arpa") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_files_of_other_toolkits(tmp_path: Path) -> None:
    model = NgramModel.load(written(tmp_path, OTHERS))
    a, b = model.id("a"), model.id("b")
    assert model.order == 3 and model.words[model.unknown] == "<unk>"
    first, state = model.score(model.start, a)
    assert first == pytest.approx(-0.2)
    second, state = model.score(state, b)
    assert second == pytest.approx(-0.1 - 0.3)  # back-off of "<s> a", then "a b"
    third, state = model.score(state, b)
    assert third == pytest.approx(-0.6)  # "b b" has no probability of its own
    assert state == (b, b)  # but "b b a" goes on from it
    assert model.score(state, a)[0] == pytest.approx(-0.1)
    assert model.finish(model.start) == pytest.approx(-0.3 - 1.0)
    assert model.score(model.start, model.id("never"))[0] == pytest.approx(-0.3 - 2.5)


def test_contexts_without_probability_are_not_written(tmp_path: Path) -> None:
    model = NgramModel.load(written(tmp_path, OTHERS))
    model.save(tmp_path / "again.arpa")
    text = (tmp_path / "again.arpa").read_text()
    assert "ngram 2=3" in text and "\tb b\t" not in text
    again = NgramModel.load(tmp_path / "again.arpa")
    for sentence in (["a", "b", "b", "a"], ["b"], ["never", "a"]):
        assert again.score_sentence(sentence) == pytest.approx(model.score_sentence(sentence))


def test_a_model_without_unknown_word_gets_one(tmp_path: Path) -> None:
    content = OTHERS.replace("-2.5\t<UNK>\n", "").replace("ngram 1=5", "ngram 1=4")
    model = NgramModel.load(written(tmp_path, content))
    assert model.score((), model.id("never"))[0] == -100


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_compressed_files_and_line_ends(ending: str, tmp_path: Path) -> None:
    content = OTHERS.replace("\n", ending).encode()
    plain = NgramModel.load(written(tmp_path, content))
    packed = NgramModel.load(written(tmp_path, gzip.compress(content), "lm.arpa.gz"))
    assert plain.score_sentence(["a", "b"]) == packed.score_sentence(["a", "b"])


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    model, _ = estimate(["a b c", "b c"], 3)
    for name in ("one.arpa.gz", "two.arpa.gz"):
        model.save(tmp_path / name)
    assert (tmp_path / "one.arpa.gz").read_bytes() == (tmp_path / "two.arpa.gz").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("\\data\\", "\\dada\\"), "line 3: not an ARPA file: it starts with '\\\\\\\\dada"),
        (("ngram 2=3", "ngram 3=3"), "line 5: expected 'ngram 2=NUMBER', found 'ngram 3=3'"),
        (("ngram 2=3", "ngram 2=many"), "line 5: expected 'ngram 2=NUMBER'"),
        (("\\1-grams:", "\\2-grams:"), "line 8: expected .1-grams:"),
        (("ngram 1=5", "ngram 1=4"), "line 13: expected .2-grams:, found '-0.6..b'; does the number"),
        (("ngram 1=5", "ngram 1=6"), "line 14: expected a log10 probability and 1 words, found ''"),
        (("-0.3\ta b", "-0.3\ta"), "line 17: expected a log10 probability and 2 words"),
        (("-0.3\ta b", "-0.3\ta c"), "line 17: the word 'c' is no unigram"),
        (("-0.3\ta b", "often\ta b"), "line 17: expected a number, found 'often'"),
        (("-0.3\ta b", "nan\ta b"), "line 17: expected a number, found 'nan'"),
        (("-0.3\ta b", "0.3\ta b"), "line 17: a log10 probability above 0"),
        (("-0.4\tb a", "-0.4\ta b"), "the n-gram 'a b' stands there twice"),
        (("-0.6\tb", "-0.6\ta"), "line 13: the word 'a' stands there twice"),
        (("-1.0 </s>", "-1.0 </z>"), "no </s> among the unigrams"),
        (("-99 <s>", "-99 <z>"), "no <s> among the unigrams|the word '<s>' is no unigram"),
        (("\\end\\", "\\4-grams:"), "line 23: expected .end"),
    ],
)
def test_malformed_files_are_told_with_the_line(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=says):
        NgramModel.load(written(tmp_path, OTHERS.replace(*change, 1)))


def test_a_file_cut_short_anywhere(tmp_path: Path) -> None:
    content = OTHERS.strip().encode()
    for length in range(len(content) - 1):
        with pytest.raises(LanguageModelError, match=r"line|empty"):
            NgramModel.load(written(tmp_path, content[:length]))
    packed = gzip.compress(content)
    for length in range(2, len(packed) - 1, 7):
        with pytest.raises(LanguageModelError, match="cut short or broken"):
            NgramModel.load(written(tmp_path, packed[:length], "lm.arpa.gz"))


def test_what_is_no_arpa_file(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match="KenLM binary"):
        NgramModel.load(written(tmp_path, b"mmap lm http://kheafield.com/code format version 5\n\x00" + bytes(99)))
    with pytest.raises(LanguageModelError, match=r"lm\.arpa: cannot be read \(No such file"):
        NgramModel.load(tmp_path / "none" / "lm.arpa")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NgramModel.load(tmp_path)
    with pytest.raises(LanguageModelError, match=r"line 12: b'\\xe4' is not UTF-8"):
        NgramModel.load(written(tmp_path, OTHERS.encode().replace(b"-0.5  a\t", b"-0.5  \xe4\t")))


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = estimate(["a b c", "b c"], 3)
    model.save(tmp_path / "lm.arpa")
    before = (tmp_path / "lm.arpa").read_bytes()

    def full(*anything: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("firstwords.decoding.arpa._lines", full)
    with pytest.raises(LanguageModelError, match="No space left"):
        model.save(tmp_path / "lm.arpa")
    assert (tmp_path / "lm.arpa").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["lm.arpa"]
