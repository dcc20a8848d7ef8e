"""Classes of utterances: whatever field of the manifest names them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError

FIELDS = ("speaker", "language", "text", "split")
"""Fields of an Utterance that can name a class; every other key of the manifest is in its extras."""


def label_of(utterance: Utterance, field: str) -> str | None:
    """The class that `field` names; None where it is missing or empty. Numbers and booleans as text.

    Args:
        utterance: a line of a manifest.
        field: a key of that line; "a.b" is key b of the mapping under a.

    Raises:
        CorpusError: the field holds a list or a mapping.
    """
    value = _value(utterance, field)
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{field}.{key}" for key in list(value)[:5])
        raise CorpusError(f"utterance {utterance.id}: {field!r} holds several values; name one of them: {inner}")
    if isinstance(value, list):
        raise CorpusError(f"utterance {utterance.id}: {field!r} holds a list; a class is one text or number")
    return str(value)


def labels_of(utterances: Sequence[Utterance], field: str) -> dict[str, str]:
    """Classes by id, of those utterances that have one.

    Raises:
        CorpusError: no utterance has the field; what there is instead is named.
    """
    found = {u.id: label for u in utterances if (label := label_of(u, field)) is not None}
    if not found and utterances:
        counts = available_fields(utterances)
        near = difflib.get_close_matches(field, counts, n=1)
        listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common(12)) or "none that could be one"
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise CorpusError(
            f"none of {len(utterances)} utterances has a label {field!r}; {hint}Fields and how many have them: {listed}"
        )
    return found


def available_fields(utterances: Sequence[Utterance]) -> Counter[str]:
    """Keys that could name a class, and how many utterances have them."""
    counts: Counter[str] = Counter()
    for utterance in utterances:
        counts.update(name for name in FIELDS if getattr(utterance, name) not in (None, ""))
        for key, value in utterance.extras.items():
            if isinstance(value, dict):
                counts.update(f"{key}.{inner}" for inner, v in value.items() if isinstance(v, str | int | float))
            elif isinstance(value, str | int | float) and value != "":
                counts[key] += 1
    return counts


def _value(utterance: Utterance, field: str) -> Any:
    if field in FIELDS:
        return getattr(utterance, field)
    if field in utterance.extras:
        return utterance.extras[field]
    value: Any = utterance.extras
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


Stretch = tuple[float, float, str]
"""Where something begins and ends, in seconds of the utterance, and its class."""


def stretches_of(utterance: Utterance, field: str) -> list[Stretch]:
    """Classes of parts of an utterance: a list of [start, end, class], or of mappings with those keys.

    Raises:
        CorpusError: the field holds anything else.
    """
    value = _value(utterance, field)
    if value is None:
        return []
    found: list[Stretch] = []
    for one in value if isinstance(value, list) else [value]:
        parts: Any = [one.get(key) for key in ("start", "end", "label")] if isinstance(one, dict) else one
        try:
            start, end, label = parts
            found.append((float(start), float(end), str(label)))
        except (TypeError, ValueError) as error:
            raise CorpusError(
                f"utterance {utterance.id}: {field!r} must hold a list of [start, end, class] with times in seconds, "
                f"found {str(one)[:60]!r}"
            ) from error
    return found
