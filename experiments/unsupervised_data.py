"""Synthetic speech for wav2vec-U: hours of espeak-ng in many voices, and text that nobody says.

    python experiments/unsupervised_data.py TEXT OUT --hours 3.5 --voices 24 [--variants m3 f2] [--no-rooms]

OUT gets a corpus (train: most voices; test: voices and sentences that training has not heard; true phones in the
manifest as `phones`, spelt as `unsupervised prepare` spells the text) and text.txt with the sentences that are left.
The same command goes on where it was stopped. All voices speak American English, so that speech and text share their
phones; they differ in vocal tract (but with --variants: as many tracts as are named), pitch, rate, room and noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np

from firstwords.corpus.manifest import MANIFEST_NAME, read_manifest, write_manifest
from firstwords.corpus.synthetic import Voice, make_corpus, voices
from firstwords.corpus.utterance import Utterance
from firstwords.text.ipa import ipa_units
from firstwords.text.normalization import normalize_text

WORDS = (4, 22)
"""Words of a sentence that is said: 1.5 to 9 seconds."""
PIECE = 100
"""Sentences that are said between two looks at what is done."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("text", type=Path, help="sentences, one a line")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--hours", type=float, default=3.5, help="of training speech")
    arguments.add_argument("--test-minutes", type=float, default=12.0)
    arguments.add_argument("--voices", type=int, default=24, help="that train")
    arguments.add_argument("--test-voices", type=int, default=4)
    arguments.add_argument("--language", default="en-us")
    arguments.add_argument("--variants", nargs="+", help="espeak-ng's variants (vocal tracts); all without it")
    arguments.add_argument("--no-rooms", action="store_true", help="no room and no noise")
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    said, unsaid = divide(chosen.text.read_text(encoding="utf-8").splitlines(), chosen.seed)
    speakers = voices(chosen.voices + chosen.test_voices, chosen.seed, (chosen.language,), chosen.variants)
    test, train = speakers[: chosen.test_voices], speakers[chosen.test_voices :]
    begun = time.monotonic()
    rooms = not chosen.no_rooms
    used = speak(chosen.out, "train", said, train, 3600 * chosen.hours, chosen.seed, rooms)
    speak(chosen.out, "test", said[used:], test, 60 * chosen.test_minutes, chosen.seed, rooms)
    write_together(chosen.out)
    (chosen.out / "text.txt").write_text("\n".join(unsaid) + "\n", encoding="utf-8")
    utterances = read_manifest(chosen.out)
    for split in ("train", "test"):
        part = [u for u in utterances if u.split == split]
        hours = sum(u.duration or 0 for u in part) / 3600
        print(f"{split}: {len(part)} utterances, {hours:.2f} h, {len({u.speaker for u in part})} voices")
    print(f"text: {len(unsaid)} sentences; {time.monotonic() - begun:.0f} s")


def divide(lines: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Sentences to be said, shuffled, and those that are only read: none is in both, however it is written."""
    known: dict[str, str] = {}
    for line in lines:
        if spelt := normalize_text(line):
            known.setdefault(spelt, line)
    sentences = list(known)
    order = np.random.default_rng(seed).permutation(len(sentences))
    half = len(sentences) // 2
    speakable = [
        sentences[n] for n in order[:half] if WORDS[0] <= len(sentences[n].split()) <= WORDS[1]
        and all(character.isalpha() or character in " '" for character in sentences[n])
    ]  # fmt: skip
    return speakable, [known[sentences[n]] for n in order[half:]]


def speak(
    out: Path, split: str, sentences: list[str], speakers: list[Voice], seconds: float, seed: int, rooms: bool
) -> int:
    """Pieces of a split until there are `seconds` of it; returns how many sentences that took."""
    done, first = 0.0, 0
    while done < seconds:
        part = sentences[first : first + PIECE]
        if not part:
            raise SystemExit(f"{split}: the text is used up after {done / 3600:.2f} h; ask for less, or give more text")
        folder = out / "pieces" / f"{split}-{first:06d}"
        if not (folder / MANIFEST_NAME).is_file():
            turn = (first // PIECE) % len(speakers)
            make_corpus(folder, part, speakers[turn:] + speakers[:turn], split, seed=seed + first, rooms=rooms)
        done += sum(u.duration or 0 for u in read_manifest(folder))
        first += PIECE
    return first


def write_together(out: Path) -> None:
    """One manifest of all pieces; espeak-ng's phones become the units of the text."""
    utterances: list[Utterance] = []
    for manifest in sorted((out / "pieces").glob(f"*/{MANIFEST_NAME}")):
        for utterance in read_manifest(manifest):
            words = [" ".join(unit for phone in word.split() for unit in ipa_units(phone))
                     for word in utterance.extras["phones"]]  # fmt: skip
            extras = utterance.extras | {"phones": words}
            name = f"{manifest.parent.name}-{utterance.id}"
            utterances.append(dataclasses.replace(utterance, id=name, extras=extras))
    write_manifest(utterances, out / MANIFEST_NAME)


if __name__ == "__main__":
    main()
