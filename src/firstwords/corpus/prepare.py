"""Recordings in any layout to a corpus: a manifest that can be trusted, and shards if asked."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from firstwords.audio import SAMPLE_RATE, probe
from firstwords.corpus.importers import ImportOptions, Problem, import_corpus
from firstwords.corpus.importers.common import Layout, lost_utterance
from firstwords.corpus.manifest import MANIFEST_NAME, manifest_line, read_manifest, write_manifest
from firstwords.corpus.parallel import map_in_order, track
from firstwords.corpus.shards import (
    MINIMUM_SAMPLES,
    SHARD_BYTES,
    ShardFormat,
    nothing_readable,
    too_short,
    write_shards,
)
from firstwords.corpus.utterance import SLACK_SECONDS, Utterance
from firstwords.errors import AudioError, CorpusError

PROBLEMS_NAME = "problems.tsv"
SHARDS_NAME = "shards"


@dataclass(frozen=True)
class PrepareOptions:
    """What `prepare` does beside importing."""

    shards: ShardFormat | None = None
    """Also write the samples into tar shards; without this the recordings stay where they are."""
    shard_bytes: int = SHARD_BYTES
    """Bytes after which a new shard begins."""
    dev: float = 0.0
    """Share of the audio (0 to 1) that becomes split "dev", among utterances that have no split."""
    test: float = 0.0
    """Share of the audio (0 to 1) that becomes split "test", among utterances that have no split."""
    resplit: bool = False
    """Forget the splits that the source has."""
    split_by: Literal["auto", "speaker", "utterance"] = "auto"
    """What must not be torn apart by splits; auto keeps speakers whole where there are enough of them."""
    language: str | None = None
    """Language of the utterances that name none."""
    quick: bool = False
    """Read headers only: broken, empty-sounding and NaN recordings are then found in training, not here."""
    overwrite: bool = False
    """Replace a corpus that is already there and differs."""
    workers: int | None = None
    """Decoding threads; without this one per core."""


@dataclass
class Prepared:
    """What `prepare` wrote."""

    manifest: Path
    utterances: list[Utterance]
    problems: list[Problem] = field(default_factory=list)
    """Everything that was not as it should be; those with `lost` cost a recording."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user about choices that were made."""
    layout: Layout | None = None
    """How the source was read."""

    @property
    def lost(self) -> int:
        """Recordings that were found and left out."""
        return sum(problem.lost for problem in self.problems)


def prepare(
    source: Path, out: Path, options: PrepareOptions | None = None, imports: ImportOptions | None = None
) -> Prepared:
    """Imports `source`, reads every recording once, and writes `out`/manifest.jsonl, with shards if asked.

    What cannot be read, is cut short, has no samples or fewer than one frame, or holds NaN is left out and named in
    `out`/problems.tsv. Durations are measured. Preparing the same again changes nothing.

    Raises:
        CorpusError: no audio found, nothing readable, `out` holds another corpus, or the disk is full.
    """
    options = options or PrepareOptions()
    if min(options.dev, options.test) < 0 or options.dev + options.test >= 1:
        raise CorpusError(f"--dev {options.dev} and --test {options.test} are shares of the audio, together below 1")
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out}: is a file; name a folder for the corpus")
    imported = import_corpus(source, imports)
    found = [
        replace(
            utterance,
            language=utterance.language or options.language,
            split=None if options.resplit else utterance.split,
        )
        for utterance in imported.utterances
    ]
    manifest = out / MANIFEST_NAME
    _refuse_early(found, manifest, options)
    result = Prepared(manifest, [], imported.problems, layout=imported.layout)

    def finish(utterances: list[Utterance]) -> None:
        splits = assign_splits(utterances, options, result.notes)
        result.utterances = [replace(u, split=splits.get(u.id, u.split)) for u in utterances]
        _refuse_other(result.utterances, manifest, options)

    if options.shards is None:
        finish(_measure_all(found, options, result.problems))
    else:
        sharded = write_shards(
            found, out / SHARDS_NAME, options.shards, options.shard_bytes, workers=options.workers, accept=finish
        )
        result.problems += sharded.problems
    gone = {problem.where for problem in result.problems if problem.lost}
    result.problems = [problem for problem in result.problems if problem.lost or problem.where not in gone]
    result.problems.sort(key=lambda problem: not problem.lost)
    write_manifest(result.utterances, manifest)
    _write_problems(result.problems, out / PROBLEMS_NAME)
    return result


def measure(utterance: Utterance, quick: bool = False) -> Utterance:
    """The utterance with its duration as its samples have it (`quick`: as its header has it).

    Raises:
        AudioError: it cannot be used for training; the message names the utterance.
    """
    if not quick:
        samples = len(utterance.read())
    else:
        source = utterance.source()
        info = probe(source)
        if info.cut_short:
            raise AudioError(f"utterance {utterance.id}: {utterance.audio}: cut short after {info.duration:.2f} s")
        claimed = utterance.extras.get("sample_rate", info.sample_rate)
        if claimed != info.sample_rate:
            raise AudioError(
                f"utterance {utterance.id}: the manifest says {claimed} Hz, the file {info.sample_rate} Hz"
            )
        seconds = max(info.duration - utterance.start, 0.0)
        if utterance.duration is not None:
            if seconds < utterance.duration - SLACK_SECONDS:
                what = f"the manifest says {utterance.duration:.2f} s, the recording holds {seconds:.2f} s"
                raise AudioError(f"utterance {utterance.id}: {what}")
            seconds = min(seconds, utterance.duration)
        samples = round(seconds * SAMPLE_RATE)
    if samples < MINIMUM_SAMPLES:
        raise AudioError(f"utterance {utterance.id}: {utterance.audio}: {too_short(samples, MINIMUM_SAMPLES)}")
    return replace(utterance, duration=round(samples / SAMPLE_RATE, 6))


def _measure_all(utterances: Sequence[Utterance], options: PrepareOptions, problems: list[Problem]) -> list[Utterance]:
    def attempt(utterance: Utterance) -> Utterance | Problem:
        try:
            return measure(utterance, options.quick)
        except AudioError as error:
            return lost_utterance(utterance.id, error)

    kept: list[Utterance] = []
    for outcome in track(map_in_order(attempt, utterances, options.workers), len(utterances), "reading recordings"):
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            kept.append(outcome)
    if not kept:
        raise nothing_readable([problem for problem in problems if problem.lost])
    return kept


def assign_splits(utterances: Sequence[Utterance], options: PrepareOptions, notes: list[str]) -> dict[str, str]:
    """Split by utterance id for those that have none, where shares for dev or test are asked for.

    Which speaker (or utterance) goes where depends on its name only, so growing a corpus moves few of them.
    """
    free = [utterance for utterance in utterances if utterance.split is None]
    if not free or options.dev + options.test == 0:
        return {}
    by_speaker = options.split_by == "speaker"
    if options.split_by == "auto":
        by_speaker = all(utterance.speaker for utterance in free)
    if by_speaker:
        chosen = _fill_splits(free, [utterance.speaker or utterance.id for utterance in free], options)
        wanted = {name for name, share in (("dev", options.dev), ("test", options.test)) if share > 0} | {"train"}
        if options.split_by == "speaker" or wanted <= set(chosen.values()):
            return chosen
        notes.append("too few speakers for splits of their own: dev and test share speakers with train")
    elif options.split_by == "auto":
        notes.append("speakers are not known, so dev and test may share speakers with train")
    return _fill_splits(free, [utterance.id for utterance in free], options)


def _fill_splits(free: Sequence[Utterance], groups: Sequence[str], options: PrepareOptions) -> dict[str, str]:
    """Fills test, then dev, with whole groups in the order of their hashes; what would overfill both is train."""
    seconds: Counter[str] = Counter()
    for utterance, group in zip(free, groups, strict=True):
        seconds[group] += utterance.duration or 0.0  # type: ignore[assignment]
    total = sum(seconds.values())
    room = {"test": options.test * total, "dev": options.dev * total}
    place = dict.fromkeys(seconds, "train")
    for group in sorted(seconds, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()):
        for split, left in room.items():
            if left > 0 and seconds[group] <= 1.5 * left + 0.001 * total:
                place[group] = split
                room[split] -= seconds[group]
                break
    return {utterance.id: place[group] for utterance, group in zip(free, groups, strict=True)}


def _refuse_early(found: Sequence[Utterance], manifest: Path, options: PrepareOptions) -> None:
    """Saves hours: an old manifest with utterances that are not in the source must differ from the new one."""
    if manifest.is_file() and not options.overwrite:
        old = {utterance.id for utterance in read_manifest(manifest)}
        if gone := old - {utterance.id for utterance in found}:
            raise _other_corpus(manifest, f"it has {len(gone)} utterances that the source has not ({min(gone)}, ...)")


def _refuse_other(utterances: Iterable[Utterance], manifest: Path, options: PrepareOptions) -> None:
    if not manifest.is_file() or options.overwrite:
        return
    new = {utterance.id: manifest_line(utterance, manifest.parent) for utterance in utterances}
    old = {utterance.id: manifest_line(utterance, manifest.parent) for utterance in read_manifest(manifest)}
    if len(new) != len(old):
        raise _other_corpus(manifest, f"it has {len(old)} utterances, the new one {len(new)}")
    for id, line in new.items():
        if line != old.get(id):
            before = old.get(id, {})
            keys = [key for key in line | before if line.get(key) != before.get(key)]
            raise _other_corpus(manifest, f"utterance {id} differs in {', '.join(keys)}")


def _other_corpus(manifest: Path, how: str) -> CorpusError:
    return CorpusError(f"{manifest}: holds another corpus ({how}); name another folder, or replace it: --overwrite")


def _write_problems(problems: Sequence[Problem], path: Path) -> None:
    """One problem a line: lost or kept, where, what. No file where there are none."""
    temporary = path.with_name(path.name + ".part")
    try:
        if not problems:
            path.unlink(missing_ok=True)
            return
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as lines:
            lines.write("lost\twhere\twhat\n")
            for problem in problems:
                where, what = (" ".join(str(part).split()) for part in (problem.where, problem.what))
                lines.write(f"{'yes' if problem.lost else 'no'}\t{where}\t{what}\n")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from error


@dataclass
class SplitSummary:
    """Amounts of one split, or of a whole corpus."""

    utterances: int = 0
    seconds: float = 0.0
    transcribed_seconds: float = 0.0
    speakers: set[str] = field(default_factory=set)

    def add(self, utterance: Utterance, seconds: float) -> None:
        """Counts one utterance that is `seconds` long."""
        self.utterances += 1
        self.seconds += seconds
        self.transcribed_seconds += seconds if utterance.text is not None else 0.0
        if utterance.speaker is not None:
            self.speakers.add(utterance.speaker)


def summarise(utterances: Iterable[Utterance]) -> dict[str, SplitSummary]:
    """Amounts by split ("" for utterances without one)."""
    splits: dict[str, SplitSummary] = {}
    for utterance in utterances:
        splits.setdefault(utterance.split or "", SplitSummary()).add(utterance, utterance.duration or 0.0)
    order = {"train": 0, "dev": 1, "test": 2}
    return dict(sorted(splits.items(), key=lambda item: (order.get(item[0], 3), item[0])))
