"""Long recordings: the same emissions piece by piece as at once, in memory that does not grow."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone
from torch import Tensor

from firstwords.audio import read_audio, read_blocks
from firstwords.decoding.greedy import GreedyDecoder
from firstwords.models.heads import CTCConfig, CTCModel
from firstwords.models.wav2vec2 import EncoderConfig
from firstwords.nn.feature_encoder import FeatureEncoderConfig
from firstwords.nn.transformer import TransformerConfig
from firstwords.pieces import cut_pieces
from firstwords.recognizer import Recognizer, Settings
from firstwords.recording import Recording
from firstwords.text.alphabet import Alphabet
from firstwords.windows import WindowConfig, gather_statistics, latents, windows

ALPHABET = Alphabet(("<blank>", "|", *"abcdefgh"))
FAMILIES = ["base", "vox", "tiny", "log-mel", "log-mel raw"]


def recognizer(family: str, layers: int = 2, window: WindowConfig | None = None, heads: int = 2) -> Recognizer:
    """A small random network of each family: group norm over time, layer norm, normalised waveforms or not."""
    torch.manual_seed(0)
    encoder = EncoderConfig(
        frontend="log_mel" if family.startswith("log-mel") else "waveform",
        feature_encoder=FeatureEncoderConfig((6, 6, 8, 8, 8, 8, 8), norm="layer" if family == "vox" else "group"),
        transformer=TransformerConfig(layers, 16, 32, heads, norm_first=True, position_kernel=16, position_groups=2),
        normalize_waveform=family in ("vox", "tiny", "log-mel"),
    )
    model = CTCModel(CTCConfig(encoder, labels=len(ALPHABET)))
    torch.nn.init.normal_(model.output.weight, std=2.0)
    model.output.bias.data[0] = 2.0  # blanks between labels
    return Recognizer(model, ALPHABET, settings=Settings(window or WindowConfig(math.inf), pauses="blanks"))


def streamed(who: Recognizer, samples: np.ndarray | Path) -> Tensor:
    return torch.cat(list(who.log_probabilities(Recording.open(samples))))


def at_once(who: Recognizer, samples: np.ndarray) -> Tensor:
    logits, _ = who.emissions([torch.from_numpy(samples)])
    return logits[0].log_softmax(-1)


def text(rows: Tensor) -> str:
    return ALPHABET.decode(GreedyDecoder()([rows])[0][0].labels)


def changing(seconds: float) -> np.ndarray:
    """Sounds of changing loudness: statistics of a part are not those of the whole."""
    parts = [tone(3.0, seed) * (0.2 + seed % 4) for seed in range(math.ceil(seconds / 3))]
    return np.concatenate(parts)[: round(seconds * 16_000)] + 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_the_front_end_is_exact(family: str) -> None:
    """Read in blocks of any size, the Transformer gets the very inputs of the whole recording."""
    who = recognizer(family)
    samples = torch.from_numpy(changing(31.7))
    sizes = np.random.default_rng(0).integers(1, 60_000, 40)

    def blocks() -> Iterator[Tensor]:
        place = 0
        for size in sizes:
            yield samples[place : place + size]
            place += size
        yield samples[place:]

    encoder = who.model.encoder
    statistics = gather_statistics(encoder, blocks)
    ours = torch.cat(list(latents(encoder, blocks(), statistics, who.device)))
    with torch.no_grad():
        wave = (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-5).sqrt()
        wave = wave if encoder.config.normalize_waveform else samples
        lengths = torch.tensor([len(wave)])
        theirs = encoder.projection(encoder.latent_norm(encoder.feature_encoder(wave[None], lengths)))[0]
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_heard_as_a_whole(family: str) -> None:
    """With infinite windows the emissions are those of the whole recording at once, attention included."""
    who, samples = recognizer(family), changing(47.3)
    torch.testing.assert_close(streamed(who, samples), at_once(who, samples), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seconds", [7.0, 14.01, 26.0, 31.77, 60.0])
@pytest.mark.parametrize("family", ["base", "log-mel"])
def test_windows_are_stitched_exactly(family: str, seconds: float) -> None:
    """A network that looks no further than the context gives the same emissions in windows, whatever the length."""
    who, samples = recognizer(family, layers=0, window=WindowConfig(5.0, 1.0)), changing(seconds)
    torch.testing.assert_close(streamed(who, samples), at_once(who, samples), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [1, 9, 10, 11, 13, 14, 15, 40, 41, 97])
@pytest.mark.parametrize("core, context", [(5, 0), (6, 2), (3, 5), (math.inf, 2)])
def test_window_cores_follow_one_another(count: int, core: float, context: int) -> None:
    """Every frame is given once, in order, with context on both sides except at the recording's ends."""
    frames = torch.arange(count)[:, None].float()
    pieces = frames.split([1] + [4] * ((count - 1) // 4) + [(count - 1) % 4] if count > 1 else [1])
    given: list[float] = []
    for window in windows(pieces, core, context):
        inputs = window.inputs[:, 0].tolist()
        given += inputs[window.first : window.last]
        assert len(inputs) <= core + 2 * context and inputs == sorted(inputs)
        assert window.first >= context or inputs[0] == 0
        assert len(inputs) - window.last >= context or inputs[-1] == count - 1
    assert given == frames[:, 0].tolist()


@pytest.mark.parametrize("longest, shortest", [(30, 5), (7, 2), (3, 1)])
def test_pieces_read_greedily_are_the_whole(longest: int, shortest: int) -> None:
    """Cuts never divide a label, even where nothing is blank; pieces keep their bounds where blanks let them."""
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(400, 10, generator=generator) * 2
        rows[:, 0] += 4 * (torch.arange(400) % 50 > 20) - 4 * (seed == 5)
        rows = rows.repeat_interleave(2, 0).log_softmax(-1)  # runs of a label
        pieces = list(cut_pieces(rows.split(37), longest, shortest))
        assert torch.equal(torch.cat([piece.log_probabilities for piece in pieces]), rows)
        assert [piece.first for piece in pieces] == np.cumsum(
            [0] + [len(piece.log_probabilities) for piece in pieces[:-1]]
        ).tolist()
        assert max(len(piece.log_probabilities) for piece in pieces) <= longest
        read = GreedyDecoder()([piece.log_probabilities for piece in pieces])
        if longest > 3:
            assert [label for hypotheses in read for label in hypotheses[0].labels] == list(
                GreedyDecoder()([rows])[0][0].labels
            )


def test_blocks_of_a_file_are_the_file(tmp_path: Path) -> None:
    """Resampling runs on from block to block: 44.1 kHz in six channels, read in pieces, is what `read_audio` gives."""
    import soundfile

    path = tmp_path / "six.wav"
    samples = np.stack([tone(7.3, seed, 44_100) for seed in range(6)], 1)
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    whole = read_audio(path)
    for seconds in (0.37, 1.0, 20.0):
        np.testing.assert_allclose(np.concatenate(list(read_blocks(path, block_seconds=seconds))), whole, atol=1e-6)
    part = np.concatenate(list(read_blocks(path, 1.5, 2.25, block_seconds=0.5)))
    np.testing.assert_allclose(part, read_audio(path, 1.5, 2.25), atol=1e-6)


def ten_minutes(speech: Path) -> np.ndarray:
    """Real utterances joined."""
    corpus = speech / "librispeech_sample"
    parts: list[np.ndarray] = []
    for line in (corpus / "manifest.jsonl").read_text().splitlines():
        parts.append(read_audio(corpus / json.loads(line)["audio"]))
        if sum(map(len, parts)) >= 600 * 16_000:
            return np.concatenate(parts)[: 600 * 16_000]
    pytest.skip("less than ten minutes of speech")


def test_ten_minutes_of_real_speech(speech: Path) -> None:
    """The text of a long recording is that of the whole at once: as a whole, and in windows where these suffice."""
    samples = ten_minutes(speech)
    whole = recognizer("tiny", layers=1, heads=1)
    whole.settings = dataclasses.replace(whole.settings, times="peaks")
    expected = text(at_once(whole, samples))
    assert len(expected) > 1000
    assert whole.transcribe(samples).text == expected
    near = recognizer("tiny", layers=0, window=WindowConfig(20.0, 1.0))
    expected = text(at_once(near, samples))
    assert len(expected) > 1000
    assert near.transcribe(samples).text == expected
