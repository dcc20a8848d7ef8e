"""Words to subtitles that a person can read: short lines, enough time, no two at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from firstwords.decoding.words import Word


@dataclass(frozen=True)
class SubtitleConfig:
    """The rules that television and streaming services share (their style guides differ in details)."""

    line_characters: int = 42
    """Most characters of a line."""
    lines: int = 2
    """Most lines of a subtitle."""
    min_seconds: float = 1.0
    """A subtitle stays at least so long, where the next one leaves it time."""
    max_seconds: float = 7.0
    """And at most so long."""
    pause_seconds: float = 0.8
    """A pause between words that ends a subtitle."""


@dataclass(frozen=True)
class Subtitle:
    """Lines that are shown from `start` to `end` (seconds)."""

    lines: tuple[str, ...]
    start: float
    end: float


def subtitles(words: Sequence[Word], duration: float, config: SubtitleConfig | None = None) -> list[Subtitle]:
    """Words in order to subtitles in order that never overlap.

    A subtitle ends at a pause, where its lines are full, or where it would stand too long. One that would be too short
    joins its neighbour if both together keep the rules, else stays on for as long as the next one lets it.

    Args:
        words: with times; a word too long for a line is broken, one without spaces too long for a subtitle as well.
        duration: seconds of the recording.
        config: None: the defaults.
    """
    config = config or SubtitleConfig()
    groups: list[list[Word]] = []
    for word in (part for whole in words for part in _parts(whole, config)):
        if groups and word.start - groups[-1][-1].end < config.pause_seconds and _keeps(groups[-1] + [word], config):
            groups[-1].append(word)
        else:
            groups.append([word])
    groups = _joined(groups, config)
    shown: list[Subtitle] = []
    for number, group in enumerate(groups):
        start = group[0].start if not shown else max(group[0].start, shown[-1].end)
        following = groups[number + 1][0].start if number + 1 < len(groups) else max(duration, group[-1].end)
        end = min(max(group[-1].end, start + config.min_seconds), max(following, group[-1].end))
        end = min(end, following, start + config.max_seconds) if following > start else group[-1].end
        if end - start < 0.001:  # words that share a frame
            end = start + 0.001
        shown.append(Subtitle(tuple(_lines([word.text for word in group], config)), start, end))
    return shown


def _keeps(group: list[Word], config: SubtitleConfig) -> bool:
    """Whether words fit one subtitle."""
    return (
        group[-1].end - group[0].start <= config.max_seconds
        and len(_lines([word.text for word in group], config)) <= config.lines
    )


def _joined(groups: list[list[Word]], config: SubtitleConfig) -> list[list[Word]]:
    """Subtitles with too little time before the next one go together with it, or with the one before."""
    done: list[list[Word]] = []
    for number, group in enumerate(groups):
        room = (groups[number + 1][0].start if number + 1 < len(groups) else math.inf) - group[0].start
        before = group[0].start - done[-1][0].start if done else math.inf
        if done and min(room, before) < config.min_seconds and _keeps(done[-1] + group, config):
            done[-1] = done[-1] + group
        else:
            done.append(group)
    return done


def _lines(texts: Sequence[str], config: SubtitleConfig) -> list[str]:
    """Words on as few lines as they need; two lines are about as long as one another, the lower one rather longer."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 1 + len(text) <= config.line_characters:
            lines[-1] += " " + text
        else:
            lines.append(text)
    if len(lines) != 2:
        return lines
    cuts = []
    for cut in range(1, len(texts)):
        upper, lower = " ".join(texts[:cut]), " ".join(texts[cut:])
        if max(len(upper), len(lower)) <= config.line_characters:
            cuts.append((abs(len(lower) - len(upper)) + (len(upper) > len(lower)), upper, lower))
    return list(min(cuts)[1:]) if cuts else lines


def _parts(word: Word, config: SubtitleConfig) -> list[Word]:
    """A word that no line holds in pieces that share its time, and one that stands too long cut short."""
    size = config.line_characters
    pieces = [word.text[first : first + size] for first in range(0, len(word.text), size)] or [word.text]
    count = len(word.text) or 1
    seconds = word.end - word.start
    parts, place = [], 0
    for piece in pieces:
        start = word.start + seconds * place / count
        place += len(piece)
        end = word.start + seconds * place / count
        parts.append(replace(word, text=piece, start=start, end=min(end, start + config.max_seconds)))
    return parts
