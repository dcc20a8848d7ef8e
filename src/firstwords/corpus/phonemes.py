"""Phones for utterances that have words only: by espeak-ng, for recognisers that spell with its phones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from firstwords.corpus.espeak import Voice, synthesize
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CorpusError


def with_phones(utterances: Iterable[Utterance], language: str | None = None) -> Iterator[Utterance]:
    """The same utterances with `phones`, a text for each word as `transcript_of` takes them; those that have phones
    already, or no text, are passed on as they are.

    Args:
        utterances: any number.
        language: espeak-ng's code (en-us, de, ...); None takes each utterance's own.

    Raises:
        MissingExtraError: espeakng_loader is not installed.
        ConfigError: a language that espeak-ng does not know.
        CorpusError: an utterance has no language, and none is given.
    """
    for utterance in utterances:
        text = utterance.text
        if "phones" in utterance.extras or not text or not any(map(str.isalnum, text)):
            yield utterance
            continue
        if (code := language or utterance.language) is None:
            raise CorpusError(f"utterance {utterance.id}: no language, so that no phones can be told; name one")
        words = synthesize(text, Voice("phones", code)).words
        phones = [" ".join(word.phones) for word in words if word.phones]
        yield dataclasses.replace(utterance, extras=utterance.extras | {"phones": phones})
