"""BERT over codes: tokens and back, features alone and in a batch, and the network as torch's own layers have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tone
from test_vq_wav2vec import model as vq_model
from torch import nn

from firstwords.errors import CheckpointError, ConfigError
from firstwords.models.code_bert import (
    END,
    PAD,
    START,
    UNKNOWN,
    CodeBert,
    CodeBertConfig,
    CodeBertEncoder,
    CodeVocabulary,
    windows,
)

TINY = CodeBertConfig(layers=2, dim=16, feed_forward_dim=32, heads=2, positions=20)


class TestVocabulary:
    def test_most_frequent_first(self) -> None:
        codes = np.array([[3, 1], [0, 2], [3, 1], [3, 2], [3, 1], [0, 2]])
        vocabulary = CodeVocabulary.learn([codes[:4], codes[4:]])
        assert vocabulary.names() == ["3-1", "0-2", "3-2"] and len(vocabulary) == 8 and vocabulary.mask == 7
        assert vocabulary.encode(torch.from_numpy(codes)).tolist() == [4, 5, 4, 6, 4, 5]
        rare = CodeVocabulary.learn([codes], min_count=2)
        assert rare.encode(torch.from_numpy(codes)).tolist() == [4, 5, 4, UNKNOWN, 4, 5]

    @pytest.mark.parametrize("groups", [1, 2, 16])
    def test_every_combination_has_its_token(self, groups: int) -> None:
        """With sixteen codebooks of 320 entries there are more combinations than 64 bits can number."""
        random = np.random.default_rng(0)
        known = np.unique(random.integers(0, 320, (500, groups)), axis=0)
        known = known[random.permutation(len(known))]
        vocabulary = CodeVocabulary(known)
        tokens = vocabulary.encode(torch.from_numpy(known).view(-1, 1, groups))
        assert tokens[:, 0].tolist() == list(range(4, 4 + len(known)))
        foreign = known.copy()
        foreign[:, -1] = 320 + foreign[:, -1]
        assert (vocabulary.encode(torch.from_numpy(foreign)) == UNKNOWN).all()
        again = CodeVocabulary.of_names(vocabulary.names())
        assert np.array_equal(again.combinations, known)

    def test_not_seen(self) -> None:
        vocabulary = CodeVocabulary.of_names(["1-2", "4-0"])
        assert vocabulary.encode(torch.tensor([[4, 2], [1, 0], [0, 0], [4, 0]])).tolist() == [3, 3, 3, 5]

    @pytest.mark.parametrize("names", [["1-2", "1-2"], ["a-b"], ["1-2", "3"], []])
    def test_names_that_are_none(self, names: list[str]) -> None:
        with pytest.raises(CheckpointError, match="vocabulary"):
            CodeVocabulary.of_names(names)


def network() -> CodeBert:
    torch.manual_seed(0)
    bert = CodeBert(TINY, 30).eval()
    for value in bert.parameters():
        nn.init.normal_(value, std=0.3)
    return bert


@torch.no_grad()
def test_equals_torchs_layers() -> None:
    bert = network()
    tokens = torch.randint(4, 29, (2, 20))
    x = bert.norm(bert.embedding(tokens) + bert.positions(torch.arange(20)))
    for block in bert.blocks:
        stock = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=False).eval()
        stock.load_state_dict(
            {
                "self_attn.in_proj_weight": block.attention_inputs.weight,  # type: ignore[union-attr]
                "self_attn.in_proj_bias": block.attention_inputs.bias,  # type: ignore[union-attr]
                "self_attn.out_proj.weight": block.attention_output.weight,  # type: ignore[union-attr]
                "self_attn.out_proj.bias": block.attention_output.bias,  # type: ignore[union-attr]
                "linear1.weight": block.feed_forward_in.weight,  # type: ignore[union-attr]
                "linear1.bias": block.feed_forward_in.bias,  # type: ignore[union-attr]
                "linear2.weight": block.feed_forward_out.weight,  # type: ignore[union-attr]
                "linear2.bias": block.feed_forward_out.bias,  # type: ignore[union-attr]
                "norm1.weight": block.attention_norm.weight,  # type: ignore[union-attr]
                "norm1.bias": block.attention_norm.bias,  # type: ignore[union-attr]
                "norm2.weight": block.feed_forward_norm.weight,  # type: ignore[union-attr]
                "norm2.bias": block.feed_forward_norm.bias,  # type: ignore[union-attr]
            }
        )
        x = stock(x)
    torch.testing.assert_close(bert.features(tokens, torch.tensor([20, 20])), x, atol=1e-4, rtol=1e-4)
    inner = nn.functional.layer_norm(
        nn.functional.gelu(bert.head(x)), (16,), bert.head_norm.weight, bert.head_norm.bias
    )
    logits = inner @ bert.embedding.weight.T + bert.head_bias
    scored = torch.tensor([3, 25])
    found = bert(tokens, torch.tensor([20, 20]), scored)
    torch.testing.assert_close(found, logits.flatten(0, 1)[scored], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    bert = network()
    tokens, lengths = torch.randint(4, 29, (3, 20)), torch.tensor([20, 5, 11])
    together = bert.features(tokens, lengths)
    for row, count in enumerate(lengths.tolist()):
        alone = bert.features(tokens[row : row + 1, :count], torch.tensor([count]))
        torch.testing.assert_close(together[row, :count], alone[0], atol=1e-5, rtol=1e-4)


def encoder() -> CodeBertEncoder:
    source = vq_model("gumbel").eval()
    waveforms = torch.stack([torch.from_numpy(tone(1.0, seed)) for seed in range(4)])
    vocabulary = CodeVocabulary.learn([source.codes(waveforms).flatten(0, 1).numpy()])
    torch.manual_seed(1)
    bert = CodeBert(TINY, len(vocabulary))
    for value in bert.parameters():
        nn.init.normal_(value, std=0.3)
    return CodeBertEncoder(source, bert, vocabulary).eval()


@pytest.mark.parametrize("layer", [None, 0, 1])
@torch.no_grad()
def test_waveforms_alone_and_in_a_batch(layer: int | None) -> None:
    """Longer than the positions, shorter, and of one frame; the reading in windows is the same for each."""
    model = encoder()
    lengths = torch.tensor([16_000, 3_000, 465])
    padded = torch.randn(3, 16_000)
    for row, (seed, count) in enumerate(zip(range(3), lengths.tolist(), strict=True)):
        padded[row, :count] = torch.from_numpy(tone(count / 16_000, seed))
    states: list[torch.Tensor] = []
    together = model(padded, lengths, layer, states)
    assert together.features.shape == (3, 98, 16) and together.lengths.tolist() == [98, 16, 1]
    assert len(states) == (3 if layer is None else layer + 1) and torch.equal(states[-1], together.features)
    for row, count in enumerate(lengths.tolist()):
        alone = model(padded[row : row + 1, :count], layer=layer).features[0]
        assert len(alone) == together.lengths[row]
        torch.testing.assert_close(together.features[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)
        assert not together.features[row, len(alone) :].any()


@torch.no_grad()
def test_windows_are_read_as_in_training() -> None:
    """A start, the codes, an end."""
    model = encoder()
    waveform = torch.from_numpy(tone(0.15, 2))[None]
    tokens = model.vocabulary.encode(model.source.codes(waveform))[0]
    assert len(tokens) < 18
    read = torch.cat([torch.tensor([START]), tokens, torch.tensor([END])])[None]
    wanted = model.bert.features(read, torch.tensor([read.shape[1]]))[0, 1:-1]
    torch.testing.assert_close(model(waveform).features[0], wanted)
    assert PAD not in tokens


def test_windows() -> None:
    assert windows(0, 5) == []
    assert windows(5, 5) == [(0, 5)]
    assert windows(11, 5) == [(0, 3), (3, 7), (7, 11)]


def test_only_bert_learns() -> None:
    model = encoder().train()
    model(torch.from_numpy(tone(0.3, 0))[None]).features.sum().backward()
    assert all(value.grad is None for value in model.source.parameters())
    assert model.bert.embedding.weight.grad is not None


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"positions": 2}, {"dropout": 2.0}, {"layers": -1}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="model"):
        CodeBert(CodeBertConfig(**{"dim": 16, **wrong}), 10)  # type: ignore[arg-type]
