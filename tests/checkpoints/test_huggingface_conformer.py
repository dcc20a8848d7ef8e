"""Hugging Face's Wav2Vec2-Conformer: every layer as transformers has it, what it holds unused, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import KINDS, encoder_config, recogniser

from firstwords.checkpoints.huggingface_export import write_huggingface
from firstwords.checkpoints.models import ctc_of, encoder_of
from firstwords.checkpoints.probe import largest_difference, probe, run_checkpoint, run_transformers
from firstwords.checkpoints.sources import open_checkpoint
from firstwords.errors import CheckpointError
from firstwords.nn.conformer import ConformerConfig
from firstwords.recognizer import Recognizer

POSITIONS = pytest.mark.parametrize("positions", ["relative", "rotary", None])


def theirs(folder: Path, name: str, positions: str | None, **changes: Any) -> Any:
    """A model of transformers, written into `folder`; norms, statistics and biases as after training."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.Wav2Vec2ConformerConfig(
        **{
            "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
            "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "vocab_size": 9,
            "codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 5, "conv_bias": True,
            "feat_extract_norm": "layer", "hidden_act": "swish", "conv_depthwise_kernel_size": 7,
            "position_embeddings_type": positions,
        } | changes
    )  # fmt: skip
    model = getattr(transformers, name)(config).eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point() and "inv_freq" not in key:
            value += 0.2 * torch.rand_like(value)
    model.save_pretrained(folder)
    return model


@POSITIONS
@pytest.mark.parametrize("name", ["ForCTC", "ForPreTraining", "Model"])
@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu", "feat_extract_norm": "group", "conv_bias": False}])
def test_reading_what_it_writes(positions: str | None, name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs(tmp_path, f"Wav2Vec2Conformer{name}", positions, **changes)
    checkpoint, where = open_checkpoint(tmp_path)
    assert checkpoint.kind == {"ForCTC": "ctc", "ForPreTraining": "wav2vec2", "Model": "encoder"}[name]
    expected = run_transformers(tmp_path, checkpoint, where, probe())
    assert expected is not None
    assert largest_difference(run_checkpoint(checkpoint, where, probe()), expected) < 2e-5


@POSITIONS
@torch.inference_mode()
def test_every_layer(positions: str | None, tmp_path: Path) -> None:
    model = theirs(tmp_path, "Wav2Vec2ConformerModel", positions)
    ours = encoder_of(*open_checkpoint(tmp_path)).eval()
    waveform = probe()[0][None]
    expected = model(waveform, output_hidden_states=True)
    states: list[torch.Tensor] = []
    features = ours(waveform, states=states).features
    assert len(states) == len(expected.hidden_states) == 4
    for state, layer in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert (state - layer).abs().max() < 2e-5 * layer.abs().max()
    assert (features - expected.last_hidden_state).abs().max() < 2e-5 * features.abs().max()
    last = expected.hidden_states[-1]  # before or after the final norm: versions of transformers differ
    assert min(float((last - one).abs().max()) for one in (features, states[-1])) < 2e-5 * last.abs().max()


@POSITIONS
@torch.inference_mode()
def test_padding(positions: str | None, tmp_path: Path) -> None:
    """In a batch, ours gives each utterance what transformers gives it alone; transformers only the longest."""
    model = theirs(tmp_path, "Wav2Vec2ConformerForCTC", positions)
    ours = ctc_of(*open_checkpoint(tmp_path)).eval()
    sounds = probe()
    padded = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    lengths = torch.tensor([len(sound) for sound in sounds])
    logits, frames = ours(padded, lengths)
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    together = model(padded, attention_mask=mask).logits
    for row, (sound, count) in enumerate(zip(sounds, frames.tolist(), strict=True)):
        alone = model(sound[None]).logits[0]
        assert (logits[row, :count] - alone).abs().max() < 2e-5 * alone.abs().max()
        if count == together.shape[1]:
            assert (logits[row] - together[row]).abs().max() < 2e-5 * alone.abs().max()


@POSITIONS
def test_there_and_back(positions: str | None, tmp_path: Path) -> None:
    """Every weight that is used, bit by bit, under the same name; those that are not are there, too."""
    model = theirs(tmp_path / "theirs", "Wav2Vec2ConformerForCTC", positions)
    write_huggingface(open_checkpoint(tmp_path / "theirs")[0], tmp_path / "again", "test")
    before, after = (load_file(tmp_path / place / "model.safetensors") for place in ("theirs", "again"))
    assert {name: value.shape for name, value in before.items()} == {name: v.shape for name, v in after.items()}
    different = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert all(".pos_conv_embed." in name for name in different)
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    for key in ("hidden_act", "position_embeddings_type", "conv_depthwise_kernel_size", "rotary_embedding_base"):
        assert written[key] == getattr(model.config, key)


def test_dropouts_that_are_not_kept(tmp_path: Path) -> None:
    """One dropout ends each part of a block; where the configuration has several, the user hears of it."""
    write_huggingface(recogniser(KINDS["conformer"]), tmp_path, "test")
    assert not open_checkpoint(tmp_path)[0].state["notes"]
    edit(tmp_path, conformer_conv_dropout=0.3)
    assert "not conformer_conv_dropout 0.3" in open_checkpoint(tmp_path)[0].state["notes"][0]


def test_windows_of_a_long_recording(tmp_path: Path) -> None:
    """Transcribed as any other: all at once, or in a padded batch of two."""
    write_huggingface(recogniser(KINDS["rotary conformer"]), tmp_path, "test")
    recognizer = Recognizer.load(tmp_path, "cpu")
    sounds = probe()
    together, frames = recognizer.emissions(sounds)
    for row, sound in enumerate(sounds):
        alone = recognizer.emissions([sound])[0][0]
        assert torch.allclose(together[row, : int(frames[row])], alone, atol=1e-4)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position_embeddings_type": "relative_key"}, "position_embeddings_type = 'relative_key'"),
        ({"position_embeddings_type": "rotary"}, r"contradict each other: .*linear_pos.*is no part of it"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'; of a Conformer only 'swish', 'silu', 'gelu'"),
        ({"add_adapter": True}, "add_adapter"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ({"num_hidden_layers": 3}, "contradict each other: encoder.layers.2"),
        ({"num_hidden_layers": 1}, "contradict each other: encoder.layers.1.* is no part of it"),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_huggingface(recogniser(KINDS["conformer"]), tmp_path, "test")
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path)


def test_other_rates_are_refused(tmp_path: Path) -> None:
    """The base of rotary positions stands twice: in config.json, and as rates in the weights."""
    write_huggingface(recogniser(KINDS["rotary conformer"]), tmp_path, "test")
    edit(tmp_path, rotary_embedding_base=10000)
    with pytest.raises(CheckpointError, match=r"inv_freq is not that of rotary_embedding_base 10000"):
        open_checkpoint(tmp_path)


def test_other_kernel_is_refused(tmp_path: Path) -> None:
    write_huggingface(recogniser(KINDS["conformer"]), tmp_path, "test")
    edit(tmp_path, conv_depthwise_kernel_size=9)
    with pytest.raises(CheckpointError, match=r"depthwise.weight is \(16, 1, 7\), the model has \(16, 1, 9\)"):
        Recognizer.load(tmp_path, "cpu")


def test_rates_of_half_precision(tmp_path: Path) -> None:
    """Files of halves round the rates."""
    write_huggingface(recogniser(KINDS["rotary conformer"]), tmp_path, "test")
    weights = load_file(tmp_path / "model.safetensors")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halves, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path)[0].kind == "ctc"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (encoder_config(vox=True, adapter=4, conformer=ConformerConfig()), "adapters in a Conformer"),
        (encoder_config(latent_norm=False, conformer=ConformerConfig()), "latents without a norm"),
        (
            replace(KINDS["conformer"], transformer=replace(KINDS["conformer"].transformer, position_groups=3)),
            "position_groups that do not divide",
        ),
    ],
    ids=["adapters", "latents", "groups"],
)
def test_not_for_transformers(config: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        write_huggingface(recogniser(config), tmp_path, "test")
