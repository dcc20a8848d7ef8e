"""Error counts against hand counting and an independent edit distance; intervals that hold what they promise."""

from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from firstwords.errors import CorpusError
from firstwords.report.evaluation import print_score
from firstwords.scoring import ErrorCounts, Scored, align, character_errors, compare, score, word_errors


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        previous, row = row, [i]
        for j, found in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (expected != found)))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("a b c", "a b c", ErrorCounts(hits=3)),
        ("a b c", "a x c d", ErrorCounts(hits=2, substitutions=1, insertions=1)),
        (" a  b ", "b", ErrorCounts(hits=1, deletions=1)),
        ("", "a b", ErrorCounts(insertions=2)),
        ("a b", " ", ErrorCounts(deletions=2)),
        ("", "", ErrorCounts()),
        ("A", "a", ErrorCounts(substitutions=1)),
    ],
)
def test_words_counted_by_hand(reference: str, hypothesis: str, counts: ErrorCounts) -> None:
    assert word_errors(reference, hypothesis) == counts


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("ab cd", "abcd", ErrorCounts(hits=4, deletions=1)),
        (" ab ", "xb", ErrorCounts(hits=1, substitutions=1)),
        ("", "a b", ErrorCounts(insertions=3)),
        ("ab", "", ErrorCounts(deletions=2)),
    ],
)
def test_characters_counted_by_hand(reference: str, hypothesis: str, counts: ErrorCounts) -> None:
    assert character_errors(reference, hypothesis) == counts


def test_counts_equal_an_independent_edit_distance() -> None:
    generator = random.Random(1)
    for _ in range(200):
        reference = generator.choices("abc", k=generator.randint(0, 9))
        hypothesis = generator.choices("abc", k=generator.randint(0, 9))
        words = word_errors(" ".join(reference), " ".join(hypothesis))
        assert words.errors == edit_distance(reference, hypothesis)
        assert words.reference_length == len(reference)
        assert words.hits + words.substitutions + words.insertions == len(hypothesis)
        letters = character_errors("".join(reference), "".join(hypothesis))
        assert letters.errors == words.errors
        pairs = align(" ".join(reference), " ".join(hypothesis))
        assert [left for left, _ in pairs if left] == reference and [right for _, right in pairs if right] == hypothesis


def test_rates_add_up_and_survive_an_empty_reference() -> None:
    total = ErrorCounts(hits=6, substitutions=1) + ErrorCounts(deletions=1, insertions=2)
    assert total == ErrorCounts(6, 1, 1, 2) and total.rate == pytest.approx(4 / 8)
    assert ErrorCounts(insertions=3).rate == 3 and ErrorCounts().rate == 0
    assert ErrorCounts(hits=1, insertions=4).rate == 4


PAIRS = [
    Scored("u1", "the cat sat", "the cat sat", "anna"),
    Scored("u2", "the cat ran", "a cat ran off", "ben"),
    Scored("u3", "the dog", "a", "ben"),
]


def test_a_score_is_totals_over_totals() -> None:
    found = score(PAIRS)
    assert found.name == "WER" and found.tokens.rate == pytest.approx(4 / 8)
    assert found.sentence_errors == 2 and found.sentence_error_rate == pytest.approx(2 / 3)
    assert found.confusions[0][:1] == ("the",) and sum(count for *_, count in found.confusions) == 2
    assert found.insertions == [("off", 1)]
    assert [(s.speaker, s.utterances, s.tokens.errors) for s in found.speakers] == [("ben", 2, 4), ("anna", 1, 0)]
    assert [u.scored.id for u in found.worst(2)] == ["u3", "u2"]
    values = json.loads(json.dumps(found.to_dict()))
    assert values["wer"] == pytest.approx(0.5) and values["details"][1]["hypothesis"] == "a cat ran off"
    assert "details" not in found.to_dict(utterances=False)


def test_phones_are_scored_without_word_boundaries() -> None:
    found = score([Scored("u", "W IY0 | K AO0 L", "W IY0 K | AO1 L")], "phonemes")
    assert found.name == "PER" and found.characters is None and found.interval is None
    assert found.tokens == ErrorCounts(hits=4, substitutions=1)
    assert found.confusions == [("AO0", "AO1", 1)]


@pytest.mark.parametrize("pairs", [[], [PAIRS[0], PAIRS[0]]])
def test_nothing_to_score_or_an_utterance_twice(pairs: list[Scored]) -> None:
    with pytest.raises(CorpusError, match=r"nothing to score|u1 is there 2 times"):
        score(pairs)


def draw(generator: random.Random, count: int, rate: float, speakers: int = 0, spread: float = 0.0) -> list[Scored]:
    """Utterances of ten words with each word wrong by `rate`, which differs between speakers by up to `spread`."""
    rates = [rate + generator.uniform(-spread, spread) for _ in range(max(1, speakers))]
    pairs = []
    for number in range(count):
        speaker = number % max(1, speakers)
        words = ["x" if generator.random() < rates[speaker] else "a" for _ in range(10)]
        pairs.append(Scored(f"u{number}", "a " * 10, " ".join(words), f"s{speaker}" if speakers else None))
    return pairs


def test_intervals_hold_the_true_rate_about_as_often_as_they_say() -> None:
    generator = random.Random(3)
    intervals = [score(draw(generator, 60, 0.2), resamples=400).interval for _ in range(100)]
    covered = sum(i is not None and i.low <= 0.2 <= i.high for i in intervals)
    assert 86 <= covered <= 100
    # 600 independent words: the normal interval is 0.2 +- 1.96 sqrt(0.2 * 0.8 / 600) = +- 0.032
    widths = [i.high - i.low for i in intervals if i is not None]
    assert sum(widths) / len(widths) == pytest.approx(0.064, rel=0.1)


def test_intervals_repeat_with_their_seed() -> None:
    pairs = draw(random.Random(4), 50, 0.3)
    assert score(pairs, seed=1).interval == score(pairs, seed=1).interval != score(pairs, seed=2).interval


def test_ten_speakers_are_resampled_as_speakers() -> None:
    pairs = draw(random.Random(5), 240, 0.3, speakers=12, spread=0.25)
    by_speaker = score(pairs).interval
    by_utterance = score([Scored(p.id, p.reference, p.hypothesis) for p in pairs]).interval
    assert by_speaker is not None and by_utterance is not None
    assert (by_speaker.unit, by_utterance.unit) == ("speakers", "utterances")
    assert by_speaker.high - by_speaker.low > 1.5 * (by_utterance.high - by_utterance.low)
    few = score(draw(random.Random(5), 90, 0.3, speakers=9)).interval
    assert few is not None and few.unit == "utterances"


def test_comparison_tells_a_better_system_from_the_same() -> None:
    first, second = draw(random.Random(6), 200, 0.3), draw(random.Random(7), 200, 0.15)
    better = compare(first, second)
    assert better.difference < -0.1 and better.significant and better.p_value < 0.001
    assert compare(second, first).difference == pytest.approx(-better.difference)
    same = compare(first, list(reversed(first)))
    assert same.difference == 0 and same.p_value == 1 and not same.significant
    chance = compare(first, draw(random.Random(8), 200, 0.3))
    assert chance.p_value > 0.01


def test_comparison_needs_the_same_utterances() -> None:
    with pytest.raises(CorpusError, match="u3"):
        compare(PAIRS, PAIRS[:2])
    with pytest.raises(CorpusError, match="2 utterances, the other for 3"):
        compare(PAIRS[:2], PAIRS)
    with pytest.raises(CorpusError, match="u1"):
        compare(PAIRS, [Scored("u1", "other words", ""), *PAIRS[1:]])


def test_the_report_shows_rates_and_aligned_words_as_they_are() -> None:
    pairs = [*PAIRS, Scored("u4", "[red] " * 30, "[red] " * 29, "anna")]
    console = Console(file=io.StringIO(), width=70)
    print_score(score(pairs), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 70
    assert "WER         13.16 %" in text and "resamples of utterances" in text
    lines = text.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("u2, ben"))
    assert [line.split() for line in lines[place + 1 : place + 3]] == [
        ["ref", "the", "cat", "ran", "***"],
        ["hyp", "a", "cat", "ran", "off"],
    ]
    assert lines[place + 1].index("cat") == lines[place + 2].index("cat")
    assert text.count("[red]") >= 59 and text.count("*****") == 1
