"""RoBERTa over codes in fairseq's layouts, with its dictionary and the model that its codes come from beside it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import torch
from conftest import golden_folder, tone
from torch import Tensor

from firstwords.checkpoints.sources import open_checkpoint
from firstwords.cli import main
from firstwords.encoder import load_encoder
from firstwords.errors import CheckpointError
from firstwords.models.code_bert import CodeBert, CodeBertConfig, CodeBertEncoder, CodeVocabulary

CODER = golden_folder() / "vq_gumbel" / "checkpoint_legacy_args.pt"
CONFIG = CodeBertConfig(layers=2, dim=16, feed_forward_dim=24, heads=2, positions=30, dropout=0.1)
NAMES = [f"{first}-{second}" for first in range(0, 40, 4) for second in range(0, 40, 3)]
MADE_UP = 5
"""fairseq fills a dictionary up to a multiple of eight with words that do not occur."""


def network() -> CodeBert:
    torch.manual_seed(0)
    bert = CodeBert(CONFIG, len(CodeVocabulary.of_names(NAMES))).eval()
    for value in bert.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return bert


def fairseq_names(bert: CodeBert, old: bool) -> dict[str, Tensor]:
    """Our weights as a `.pt` file of 2019 (old) or of 2021 has them."""
    body = ("decoder" if old else "encoder") + ".sentence_encoder."
    head = ("decoder" if old else "encoder") + ".lm_head."

    def rows(value: Tensor) -> Tensor:
        return torch.cat([value[:-1], torch.randn(MADE_UP, *value.shape[1:]), value[-1:]])

    named = {
        body + "embed_tokens.weight": rows(bert.embedding.weight.data),
        body + "embed_positions.weight": torch.cat([torch.zeros(2, 16), bert.positions.weight.data]),
        head + "bias": rows(bert.head_bias.data),
    }
    named[head + "weight"] = named[body + "embed_tokens.weight"]
    parts = [(bert.norm, body + ("emb_layer_norm" if old else "layernorm_embedding")), (bert.head, head + "dense")]
    parts += [(bert.head_norm, head + "layer_norm")]
    for number, block in enumerate(bert.blocks):
        start = f"{body}layers.{number}."
        for ours, theirs in (
            ("attention_output", "self_attn.out_proj"), ("attention_norm", "self_attn_layer_norm"),
            ("feed_forward_in", "fc1"), ("feed_forward_out", "fc2"), ("feed_forward_norm", "final_layer_norm"),
        ):  # fmt: skip
            parts.append((getattr(block, ours), start + theirs))
        for kind in ("weight", "bias"):
            value = getattr(block.attention_inputs, kind).data  # type: ignore[union-attr]
            if old:
                named[f"{start}self_attn.in_proj_{kind}"] = value
            else:
                named |= {f"{start}self_attn.{p}_proj.{kind}": v for p, v in zip("qkv", value.chunk(3), strict=True)}
    named |= {f"{name}.{kind}": getattr(part, kind).data for part, name in parts for kind in ("weight", "bias")}
    return named


def write(folder: Path, old: bool = False, **options: object) -> Path:
    """bert.pt, dict.txt and the coder in a folder."""
    folder.mkdir(exist_ok=True)
    chosen = {"arch": "roberta_base", "_name": "roberta", "encoder_attention_heads": 2, "dropout": 0.1, **options}
    values = {"args": argparse.Namespace(**chosen)} if old else {"args": None, "cfg": {"model": chosen}}
    torch.save(values | {"model": fairseq_names(network(), old)}, folder / "bert.pt")
    lines = [f"{name} {1000 - number}" for number, name in enumerate(NAMES)]
    lines += [f"madeupword{number:04} 0" for number in range(MADE_UP)]
    (folder / "dict.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(CODER, folder / "vq.pt")
    return folder / "bert.pt"


@pytest.fixture(autouse=True)
def needs_the_case() -> None:
    if not CODER.is_file():
        pytest.skip("no golden vq-wav2vec file here")


@pytest.mark.parametrize("old", [True, False])
@torch.no_grad()
def test_features(old: bool, tmp_path: Path) -> None:
    """The network, its vocabulary and its codes together are what went in."""
    encoder = load_encoder(write(tmp_path / "files", old), device="cpu")
    inner = encoder.encoder
    assert isinstance(inner, CodeBertEncoder) and inner.bert.config == CONFIG
    assert inner.vocabulary.names() == NAMES
    wanted = CodeBertEncoder(inner.source, network(), CodeVocabulary.of_names(NAMES))
    waveform = torch.from_numpy(tone(0.5))[None]
    assert encoder.stride == 160 and encoder.layers == 2
    torch.testing.assert_close(encoder(waveform), wanted(waveform).features)
    states, frames = encoder.hidden_states(waveform)
    assert len(states) == 3 and frames.tolist() == [48]
    torch.testing.assert_close(states[1], wanted(waveform, layer=1).features)


@torch.no_grad()
def test_converted_it_needs_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "files")
    assert main(["convert", str(path), str(tmp_path / "ours")]) == 0
    assert "BERT over codes" in capsys.readouterr().out
    waveform = torch.from_numpy(tone(0.4))[None]
    ours, theirs = (load_encoder(place, device="cpu") for place in (tmp_path / "ours", path))
    assert torch.equal(ours(waveform), theirs(waveform))


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "files")
    (path.parent / "dict.txt").rename(tmp_path / "dict.txt")
    with pytest.raises(CheckpointError, match=r"no dict\.txt beside it"):
        open_checkpoint(path)
    (path.parent / "dict.txt").write_text("1-2 7\n")
    with pytest.raises(CheckpointError, match="the dictionary has 1 combinations"):
        open_checkpoint(path)
    (tmp_path / "dict.txt").rename(path.parent / "dict.txt")
    (path.parent / "vq.pt").rename(tmp_path / "vq.pt")
    with pytest.raises(CheckpointError, match="into the same folder; found there: none"):
        open_checkpoint(path)
    for name in ("one.pt", "two.pt"):
        shutil.copy(tmp_path / "vq.pt", path.parent / name)
    with pytest.raises(CheckpointError, match=r"found there: one\.pt, two\.pt"):
        open_checkpoint(path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "files", encoder_normalize_before=True)
    with pytest.raises(CheckpointError, match="encoder_normalize_before = True: only False is read"):
        open_checkpoint(path)


def test_codes_of_another_model_are_refused(tmp_path: Path) -> None:
    """A dictionary with entries that the codebooks beside it do not have."""
    path = write(tmp_path / "files")
    text = (path.parent / "dict.txt").read_text().replace("36-39", "36-319")
    (path.parent / "dict.txt").write_text(text)
    with pytest.raises(CheckpointError, match="not the one that belongs to it"):
        open_checkpoint(path)
