"""Hugging Face folders: written, read back, and loaded by transformers itself where that is installed."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import KINDS, LETTERS, encoder, encoder_config, pretrained, recogniser

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.own import Checkpoint
from firstwords.checkpoints.probe import largest_difference, probe, run_checkpoint, run_transformers
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.checkpoints.vocabulary import imported_alphabet
from firstwords.decoding.greedy import greedy
from firstwords.errors import CheckpointError
from firstwords.recognizer import Recognizer
from firstwords.text.alphabet import BLANK, Alphabet

KIND = pytest.mark.parametrize("kind", KINDS)
PRETRAINED = [kind for kind in KINDS if "hubert" not in kind and "wavlm" not in kind]
PHONES = Alphabet((BLANK, "|", "aː", "b", "tʃ"), units="phonemes")


def models(kind: str) -> list[Checkpoint]:
    made = [recogniser(KINDS[kind]), encoder(KINDS[kind])]
    return [*made, pretrained(KINDS[kind])] if kind in PRETRAINED else made


@KIND
def test_round_trip(kind: str, tmp_path: Path) -> None:
    """Every weight comes back bit by bit, and with it the outputs, the architecture and the alphabet."""
    for checkpoint in models(kind):
        folder = tmp_path / checkpoint.kind
        write_huggingface(checkpoint, folder, "test")
        again, where = open_checkpoint(folder)
        assert again.kind == checkpoint.kind and again.weights.keys() == checkpoint.weights.keys()
        assert all(torch.equal(value, again.weights[name]) for name, value in checkpoint.weights.items())
        assert again.state.get("alphabet", {}).get("symbols") == checkpoint.state.get("alphabet", {}).get("symbols")
        difference = largest_difference(
            run_checkpoint(checkpoint, "test", probe()), run_checkpoint(again, where, probe())
        )
        assert difference < (1e-2 if KINDS[kind].normalize_waveform else 1e-9)  # another epsilon of the variance


class TestByTransformers:
    @KIND
    def test_equal_and_silent(self, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """transformers loads what we write without a word, and computes the same."""
        transformers = pytest.importorskip("transformers")
        transformers.logging.enable_propagation()
        for checkpoint in models(kind):
            folder = tmp_path / checkpoint.kind
            write_huggingface(checkpoint, folder, "test")
            again, where = open_checkpoint(folder)
            with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
                warnings.simplefilter("error")
                theirs = run_transformers(folder, again, where, probe())
            assert theirs is not None
            assert largest_difference(run_checkpoint(again, where, probe()), theirs) < 2e-5
            said = [record.getMessage() for record in caplog.records if record.name.startswith("transformers")]
            assert not said

    @pytest.mark.parametrize("alphabet", [LETTERS, PHONES], ids=["letters", "phonemes"])
    def test_processor(self, alphabet: Alphabet, tmp_path: Path) -> None:
        """Its feature extractor normalises as ours, its tokenizer reads the same text from the same outputs."""
        transformers = pytest.importorskip("transformers")
        if alphabet.units == "phonemes":
            pytest.importorskip("phonemizer")
        write_huggingface(recogniser(KINDS["vox"], alphabet), tmp_path / "model", "test")
        processor = transformers.AutoProcessor.from_pretrained(tmp_path / "model")
        recognizer = Recognizer.load(tmp_path / "model", "cpu")
        sounds = probe()
        given = processor([sound.numpy() for sound in sounds], sampling_rate=16_000, return_tensors="pt", padding=True)
        logits, frames = recognizer.emissions(sounds)
        model = transformers.AutoModelForCTC.from_pretrained(tmp_path / "model").eval()
        with torch.inference_mode():
            theirs = model(**given).logits
        for row, count in enumerate(frames.tolist()):
            assert (theirs[row, :count] - logits[row, :count]).abs().max() < 1e-4 * logits.abs().max()
            ours = recognizer.alphabet.decode(greedy(logits[row : row + 1], frames[row : row + 1])[0])
            assert processor.decode(theirs[row, :count].argmax(-1)) == ours
        assert processor.tokenizer("ab cd").input_ids == alphabet.encode("ab cd")[:5] or alphabet is PHONES

    @pytest.mark.parametrize("name", ["Wav2Vec2ForCTC", "HubertForCTC", "WavLMForCTC", "Wav2Vec2ForPreTraining"])
    def test_reading_what_it_writes(self, name: str, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(1)
        kind = getattr(transformers, name.split("For")[0] + "Config")
        config = kind(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=[8] * 7,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, vocab_size=9, codevector_dim=8,
            proj_codevector_dim=8, num_codevectors_per_group=5,
        )  # fmt: skip
        getattr(transformers, name)(config).eval().save_pretrained(tmp_path)
        checkpoint, where = open_checkpoint(tmp_path)
        theirs = run_transformers(tmp_path, checkpoint, where, probe())
        assert theirs is not None and largest_difference(run_checkpoint(checkpoint, where, probe()), theirs) < 2e-5

    @pytest.mark.parametrize(
        ("name", "head"),
        [
            ("Wav2Vec2ForSequenceClassification", "sequence-classification"),
            ("Wav2Vec2ForAudioFrameClassification", "audio-frame-classification"),
            ("WavLMForXVector", "x-vector"),
        ],
    )
    def test_other_heads_are_kept(self, name: str, head: str, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers")
        kind = getattr(transformers, name.split("For")[0] + "Config")
        config = kind(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=[8] * 7,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, num_labels=3, tdnn_dim=[8] * 5,
            xvector_output_dim=8, classifier_proj_size=6, use_weighted_layer_sum=True,
        )  # fmt: skip
        model = getattr(transformers, name)(config)
        model.save_pretrained(tmp_path)
        checkpoint, _ = open_checkpoint(tmp_path)
        assert checkpoint.kind == "encoder" and checkpoint.state["head"]["kind"] == head
        kept = {name.removeprefix("head.") for name in checkpoint.weights if name.startswith("head.")}
        assert kept == {name for name in model.state_dict() if not name.startswith(("wav2vec2.", "wavlm."))}
        assert checkpoint.state["head"]["config"]["use_weighted_layer_sum"] is True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_huggingface(recogniser(KINDS["vox"]), tmp_path / "model", "test")
    return tmp_path / "model"


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


class TestVocabulary:
    def test_blank_elsewhere(self, folder: Path) -> None:
        """Many fine-tunings have the padding symbol last; the outputs move so that the blank comes first."""
        before = Recognizer.load(folder, "cpu")
        weights = load_file(folder / "model.safetensors")
        for kind in ("weight", "bias"):
            weights[f"lm_head.{kind}"] = weights[f"lm_head.{kind}"].roll(-1, 0)
        save_file(weights, folder / "model.safetensors")
        symbols = [*LETTERS.symbols[1:], "[PAD]"]
        (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(symbols)}))
        edit(folder / "tokenizer_config.json", pad_token="[PAD]")
        edit(folder / "special_tokens_map.json", pad_token="[PAD]")
        after = Recognizer.load(folder, "cpu")
        assert after.alphabet.symbols == before.alphabet.symbols
        assert torch.equal(after.emissions(probe())[0], before.emissions(probe())[0])

    def test_no_boundary(self) -> None:
        """Alphabets have a word boundary; where the model has none, one is added that never wins."""
        alphabet, order = imported_alphabet(["<pad>", "a", "b"], 0, None, "characters", False)
        assert alphabet.symbols == (BLANK, "a", "b", "|") and order == [0, 1, 2, None]

    def test_unnamed_outputs(self) -> None:
        alphabet, _ = imported_alphabet(["<pad>", "|", None, "a", "madeupword0000"], 0, "|", "characters", False)
        assert alphabet.decode([3, 2, 1, 4, 3]) == "a a"

    def test_case(self) -> None:
        for symbols, case in (("AB|", "upper"), ("ab|", "lower"), ("aB|", "keep")):
            alphabet, _ = imported_alphabet(["<pad>", *symbols], 0, "|", "characters", False)
            assert alphabet.normalization.case == case

    def test_lower_case_tokenizer(self, folder: Path) -> None:
        """do_lower_case: labels in capitals, text in small letters."""
        capitals = {
            name.upper() if len(name) == 1 else name: i for i, name in enumerate(["<pad>", *LETTERS.symbols[1:]])
        }
        (folder / "vocab.json").write_text(json.dumps(capitals))
        edit(folder / "tokenizer_config.json", do_lower_case=True)
        assert Recognizer.load(folder, "cpu").alphabet.symbols == LETTERS.symbols

    def test_none_at_all(self, folder: Path) -> None:
        (folder / "vocab.json").unlink()
        checkpoint, _ = open_checkpoint(folder)
        assert "no vocab.json" in checkpoint.state["notes"][0]
        with pytest.raises(CheckpointError, match=r"no alphabet; put the vocab\.json"):
            Recognizer.load(folder)


class TestRefusals:
    """Each fault is named, with the file that has it."""

    def test_cut_short(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read .* cut short"):
            open_checkpoint(folder)
        with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read .* cut short"):
            open_checkpoint(path)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, "type 'whisper'"),
            ({"model_type": "data2vec-audio"}, "type 'data2vec-audio'"),
            ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
            ({"layer_norm_eps": 1e-12}, "layer_norm_eps = 1e-12"),
            ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
            ({"conv_bias": False}, r"contradict each other: .*conv\.bias is no part of it"),
            ({"num_hidden_layers": 3}, "contradict each other: encoder.layers.2"),
            ({"num_hidden_layers": 1}, "contradict each other: encoder.layers.1.* is no part of it"),
            ({"feat_extract_norm": "group"}, "contradict each other"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value.values())),
    )
    def test_configuration(self, changes: dict[str, Any], words: str, folder: Path) -> None:
        edit(folder / "config.json", **changes)
        with pytest.raises(CheckpointError, match=words):
            open_checkpoint(folder)

    def test_other_width(self, folder: Path) -> None:
        edit(folder / "config.json", hidden_size=32)
        with pytest.raises(CheckpointError, match=r"another shape of model: .*\(16,\), the model has \(32,\)"):
            Recognizer.load(folder)

    def test_sample_rate(self, folder: Path) -> None:
        edit(folder / "preprocessor_config.json", sampling_rate=44_100)
        with pytest.raises(CheckpointError, match=r"44100 Hz; Firstwords works at 16000 Hz"):
            open_checkpoint(folder)

    def test_other_head(self, folder: Path) -> None:
        (folder / "vocab.json").write_text(
            json.dumps({"<pad>": 0, "|": 1} | {c: 2 + i for i, c in enumerate("abcdefghij")})
        )
        with pytest.raises(CheckpointError, match=r"names 12 symbols \('h', .*\), but the output layer has 9"):
            open_checkpoint(folder)

    def test_broken_json(self, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON"):
            open_checkpoint(folder)

    def test_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"without weights \(model\.safetensors or pytorch_model\.bin\)"):
            open_checkpoint(folder)

    def test_weights_alone(self, folder: Path, tmp_path: Path) -> None:
        shutil.copy(folder / "model.safetensors", tmp_path)
        with pytest.raises(CheckpointError, match=r"no config\.json beside it"):
            open_checkpoint(tmp_path / "model.safetensors")

    def test_no_such_language(self, folder: Path) -> None:
        with pytest.raises(CheckpointError, match=r"no adapter for 'swa' .* it has no adapters at all"):
            open_checkpoint(folder, adapter="swa")

    @pytest.mark.parametrize("changes", [{"frontend": "log_mel"}, {"depth": 2}])
    def test_not_for_transformers(self, changes: dict[str, Any], tmp_path: Path) -> None:
        checkpoint = pretrained(encoder_config())
        if "depth" in changes:
            checkpoint.config["quantizer"] |= changes
        else:
            checkpoint.config["encoder"] |= changes
        with pytest.raises(CheckpointError, match="transformers has no model with"):
            write_huggingface(checkpoint, tmp_path / "model", "test")
