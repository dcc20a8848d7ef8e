"""What is counted is what the model says of each utterance by itself, however utterances are batched."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_tone
from test_windows import recognizer
from training.tiny import PRETRAIN, settings, write_corpus

from firstwords.coder import Coder
from firstwords.codes import UnitCoder, check_field, count_codes
from firstwords.cooccurrence import Table
from firstwords.corpus.intervals import SILENCE, Interval
from firstwords.corpus.manifest import read_manifest
from firstwords.corpus.utterance import Utterance
from firstwords.encoder import Encoder
from firstwords.errors import AlignmentError, ConfigError, CorpusError
from firstwords.features import LayerFeatures
from firstwords.models.wav2vec2 import Wav2Vec2
from firstwords.phone_times import ManifestTimes, RecognizerTimes
from firstwords.report.codes import whole

PHONES = ("AH0", "AH1", "K", "S")


@pytest.fixture(scope="module")
def coder() -> Coder:
    torch.manual_seed(0)
    return Coder(Wav2Vec2(settings(PRETRAIN).model)).eval()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """With phones all along, or a gap; one utterance has none, one cannot be read, one is too short."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), [0.9, 0.4, 0.62, 0.5, 0.31, 0.77, 0.02], speaker="a")
    made = []
    for number, utterance in enumerate(read_manifest(folder)):
        segments = [[PHONES[(number + k) % 4], 0.1 * k, 0.1 * k + 0.09] for k in range(3)]
        extras = utterance.extras | ({"segments": segments} if number else {})
        made.append(dataclasses.replace(utterance, speaker="ab"[number % 2], extras=extras))
    return [*made, Utterance("gone", folder / "gone.wav", duration=1.0)]


def found(table: Table) -> dict[tuple[int, str], int]:
    rows = zip(table.codes.tolist(), table.labels.tolist(), table.counts.tolist(), strict=True)
    return {(code, table.names[label]): count for code, label, count in rows}


@pytest.mark.parametrize("batch_seconds", [0.1, 2.0, 60.0])
def test_counts_are_those_of_every_frame(coder: Coder, corpus: list[Utterance], batch_seconds: float) -> None:
    """Against a loop over utterances and frames."""
    counts = count_codes(coder, corpus, ManifestTimes(), ("speaker",), batch_seconds, progress=False)
    phones: Counter[tuple[int, str]] = Counter()
    speakers: Counter[tuple[int, str | None]] = Counter()
    for number, utterance in enumerate(corpus[:6]):
        with torch.inference_mode():
            entries = coder(torch.from_numpy(utterance.read())[None])[0].tolist()
        for frame, (first, second) in enumerate(entries):
            code = first * coder.entries + second
            speakers[code, utterance.speaker] += 1
            middle = (frame * 320 + 200) / 16_000  # of what the frame sees
            for label, start, end in utterance.extras.get("segments", []):
                if start <= middle < end:
                    phones[code, label.rstrip("01")] += 1
                    break
            else:
                phones[code, SILENCE] += number > 0
    assert counts.phones is not None and found(counts.phones) == +phones
    both = whole(counts, "speaker")
    assert both is not None and found(both) == speakers
    assert counts.usage.total == sum(speakers.values())
    assert (counts.utterances, counts.aligned) == (6, 5) and set(counts.left_out) == {"u6", "gone"}
    stressed = count_codes(coder, corpus, ManifestTimes(), (), batch_seconds, stress=True, progress=False)
    assert stressed.phones is not None and {"AH0", "AH1"} < set(stressed.phones.names)


def test_codebooks_by_themselves(coder: Coder, corpus: list[Utterance]) -> None:
    counts = count_codes(coder, corpus, ManifestTimes(), progress=False)
    assert counts.phones is not None and counts.kind == "phones"
    for number in range(2):
        one = counts.of_codebook(number)
        expected: Counter[tuple[int, str]] = Counter()
        for (code, label), count in found(counts.phones).items():
            assert counts.entries_of(np.array([code]))[0].tolist() == list(divmod(code, coder.entries))
            expected[divmod(code, coder.entries)[number], label] += count
        assert one.phones is not None and found(one.phones) == expected and one.usage.total == counts.usage.total
    with pytest.raises(ConfigError, match="codebook 2: the model has 2"):
        counts.of_codebook(2)


def test_long_recordings_in_pieces(coder: Coder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each piece were a recording; every phone keeps its time."""
    monkeypatch.setattr("firstwords.codes.PIECE_SECONDS", 1.0)
    path = write_tone(tmp_path / "long.wav", 3.5)
    segments = [["A", 0.0, 1.0], ["B", 1.0, 2.0], ["C", 2.0, 3.0], ["D", 3.0, 3.5]]
    long = Utterance("long", path, duration=3.5, extras={"segments": segments})
    counts = count_codes(coder, [long], ManifestTimes(), (), progress=False)
    assert counts.phones is not None
    per_phone = dict(zip(counts.phones.names, counts.phones.label_counts().tolist(), strict=True))
    frames = coder.frames(16_000)
    assert per_phone["A"] == per_phone["B"] == per_phone["C"] == frames and per_phone["D"] == coder.frames(8000)
    parts = [Utterance(f"p{k}", path, start=k, duration=min(1.0, 3.5 - k)) for k in range(4)]
    assert found(counts.usage) == found(count_codes(coder, parts, None, (), progress=False).usage)


def test_units(corpus: list[Utterance]) -> None:
    """The nearest centroid to a layer's features, one codebook."""
    torch.manual_seed(1)
    encoder = Encoder(Wav2Vec2(settings(PRETRAIN).model).encoder).eval()
    units = UnitCoder(LayerFeatures(encoder, 1), torch.randn(7, encoder.dim))
    counts = count_codes(units, corpus, None, (), progress=False)
    expected: Counter[int] = Counter()
    for utterance in corpus[:6]:
        with torch.inference_mode():
            features = encoder(torch.from_numpy(utterance.read())[None], layer=1)[0]
        expected.update(torch.cdist(features, units.get_buffer("centroids")).argmin(1).tolist())
    assert {code: count for (code, _), count in found(counts.usage).items()} == expected and counts.groups == 1


def test_a_recogniser_lays_its_own_labels(corpus: list[Utterance]) -> None:
    """The intervals are those of its alignment alone, in batches and beyond its windows; no text, no times."""
    who = recognizer("base")
    times = RecognizerTimes(who)
    letters = "".join(symbol for symbol in who.alphabet.symbols if len(symbol) == 1 and symbol != "|")[:3]
    utterances = [dataclasses.replace(u, text=None if n == 2 else letters) for n, u in enumerate(corpus[:4])]
    waveforms = [torch.from_numpy(utterance.read()) for utterance in utterances]
    together = times(utterances, waveforms)
    for number, (utterance, samples, intervals) in enumerate(zip(utterances, waveforms, together, strict=True)):
        if number == 2:
            assert intervals is None
            continue
        alone = [part for word in who.align(samples, letters).words for part in word.characters]
        assert intervals == [Interval(part.text, part.start, part.end) for part in alone], utterance.id
    who.settings = dataclasses.replace(
        who.settings, windows=dataclasses.replace(who.settings.windows, seconds=1, context=0)
    )
    long = torch.cat([waveforms[0]] * 3)
    (windowed,) = times([utterances[0]], [long])
    expected = [part for word in who.align(long, letters).words for part in word.characters]
    assert windowed == [Interval(part.text, part.start, part.end) for part in expected]
    with pytest.raises(ConfigError, match="spells with characters"):
        RecognizerTimes(who, espeak="en-us")


def test_nothing_to_count(coder: Coder, corpus: list[Utterance]) -> None:
    with pytest.raises(CorpusError, match="none of 2 utterances could be coded: utterance"):
        count_codes(coder, corpus[6:], None, progress=False)
    with pytest.raises(AlignmentError, match='none of 1 utterances has "segments"'):
        count_codes(coder, corpus[:1], ManifestTimes(), progress=False)
    with pytest.raises(CorpusError, match=r"no utterance has 'dialect' in its manifest; there are: .*speaker"):
        check_field(corpus, "dialect")
    check_field(corpus, "speaker")
