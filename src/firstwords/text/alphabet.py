"""The labels of a recogniser: characters or phonemes, the boundary between words, and what its criterion needs beside.

That is a blank for CTC. ASG has none; its alphabets begin with the boundary, which is also what is heard where nothing
is said, and may have symbols for repeated letters.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from firstwords.config import from_dict, to_dict
from firstwords.corpus.utterance import Utterance
from firstwords.errors import CheckpointError, ConfigError, TextError
from firstwords.text.normalization import NormalizationConfig, normalize_text
from firstwords.text.repetitions import pack, repetition_symbols, spelt, unpack

BLANK = "<blank>"
"""CTC's "nothing new here"; index 0 where there is one."""
BOUNDARY = "|"
"""What stands between words; index 1 in alphabets built here, 0 in those without a blank."""
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
    """`<blank>` (unless the criterion is ASG), then `|` and the rest; a symbol's place is its class in the recogniser's
    output. Index 0 is what is heard where nothing is said."""
    units: Units = "characters"
    """What a symbol is."""
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    """How texts are spelt before they are encoded."""
    final_boundary: bool = True
    """Whether `|` also ends an utterance, as in the published models."""
    first_boundary: bool = False
    """Whether `|` also begins one: without a blank something has to take the silence there. Source: wav2letter."""
    repetitions: int = 0
    """How many symbols "1", "2", ... for repeated labels there are, at the end of `symbols` (see `repetitions`)."""

    def __post_init__(self) -> None:
        if not self.symbols or self.symbols[0] not in (BLANK, BOUNDARY):
            raise TextError(f"an alphabet starts with {BLANK} (or {BOUNDARY}); this one with {self.symbols[:1]}")
        if BOUNDARY not in self.symbols:
            raise TextError(f"an alphabet holds the word boundary {BOUNDARY!r}; this one does not")
        if twice := [symbol for symbol, count in Counter(self.symbols).items() if count > 1]:
            raise TextError(f"symbols stand twice in the alphabet: {_listed(twice)}")
        counts = repetition_symbols(self.repetitions)
        if self.symbols[len(self.symbols) - len(counts) :] != counts:
            raise TextError(f"an alphabet with {len(counts)} symbols for repetitions ends with {' '.join(counts)}")
        letters = self.symbols[: len(self.symbols) - len(counts)]
        object.__setattr__(self, "_ids", {s: i for i, s in enumerate(letters) if not _is_special(s)})
        object.__setattr__(self, "_counts", tuple(range(len(letters), len(self.symbols))))

    @classmethod
    def build(
        cls,
        transcripts: Iterable[str],
        units: Units = "characters",
        normalization: NormalizationConfig | None = None,
        final_boundary: bool = True,
        first_boundary: bool = False,
        repetitions: int = 0,
        blank: bool = True,
    ) -> Alphabet:
        """The alphabet that spells all `transcripts`: blank, boundary, symbols by falling frequency, repetitions.

        Symbols that are equally frequent stand in the order of their code points.

        Raises:
            TextError: no transcript holds a single symbol, or some hold a digit that is to count repetitions.
        """
        first = (BLANK, BOUNDARY) if blank else (BOUNDARY,)
        draft = cls(first, units, normalization or NormalizationConfig(), final_boundary, first_boundary)
        counts = draft.missing(transcripts)
        if not counts:
            raise TextError(f"no {units} in the transcripts, so there is no alphabet to build from them")
        repeated = repetition_symbols(repetitions)
        if taken := [symbol for symbol in repeated if symbol in counts]:
            raise TextError(
                f"{_listed(taken)} stand for repeated symbols here, but transcripts hold them too: write numbers out "
                "as words, or do without (text.repetitions 0)"
            )
        letters = sorted(counts, key=lambda s: (-counts[s], s))
        return cls(
            (*first, *letters, *repeated), units, draft.normalization, final_boundary, first_boundary, repetitions
        )

    def normalize(self, text: str) -> str:
        """`text` as `decode(encode(text))` would give it back, also where the alphabet lacks some symbols."""
        if self.units == "characters":
            return normalize_text(text, self.normalization)
        words = unicodedata.normalize(self.normalization.unicode_form, text).split(BOUNDARY)
        return f" {BOUNDARY} ".join(phones for word in words if (phones := " ".join(word.split())))

    def encode(self, text: str) -> list[int]:
        """The symbols' ids, repeated ones packed, words separated (and ended or begun, as the alphabet says) by the
        boundary; none for no words.

        Raises:
            TextError: naming the symbols that the alphabet lacks.
        """
        symbols = self._spell(text)
        ids = self.letters
        if lacking := sorted({symbol for symbol in symbols if symbol not in ids}):
            raise TextError(
                f"the alphabet lacks {_listed(lacking)}, needed to spell {_shortened(text)!r}; "
                "build it from all transcripts, or leave this one out"
            )
        return self.pack([ids[symbol] for symbol in symbols])

    def pack(self, ids: Iterable[int]) -> list[int]:
        """Ids with the repeated ones counted, where the alphabet has symbols for that."""
        counts: tuple[int, ...] = self._counts  # type: ignore[attr-defined]
        return pack(ids, counts)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """What each of a row of ids shows in a text: its symbol, or the one that it repeats."""
        counts: tuple[int, ...] = self._counts  # type: ignore[attr-defined]
        between = "" if self.units == "characters" else " "
        return [between.join(self.symbols[index] for index in part) for part in spelt(ids, counts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of symbol ids from which a path's repeats and blanks are gone already; special symbols are dropped.

        Boundaries at the edges and repeated ones vanish.
        """
        counts: tuple[int, ...] = self._counts  # type: ignore[attr-defined]
        symbols = [symbol for index in unpack(ids, counts) if not _is_special(symbol := self.symbols[index])]
        if self.units == "characters":
            return " ".join("".join(" " if symbol == BOUNDARY else symbol for symbol in symbols).split())
        words = " ".join(symbols).split(BOUNDARY)
        return f" {BOUNDARY} ".join(word.strip() for word in words if word.strip())

    def missing(self, transcripts: Iterable[str]) -> dict[str, int]:
        """How often each symbol occurs in `transcripts` that this alphabet lacks, the most frequent first."""
        ids = self.letters
        counts: Counter[str] = Counter()
        for text in transcripts:
            counts.update(symbol for symbol in self._spell(text) if symbol not in ids)
        return dict(counts.most_common())

    @property
    def letters(self) -> dict[str, int]:
        """The symbols that spell texts, `|` among them, and their ids: no special ones, none for repetitions."""
        return self._ids  # type: ignore[attr-defined]

    @property
    def has_blank(self) -> bool:
        """Whether index 0 is CTC's blank; else it is the boundary, as for ASG."""
        return self.symbols[0] == BLANK

    @property
    def boundary(self) -> int:
        """The id of the word boundary."""
        return self.symbols.index(BOUNDARY)

    def __len__(self) -> int:
        return len(self.symbols)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, fit for JSON."""
        return {"symbols": list(self.symbols), "units": self.units, "normalization": to_dict(self.normalization),
                "final_boundary": self.final_boundary, "first_boundary": self.first_boundary,
                "repetitions": self.repetitions}  # fmt: skip

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
        symbols = [BOUNDARY, *symbols] if self.first_boundary else symbols
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
