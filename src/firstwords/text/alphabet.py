"""The labels of a CTC recogniser: characters or phonemes, a blank, and the boundary between words."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from firstwords.config import from_dict, to_dict
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError, TextError
from firstwords.text.normalization import NormalizationConfig, normalize_text

BLANK = "<blank>"
"""CTC's "nothing new here"; always index 0."""
BOUNDARY = "|"
"""What stands between words; index 1 in alphabets built here."""
SPECIALS = frozenset({BLANK, "<pad>", "<s>", "</s>", "<unk>"})
"""Symbols that no transcript spells and `decode` drops (converted models carry them)."""
UNUSED = "<unused"
"""Start of the names of outputs to which a converted model gives no symbol; `decode` drops them too."""

Units = Literal["characters", "phonemes"]


@dataclass(frozen=True)
class Alphabet:
    """The symbols that a recogniser tells apart, and how texts are spelt with them.

    Texts are words separated by spaces where `units` is "characters". Where it is "phonemes" a text is phones
    separated by spaces with `|` between words, as in "W IY0 | K AO0 L"; only the Unicode form is normalised then, since
    case and punctuation tell phones apart.
    """

    symbols: tuple[str, ...]
    """`<blank>`, then `|` and the rest; a symbol's place is its class in the recogniser's output."""
    units: Units = "characters"
    """What a symbol is."""
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    """How texts are spelt before they are encoded."""
    final_boundary: bool = True
    """Whether `|` also ends an utterance, as in the published models."""

    def __post_init__(self) -> None:
        if not self.symbols or self.symbols[0] != BLANK:
            raise TextError(f"an alphabet starts with {BLANK}; this one with {self.symbols[:1]}")
        if BOUNDARY not in self.symbols:
            raise TextError(f"an alphabet holds the word boundary {BOUNDARY!r}; this one does not")
        if twice := [symbol for symbol, count in Counter(self.symbols).items() if count > 1]:
            raise TextError(f"symbols stand twice in the alphabet: {_listed(twice)}")
        object.__setattr__(self, "_ids", {s: i for i, s in enumerate(self.symbols) if not _is_special(s)})

    @classmethod
    def build(
        cls,
        transcripts: Iterable[str],
        units: Units = "characters",
        normalization: NormalizationConfig | None = None,
        final_boundary: bool = True,
    ) -> Alphabet:
        """The alphabet that spells all `transcripts`: blank, boundary, then symbols by falling frequency.

        Symbols that are equally frequent stand in the order of their code points.

        Raises:
            TextError: no transcript holds a single symbol.
        """
        draft = cls((BLANK, BOUNDARY), units, normalization or NormalizationConfig(), final_boundary)
        counts = draft.missing(transcripts)
        if not counts:
            raise TextError(f"no {units} in the transcripts, so there is no alphabet to build from them")
        return cls(
            (BLANK, BOUNDARY, *sorted(counts, key=lambda s: (-counts[s], s))),
            units,
            draft.normalization,
            final_boundary,
        )

    def normalize(self, text: str) -> str:
        """`text` as `decode(encode(text))` would give it back, also where the alphabet lacks some symbols."""
        if self.units == "characters":
            return normalize_text(text, self.normalization)
        words = unicodedata.normalize(self.normalization.unicode_form, text).split(BOUNDARY)
        return f" {BOUNDARY} ".join(phones for word in words if (phones := " ".join(word.split())))

    def encode(self, text: str) -> list[int]:
        """The symbols' ids, words separated (and, with `final_boundary`, ended) by the boundary; none for no words.

        Raises:
            TextError: naming the symbols that the alphabet lacks.
        """
        spelt = self._spell(text)
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        if lacking := sorted({symbol for symbol in spelt if symbol not in ids}):
            raise TextError(
                f"the alphabet lacks {_listed(lacking)}, needed to spell {_shortened(text)!r}; "
                "build it from all transcripts, or leave this one out"
            )
        return [ids[symbol] for symbol in spelt]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of symbol ids from which CTC's repeats and blanks are gone already; special symbols are dropped.

        Boundaries at the edges and repeated ones vanish.
        """
        symbols = [symbol for index in ids if not _is_special(symbol := self.symbols[index])]
        if self.units == "characters":
            return " ".join("".join(" " if symbol == BOUNDARY else symbol for symbol in symbols).split())
        words = " ".join(symbols).split(BOUNDARY)
        return f" {BOUNDARY} ".join(word.strip() for word in words if word.strip())

    def missing(self, transcripts: Iterable[str]) -> dict[str, int]:
        """How often each symbol occurs in `transcripts` that this alphabet lacks, the most frequent first."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        counts: Counter[str] = Counter()
        for text in transcripts:
            counts.update(symbol for symbol in self._spell(text) if symbol not in ids)
        return dict(counts.most_common())

    @property
    def boundary(self) -> int:
        """The id of the word boundary."""
        return self.symbols.index(BOUNDARY)

    def __len__(self) -> int:
        return len(self.symbols)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return {"symbols": list(self.symbols), "units": self.units, "normalization": to_dict(self.normalization),
                "final_boundary": self.final_boundary}  # fmt: skip

    @classmethod
    def from_dict(cls, values: Any, where: str = "alphabet") -> Alphabet:
        """The alphabet that `to_dict` described.

        Raises:
            ConfigError: unknown keys or values of the wrong kind.
            TextError: symbols that make no alphabet.
        """
        if isinstance(values, dict) and "symbols" not in values:
            raise ConfigError(f"{where}: no 'symbols' key")
        return from_dict(cls, values, where)

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all. Raises CheckpointError where that fails (a full disk, no permission)."""
        temporary = path.with_name(path.name + ".part")
        try:
            temporary.write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: the alphabet cannot be written ({error.strerror})") from error

    @classmethod
    def load(cls, path: Path) -> Alphabet:
        """Reads what `save` wrote. Raises CheckpointError where the file is missing or broken."""
        mend = "copy it again from where the model came from, or fine-tune again"
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")), where="alphabet")
        except OSError as error:
            raise CheckpointError(f"{path}: the alphabet cannot be read ({error.strerror}); {mend}") from error
        except (UnicodeDecodeError, json.JSONDecodeError, ConfigError, TextError) as error:
            raise CheckpointError(f"{path}: not an alphabet file ({error}); {mend}") from error

    def _spell(self, text: str) -> list[str]:
        """The symbols that spell `text`, whether the alphabet holds them or not."""
        text = self.normalize(text)
        if not text:
            return []
        if self.units == "characters":
            symbols = [BOUNDARY if character == " " else character for character in text]
        else:
            symbols = text.split()
        return [*symbols, BOUNDARY] if self.final_boundary else symbols


def transcript_of(utterance: Utterance, units: Units) -> str | None:
    """The transcript of an utterance in `units`, as `Alphabet.encode` takes it; None where there is none.

    Phonemes are the manifest's `phones`: a list with each word's phones (["W IY0", "K AO0 L"]) or one string
    with or without `|` between words.

    Raises:
        TextError: `phones` is neither.
    """
    if units == "characters":
        return utterance.text
    phones = utterance.extras.get("phones")
    if phones is None or isinstance(phones, str):
        return phones
    if isinstance(phones, list) and all(isinstance(word, str) for word in phones):
        return f" {BOUNDARY} ".join(phones)
    raise TextError(
        f'utterance {utterance.id}: "phones" holds {_shortened(str(phones))}; '
        'expected a text for each word: ["W IY0", "K AO0 L"]'
    )


def _is_special(symbol: str) -> bool:
    return symbol in SPECIALS or symbol.startswith(UNUSED)


def _listed(symbols: list[str], most: int = 12) -> str:
    shown = ", ".join(f"{symbol!r} (U+{ord(symbol):04X})" if len(symbol) == 1 and not symbol.isascii() else repr(symbol)
                      for symbol in symbols[:most])  # fmt: skip
    return shown + (f" and {len(symbols) - most} more" if len(symbols) > most else "")


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
