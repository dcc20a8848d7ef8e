"""Every utterance of an evaluation on one page, worst first: to listen to, with the errors in colour. One file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import soundfile

from firstwords.audio import SAMPLE_RATE
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, CorpusError
from firstwords.evaluation import Evaluation
from firstwords.scoring import Scored, UtteranceScore, align, word_errors

MOST_AUDIO = 60_000_000
"""Bytes of audio in a page; the utterances after that are without."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } .facts, .id { color: #666; font-size: .85rem; }
article { border-top: 1px solid #ddd; padding: .8rem 0; } audio { height: 2rem; vertical-align: middle; }
.pair, .name { display: inline-block; vertical-align: top; padding: 0 .15rem; margin-bottom: .3rem; }
.name { color: #666; padding-right: .8rem; white-space: nowrap; }
.sub { background: #ffe9a8; } .del { background: #ffc9c5; } .ins { background: #c9ecc6; }
table.rates td, table.rates th { text-align: right; padding: .1rem .8rem .1rem 0; }
table.rates td:first-child { text-align: left; } input { font: inherit; width: 20rem; margin: .6rem 0; }
"""
_SCRIPT = """
const box = document.querySelector('input');
box.addEventListener('input', () => {
  const wanted = box.value.toLowerCase();
  for (const one of document.querySelectorAll('article'))
    one.hidden = !one.textContent.toLowerCase().includes(wanted);
});
"""


def write_utterances(path: Path, results: Mapping[str, Evaluation], utterances: Sequence[Utterance]) -> None:
    """Writes the page.

    Args:
        path: HTML file.
        results: evaluations of the same utterances; the order is that of the last one's errors.
        utterances: with the recordings; those that are missing here are without sound.

    Raises:
        CorpusError: the page cannot be written.
    """
    recordings = {utterance.id: utterance for utterance in utterances}
    last = list(results.values())[-1]
    others = {name: {u.scored.id: u.scored for u in one.score.utterances} for name, one in results.items()}
    ranked = last.score.worst(len(last.score.utterances))
    articles, room = [], MOST_AUDIO
    for one in ranked:
        sound = sound_of(recordings.get(one.scored.id)) if room > 0 else ""
        room -= len(sound)
        articles.append(_article(one, others, sound))
    silent = "" if room > 0 else " The page is full: utterances further down are without sound."
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{len(ranked)} utterances</title><style>{STYLE}</style></head><body>
<h1>{len(ranked)} utterances, those with the most errors first</h1>
{_rates(results)}
<p class="facts"><span class="sub">substituted</span> <span class="del">deleted</span>
<span class="ins">inserted</span>.{silent}</p>
<input placeholder="show those that contain ..." aria-label="show those that contain">
{"".join(articles)}
<script>{_SCRIPT}</script></body></html>
"""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error


def _rates(results: Mapping[str, Evaluation]) -> str:
    name = next(iter(results.values())).score.name
    rows = []
    for system, one in results.items():
        cells = [f"{100 * one.score.tokens.rate:.2f} %"]
        cells.append(f"{100 * one.score.characters.rate:.2f} %" if one.score.characters else "–")
        cells.append(f"{100 * one.score.sentence_error_rate:.1f} %")
        rows.append(f"<tr><td>{escape(system)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<table class="rates"><tr><th></th><th>{name}</th><th>CER</th><th>sentences</th></tr>{"".join(rows)}</table>'
    )


def _article(one: UtteranceScore, systems: Mapping[str, Mapping[str, Scored]], sound: str) -> str:
    scored = one.scored
    who = f" · {escape(scored.speaker)}" if scored.speaker else ""
    errors = f"{one.tokens.errors} of {one.tokens.reference_length} wrong"
    texts = [texts_beside(found[scored.id], name if len(systems) > 1 else "heard") for name, found in systems.items()
             if scored.id in found]  # fmt: skip
    return f'<article><div class="id">{escape(scored.id)}{who} · {errors} {sound}</div>{"".join(texts)}</article>\n'


def texts_beside(scored: Scored, name: str) -> str:
    """The reference over the hypothesis, token over token, in lines as wide as the window."""
    reference, hypothesis = (text.replace("|", " ") for text in (scored.reference, scored.hypothesis))
    pairs = []
    for expected, found in align(reference, hypothesis):
        kind = "" if expected == found else " ins" if expected is None else " del" if found is None else " sub"
        above, below = escape(expected or ""), escape(found or "")
        pairs.append(f'<span class="pair{kind}">{above}&nbsp;<br>{below}&nbsp;</span>')
    errors = word_errors(reference, hypothesis).errors
    return f'<div><span class="name">said<br>{escape(name)} ({errors})</span>{"".join(pairs)}</div>'


def sound_of(utterance: Utterance | None) -> str:
    """A player with the utterance inside; nothing where it cannot be read."""
    if utterance is None:
        return ""
    try:
        samples = utterance.read()
    except AudioError:
        return ""
    packed = io.BytesIO()
    soundfile.write(packed, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(packed.getvalue()).decode()
    return f'<audio controls preload="none" src="data:audio/flac;base64,{data}"></audio>'
