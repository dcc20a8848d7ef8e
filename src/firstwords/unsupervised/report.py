"""Gathers what there is of a wav2vec-U run, by then, for its page (report.html)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from firstwords.audio import SAMPLE_RATE
from firstwords.config import to_dict
from firstwords.corpus.feature_store import write_lines
from firstwords.corpus.prepared import SILENCE, SPLITS, Prepared, read_prepared
from firstwords.corpus.utterance import Utterance
from firstwords.errors import AudioError, FirstwordsError
from firstwords.report.curves import CURVES
from firstwords.report.preparation import Stage
from firstwords.report.unsupervised import PAGE, Findings, Row, Sample, write_report
from firstwords.report.unsupervised_pictures import draw_phones, draw_said
from firstwords.report.utterances import sound_of
from firstwords.text.normalization import normalize_text
from firstwords.training.convergence import believed
from firstwords.training.data import read_corpora
from firstwords.training.run import BEST, STATUS
from firstwords.unsupervised.audio import spoken
from firstwords.unsupervised.decode import PhoneModel
from firstwords.unsupervised.diagnostics import Purity, frame_phones, purity_of
from firstwords.unsupervised.prepare import settings_of
from firstwords.unsupervised.readings import greedy_phones
from firstwords.unsupervised.steps import digest
from firstwords.unsupervised.times import Span, said_spans, segment_edges, spans_of

SAMPLES = 8
"""Utterances of the valid split that the page shows."""
COUNTED = 500
"""Utterances at most whose phones are counted."""
SHOWN_SECONDS = 4.0
"""About so long is the utterance whose phones are drawn."""
ALIGNED_WITH = 200
"""Training utterances from which an HMM learns where true phones are, to tell how pure clusters are."""
TRUTH = "truth.json"


@dataclass(frozen=True)
class Places:
    """Where a run's parts lie; those that do not exist yet are left out of its page."""

    prepared: Path
    gan: Path | None = None
    """The sweep's run."""
    words: Path | None = None
    """What self-training wrote."""
    decoded: Path | None = None
    """JSON Lines of `firstwords unsupervised decode`."""


@dataclass(frozen=True)
class Truth:
    """What only labels tell about the features, where the corpus has them."""

    key: str
    """Of the preparation that it is about."""
    purity: Purity
    shown: str
    """The utterance that is drawn, ..."""
    spans: tuple[tuple[float, float, str], ...] = ()
    """... and when its true phones are."""


def leave_report(folder: Path, places: Places) -> Path | None:
    """Writes the page of a run into `folder`; what goes wrong with it is said and costs nothing else.

    None where nothing is prepared yet, or the page could not be made.
    """
    if not (places.prepared / "prepared.json").is_file():
        return None
    try:
        write_report(folder / PAGE, gather(folder.resolve().name, places))
    except Exception as error:  # a page must never cost a run
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
            f"{folder / PAGE}: not made ({error})"
        )
        return None
    return folder / PAGE


def gather(title: str, places: Places) -> Findings:
    """All that the parts of a run say. Raises FirstwordsError where one that is there cannot be read."""
    prepared = read_prepared(places.prepared)
    recordings = _recordings(prepared)
    truth = read_truth(prepared)
    stages = read_stages(places.words)
    facts = _facts(prepared, truth)
    notes = prepared.facts.get("warnings", [])
    if places.gan is None or not (places.gan / BEST).is_file():
        return Findings(title, speech=_speech(prepared), facts=facts, notes=notes)
    model = PhoneModel(places.gan, places.prepared, "cpu")
    verdict = model.facts.get("verdict") or {}
    curves = places.gan / CURVES
    said = _said(model, COUNTED)
    shown = shown_utterance(prepared)
    return Findings(
        title,
        conclusion(verdict.get("text"), stages, _state(places.gan)),
        verdict.get("converged"),
        _member(model.facts.get("member")),
        _speech(prepared, said),
        facts,
        notes,
        _phones(prepared, said),
        curves.read_bytes() if curves.is_file() else None,
        _drawn(model, shown, recordings.get(prepared.valid.ids[shown]), truth),
        prepared.valid.ids[shown],
        list(_samples(prepared, places, said, recordings)),
        stages,
    )


def conclusion(verdict: str | None, stages: Sequence[Stage], state: str = "") -> str | None:
    """The sweep's verdict, and what self-training made of it; None where there is none yet."""
    if verdict is None:
        return None
    parts = [verdict, state]
    if len(stages) > 1:
        first, last = stages[0], stages[-1]
        like = {True: "much like", None: "partly like", False: "little like"}
        known = f"; PER {last.per:.1%} from {first.per:.1%}" if last.per is not None and first.per is not None else ""
        balance = last.balance or 0.0
        parts.append(
            f"After self-training ({last.name}) what it hears is {like[believed(last.fluency, balance)]} the text: "
            f"fluency {last.fluency:.2f}, balance {balance:.0%}{known}."
        )
    return " ".join(part for part in parts if part)


def read_stages(words: Path | None) -> list[Stage]:
    """The table of a self-training; empty where there is none."""
    if words is None or not (words / "table.json").is_file():
        return []
    rows = json.loads((words / "table.json").read_text(encoding="utf-8"))
    silent = {"perplexity": math.inf, "fluency": -math.inf}  # as `write_table` keeps what a step that said nothing has
    return [Stage(**row | {name: value for name, value in silent.items() if row[name] is None}) for row in rows]


def find_truth(prepared: Prepared) -> Truth | None:
    """Purity of clusters, and when the true phones of the drawn utterance are, where the corpus has labels.

    An HMM that learns from some of the true phones places them; kept in the prepared folder until that changes.
    """
    if prepared.kind != "1.0" or not prepared.true_phones("train") or not prepared.valid_phones:
        return None
    found = read_truth(prepared)
    if found is None:
        try:
            placed = frame_phones(prepared, "valid", most=ALIGNED_WITH)
            purity = purity_of(prepared, "valid", placed)
        except FirstwordsError:
            return None  # too little, or phones that do not fit: this is beside the point of a run
        shown = shown_utterance(prepared)
        labels = placed[shown]
        spans = (
            []
            if labels is None
            else spans_of(labels, prepared.phones, np.arange(len(labels) + 1) * prepared.frame_seconds)
        )
        found = Truth(_key(prepared), purity, prepared.valid.ids[shown], tuple(spans))
        write_lines(prepared.folder / TRUTH, [json.dumps(to_dict(found), ensure_ascii=False)])
    return found


def read_truth(prepared: Prepared) -> Truth | None:
    """What `find_truth` kept, where it is about the folder as it is now."""
    try:
        kept = json.loads((prepared.folder / TRUTH).read_text(encoding="utf-8"))
        if kept["key"] != _key(prepared):
            return None
        spans = tuple((float(start), float(end), str(phone)) for start, end, phone in kept["spans"])
        return Truth(kept["key"], Purity(**kept["purity"]), kept["shown"], spans)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def shown_utterance(prepared: Prepared) -> int:
    """The valid utterance whose speech is nearest to `SHOWN_SECONDS`."""
    lengths = prepared.features("valid", "frames").lengths if _whole(prepared) else prepared.valid.lengths
    return int(np.abs(lengths * prepared.frame_seconds - SHOWN_SECONDS).argmin())


def _key(prepared: Prepared) -> str:
    return digest(prepared.facts.get("steps"))


def _whole(prepared: Prepared) -> bool:
    """Whether the folder has all rates; one that was made up for training alone has not."""
    return "config" in prepared.facts


def _recordings(prepared: Prepared) -> dict[str, Utterance]:
    """The corpora's utterances by id; none where they are gone."""
    try:
        return {u.id: u for u in read_corpora([Path(one) for one in prepared.facts.get("corpora", ())])}
    except FirstwordsError:
        return {}


def _speech(prepared: Prepared, said: dict[str, list[str]] | None = None) -> list[Row]:
    facts = prepared.facts
    rows: list[Row] = []
    if "hours" not in facts:
        return rows
    hours, recorded = facts["hours"], facts.get("recorded")
    if recorded:
        rows.append(Row("recordings", {s: (recorded[s]["utterances"], recorded[s]["hours"], None) for s in SPLITS}))

    def row(step: str, counts: dict[str, int]) -> Row:
        return Row(
            step, {s: (facts["utterances"][s], hours[s], counts[s] / max(1e-9, 3600 * hours[s])) for s in counts}
        )

    rates = {"frames": "speech without silences, frames"}
    if prepared.kind == "1.0":
        if facts.get("segmentation") == "changes":
            rates |= {"pooled": "from one change to the next, which the generator reads"}
        else:
            rates |= {"unpooled": "runs of one cluster", "pooled": "pairs of runs, which the generator reads"}
    for rate, name in rates.items():
        rows.append(row(name, {s: len(prepared.features(s, rate).values) for s in SPLITS}))  # type: ignore[arg-type]
    if said:
        seconds = prepared.features("valid", "frames").lengths[: len(said)].sum() * prepared.frame_seconds
        for name, phones in (("phones that the generator says", said), ("true phones", prepared.valid_phones or {})):
            if known := [phones[one] for one in said if one in phones]:
                rate = sum(map(len, known)) / seconds * len(said) / len(known)
                rows.append(Row(name, {"valid": (len(known), seconds / 3600, rate)}))
    return rows


def _facts(prepared: Prepared, truth: Truth | None) -> list[str]:
    facts = prepared.facts
    found: list[str] = []
    if "encoder_dim" in facts:
        kept = f", {facts['variance_kept']:.0%} of the variance" if "variance_kept" in facts else ""
        found.append(f"Features: {facts['dim']} dimensions of the encoder's {facts['encoder_dim']}{kept}.")
    if "speakers" in facts:
        found.append(f"{facts['speakers']:,} speakers, their cepstra moved to a mixture that all share (no labels).")
    if truth is not None:
        one = truth.purity
        found.append(
            f"Clusters, asked with labels (never used): read each as its commonest phone, and {one.phone:.0%} of "
            f"frames are right; {one.clusters_per_phone:.1f} clusters to a phone (perplexity); they tell "
            f"{one.information:.0%} of what there is to know about the phone."
        )
    if "text" in facts:
        text = facts["text"]
        found.append(
            f"Text: {text['sentences']:,} sentences, {text['words']:,} words, {text['phones']:,} phones of "
            f"{len(prepared.phones) - 1} kinds."
        )
    return found


def _state(gan: Path) -> str:
    """A sentence where the sweep has not ended."""
    try:
        status = json.loads((gan / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if status.get("state") == "finished":
        return ""
    return f"The sweep is not at its end: {status.get('state')} after {status.get('update')} updates."


def _member(member: Any) -> str | None:
    if not isinstance(member, dict):
        return None
    names = {"gradient": "lambda", "smoothness": "gamma", "diversity": "eta", "auxiliary": "delta"}
    penalties = [
        f"{names[name]} {value:g}" for name, value in member["penalties"].items() if value or name != "auxiliary"
    ]
    update = (member.get("best") or {}).get("update")
    return f"member {member['number']} (seed {member['seed']}, {', '.join(penalties)}) as it was after update {update}"


def _said(model: PhoneModel, most: int) -> dict[str, list[str]]:
    """What the chosen member says greedily, by id, of the first valid utterances."""
    valid = model.prepared.valid
    return {
        name: greedy_phones(model.emissions(valid[number]), model.phones)
        for number, name in enumerate(valid.ids[:most])
        if valid.lengths[number]
    }


def _phones(prepared: Prepared, said: dict[str, list[str]]) -> bytes:
    phones = [phone for phone in prepared.phones if phone != SILENCE]
    counts = dict(zip(prepared.phones, prepared.counts, strict=True))
    shares = {
        "text": _shares(phones, counts),
        "generator": _shares(phones, Counter(p for one in said.values() for p in one)),
    }
    if truth := prepared.valid_phones:
        shares["true phones (known here, never used)"] = _shares(
            phones, Counter(p for n in said for p in truth.get(n, ()))
        )
    return draw_phones(phones, shares)


def _shares(phones: Sequence[str], counts: dict[str, int] | Counter[str]) -> list[float]:
    total = sum(counts.get(phone, 0) for phone in phones)
    return [counts.get(phone, 0) / max(1, total) for phone in phones]


def _drawn(model: PhoneModel, number: int, utterance: Utterance | None, truth: Truth | None) -> bytes | None:
    """The picture of one utterance; None where its recording is gone."""
    prepared = model.prepared
    if utterance is None or not _whole(prepared):
        return None
    try:
        samples = spoken(utterance.read(), settings_of(prepared).audio.remove_silence)
    except AudioError:
        return None
    best = model.emissions(prepared.valid[number]).argmax(1)
    rows: dict[str, Sequence[Span | tuple[float, float, str]]] = {
        "generator": said_spans(best, model.phones, model.model.config, segment_edges(prepared, "valid", number))
    }
    if truth is not None and truth.shown == utterance.id and truth.spans:
        rows["truth"] = truth.spans
    seconds = prepared.features("valid", "frames").lengths[number] * prepared.frame_seconds
    return draw_said(samples[: round((seconds + prepared.frame_seconds) * SAMPLE_RATE)], rows, SILENCE)


def _samples(
    prepared: Prepared, places: Places, said: dict[str, list[str]], recordings: dict[str, Utterance]
) -> Iterable[Sample]:
    """Some utterances, evenly spread."""
    names = list(said)
    readings = _readings(places)
    for number in np.unique(np.linspace(0, len(names) - 1, min(SAMPLES, len(names))).astype(int)):
        name = names[number]
        utterance = recordings.get(name)
        truth = (prepared.valid_phones or {}).get(name)
        text = normalize_text(utterance.text) if utterance is not None and utterance.text else None
        words = {step: found[name] for step, found in readings.items() if name in found}
        yield Sample(
            name, " ".join(said[name]), " ".join(truth) if truth else None, words, text or None, sound_of(utterance)
        )


def _readings(places: Places) -> dict[str, dict[str, str]]:
    """Words by step and id."""
    found: dict[str, dict[str, str]] = {}
    if places.decoded is not None and places.decoded.is_file():
        lines = [json.loads(line) for line in places.decoded.read_text(encoding="utf-8").splitlines()]
        found["generator, words"] = {line["id"]: line["text"] for line in lines if "text" in line}
    for name, step in (("words", "HMM, words"), ("ctc-greedy", "CTC, greedy"), ("ctc-word-model", "CTC, word model")):
        path = places.words / "labels" / f"{name}.valid.tsv" if places.words is not None else None
        if path is not None and path.is_file():
            rows = [line.split("\t") for line in path.read_text("utf-8", "surrogateescape").split("\n")[:-1]]
            found[step] = {row[0]: row[2] for row in rows if len(row) > 2}
    return {step: rows for step, rows in found.items() if rows}
