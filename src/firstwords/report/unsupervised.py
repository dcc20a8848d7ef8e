"""A wav2vec-U run on one page: the data, the members, what is said, each step of self-training, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from firstwords.corpus.feature_store import write_lines
from firstwords.report.preparation import Stage
from firstwords.report.unsupervised_pictures import as_image
from firstwords.report.utterances import STYLE, texts_beside
from firstwords.scoring import Scored

PAGE = "report.html"

_STYLE = """
img { max-width: 100%; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.verdict { border-left: .4rem solid #888; padding: .5rem 1rem; background: #f5f5f5; }
.verdict.yes { border-color: #3a8f4d; } .verdict.no { border-color: #c23b3b; } .verdict.doubt { border-color: #e0a100; }
table { border-collapse: collapse; } td, th { text-align: right; padding: .15rem 1rem .15rem 0; font-weight: normal; }
th { color: #666; font-size: .85rem; vertical-align: bottom; } td:first-child, th:first-child { text-align: left; }
tr + tr td { border-top: 1px solid #eee; } .wide { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Row:
    """The speech after one step of preparation."""

    step: str
    amounts: Mapping[str, tuple[int, float, float | None]]
    """By split: utterances, hours, and how many of what the step gives there are in a second."""


@dataclass(frozen=True)
class Sample:
    """What was made of an utterance; what is not known is None or left out."""

    id: str
    phones: str
    true_phones: str | None
    words: Mapping[str, str]
    """By the step that read them."""
    text: str | None
    sound: str
    """HTML of a player, or nothing."""


@dataclass(frozen=True)
class Findings:
    """What a page shows; whatever is None or empty is left out."""

    title: str
    verdict: str | None = None
    converged: bool | None = None
    """None: doubtful, or nothing to say yet."""
    member: str | None = None
    speech: Sequence[Row] = ()
    facts: Sequence[str] = ()
    """Sentences about the data."""
    notes: Sequence[str] = ()
    """Warnings of the preparation."""
    phones: bytes | None = None
    """PNG of `draw_phones`."""
    curves: bytes | None = None
    """PNG of `plot_sweep`."""
    said: bytes | None = None
    """PNG of `draw_said`."""
    said_id: str = ""
    samples: Sequence[Sample] = ()
    stages: Sequence[Stage] = ()


def write_report(path: Path, findings: Findings) -> None:
    """Writes the page, whole or not at all. Raises CorpusError where it cannot be written."""
    parts = [_verdict(findings), _data(findings)]
    if findings.phones:
        parts.append(_section(
            "How often each phone is said", as_image(findings.phones, "shares of phones"),
            "A generator that works says phones about as often as the text has them. Silences are left out.",
        ))  # fmt: skip
    if findings.curves:
        parts.append(_section(
            "All members of the sweep", as_image(findings.curves, "curves"),
            "Each line is a member. The upper row needs no labels; the chosen member is thick.",
        ))  # fmt: skip
    if findings.said:
        picture = f'<div class="wide">{as_image(findings.said, "phones at their times")}</div>'
        below = "Phones where the generator said them; pale stretches are silences."
        parts.append(_section(f"One utterance: {findings.said_id}", picture, below))
    parts += [_samples(findings.samples), _stages(findings.stages)]
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(findings.title)}</title><style>{STYLE}{_STYLE}</style></head><body>
<h1>{escape(findings.title)}: recognition without transcripts</h1>
{"".join(parts)}</body></html>"""
    write_lines(path, [page])


def _section(title: str, body: str, below: str = "") -> str:
    note = f'<p class="facts">{escape(below)}</p>' if below else ""
    return f"<h2>{escape(title)}</h2>{body}{note}\n"


def _verdict(findings: Findings) -> str:
    if findings.verdict is None:
        return '<p class="verdict">No verdict yet: no member of a sweep has been judged.</p>\n'
    kind = "doubt" if findings.converged is None else "yes" if findings.converged else "no"
    member = f'<p class="facts">Chosen: {escape(findings.member)}</p>' if findings.member else ""
    return f'<div class="verdict {kind}">{escape(findings.verdict)}{member}</div>\n'


def _data(findings: Findings) -> str:
    if not findings.speech:
        return ""
    splits = list(findings.speech[0].amounts)
    head = "".join(
        f"<th>{escape(split)}:<br>{name}</th>" for split in splits for name in ("utterances", "hours", "a second")
    )
    rows = []
    for row in findings.speech:
        cells = [cell for split in splits for cell in _cells(row.amounts.get(split))]
        rows.append(f"<tr><td>{escape(row.step)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'
    facts = "".join(f"<p>{escape(fact)}</p>" for fact in findings.facts)
    notes = "".join(f"<li>{escape(note)}.</li>" for note in findings.notes)
    return _section("The data after each step", table + facts + (f"<ul>{notes}</ul>" if notes else ""))


def _cells(amount: tuple[int, float, float | None] | None) -> tuple[str, str, str]:
    if amount is None:
        return "", "", ""
    utterances, hours, rate = amount
    return f"{utterances:,}", f"{hours:.2f}", "" if rate is None else f"{rate:.1f}"


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    articles = []
    for sample in samples:
        lines = [_beside(sample.id, "phones", sample.true_phones, sample.phones)]
        lines += [_beside(sample.id, name, sample.text, words) for name, words in sample.words.items()]
        articles.append(
            f'<article><div class="id">{escape(sample.id)} {sample.sound}</div>{"".join(lines)}</article>\n'
        )
    known = any(sample.true_phones or sample.text for sample in samples)
    below = (
        'Where the truth is known it stands above: <span class="sub">substituted</span> <span class="del">deleted'
        '</span> <span class="ins">inserted</span>. It was never used.'
    )
    return f"<h2>What is heard</h2>{f'<p class=facts>{below}</p>' if known else ''}{''.join(articles)}"


def _beside(name: str, step: str, truth: str | None, said: str) -> str:
    if truth:
        return texts_beside(Scored(name, truth, said), step)
    return f'<div><span class="name">{escape(step)}</span>{escape(said) or "(nothing)"}</div>'


def _stages(stages: Sequence[Stage]) -> str:
    if not stages:
        return ""
    known = any(stage.per is not None for stage in stages), any(stage.wer is not None for stage in stages)
    names = [
        "",
        "perplexity of a phone",
        "phones used",
        "fluency",
        "balance",
        *(["PER"] * known[0]),
        *(["WER"] * known[1]),
    ]
    rows = []
    for stage in stages:
        cells = [stage.name, f"{stage.perplexity:.1f}", f"{stage.used:.0%}", f"{stage.fluency:.2f}"]
        cells.append("" if stage.balance is None else f"{stage.balance:.0%}")
        for rate, wanted in zip((stage.per, stage.wer), known, strict=True):
            cells += ["" if rate is None else f"{rate:.1%}"] * wanted
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in names)
    below = (
        "On the valid split. Fluency: 0 like shuffled phones, 1 like real text; balance: 100 % where phones are as "
        "frequent as in the text, and where it is low, fluency is that of a few phones. Error rates are those against "
        "the manifest's transcripts, logged beside; the rest needs no labels."
    )
    return _section("Self-training", f"<table><tr>{head}</tr>{''.join(rows)}</table>", below)
