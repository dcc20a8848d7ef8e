"""Conformer blocks: positions by their definitions, padding that changes nothing, norms that learn or stay."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from firstwords.errors import ConfigError
from firstwords.nn.batch_norm import BatchNorm
from firstwords.nn.conformer import ConformerBlock, ConformerConfig
from firstwords.nn.transformer import Transformer, TransformerConfig, compile_blocks

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
POSITIONS = pytest.mark.parametrize("positions", ["relative", "rotary", "none"])


def config(positions: str = "relative", **changes: Any) -> TransformerConfig:
    conformer = ConformerConfig(positions, kernel=5)  # type: ignore[arg-type]
    numbers: dict[str, Any] = {"layers": 2, "dim": 16, "feed_forward_dim": 24, "heads": 2} | STILL | changes
    return TransformerConfig(block="conformer", conformer=conformer, **numbers)


def shaken(model: torch.nn.Module) -> Any:
    for value in model.state_dict().values():
        value += 0.2 * torch.rand_like(value)
    return model


@torch.no_grad()
def test_relative_positions_by_definition() -> None:
    """(q + u) k + (q + v) W s(i - j), frame by frame."""
    torch.manual_seed(0)
    settings = config()
    block = shaken(ConformerBlock(settings)).attention.eval()
    x = torch.randn(1, 7, 16)
    found = block(x, None, settings.conformer.table(x, 2))
    query, key, value = block.attention_inputs(block.norm(x))[0].view(7, 3, 2, 8).unbind(1)
    mixed = torch.zeros(7, 2, 8)
    for head in range(2):
        scores = torch.zeros(7, 7)
        for i in range(7):
            for j in range(7):
                angles = [(i - j) / 10000 ** (channel / 16) for channel in range(0, 16, 2)]
                waves = torch.tensor([wave for angle in angles for wave in (math.sin(angle), math.cos(angle))])
                distance = (block.distances.weight @ waves).view(2, 8)[head]
                scores[i, j] = (query[i, head] + block.content_bias[head]) @ key[j, head]
                scores[i, j] += (query[i, head] + block.distance_bias[head]) @ distance
        mixed[:, head] = (scores / math.sqrt(8)).softmax(-1) @ value[:, head]
    torch.testing.assert_close(found[0], block.attention_output(mixed.flatten(1)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rotary_positions_by_definition() -> None:
    """Pairs of channels as complex numbers, times exp(i t rate), before queries and keys are made."""
    torch.manual_seed(0)
    settings = config("rotary")
    block = shaken(ConformerBlock(settings)).attention.eval()
    x = torch.randn(1, 7, 16)
    found = block(x, None, settings.conformer.table(x, 2))
    normed = block.norm(x)[0]
    pairs = torch.complex(*normed.view(7, 2, 2, 4).unbind(2))
    rates = torch.tensor([10000 ** (-channel / 4) for channel in range(4)])
    turned = pairs * torch.exp(1j * torch.arange(7)[:, None, None] * rates)
    turned = torch.stack([turned.real, turned.imag], 2).flatten(1)
    query, key = block.attention_inputs(turned)[:, :32].view(7, 2, 2, 8).permute(1, 2, 0, 3)
    value = block.attention_inputs(normed)[:, 32:].view(7, 2, 8).transpose(0, 1)
    mixed = ((query @ key.transpose(1, 2)) / math.sqrt(8)).softmax(-1) @ value
    expected = block.attention_output(mixed.transpose(0, 1).flatten(1))
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


@POSITIONS
@pytest.mark.parametrize("changes", [{}, {"adapter_dim": 4}, {"low_rank": 2}], ids=str)
@torch.no_grad()
def test_alone_as_in_a_batch(positions: str, changes: dict[str, int]) -> None:
    """Of every length, one frame included; whatever stands in the padding."""
    torch.manual_seed(0)
    model = shaken(Transformer(config(positions, **changes))).eval()
    lengths = torch.tensor([9, 1, 4])
    x = torch.randn(3, 9, 16)
    together = model(x, lengths)
    for row, one, length in zip(together, x, lengths.tolist(), strict=True):
        alone = model(one[None, :length], torch.tensor([length]))[0]
        torch.testing.assert_close(row[:length], alone, rtol=1e-4, atol=1e-5)


@POSITIONS
def test_low_rank_changes_are_changes_of_weights(positions: str) -> None:
    """Of the query and value projections; where positions turn, of what each of them sees."""
    from firstwords.nn.adapters import low_rank_change

    torch.manual_seed(0)
    block = shaken(ConformerBlock(config(positions, low_rank=2))).eval()
    x = torch.randn(2, 6, 16)
    table = block.config.conformer.table(x, 2)
    found = block(x, None, table)
    merged = copy.deepcopy(block)
    low_rank = merged.attention.low_rank
    merged.attention.attention_inputs.weight.data += low_rank_change(low_rank.down.data, low_rank.up.data)
    merged.attention.low_rank = None
    torch.testing.assert_close(merged(x, None, table), found, rtol=1e-4, atol=1e-5)


class TestBatchNorm:
    def valid(self) -> torch.Tensor:
        return torch.arange(6)[None, :, None] < torch.tensor([6, 2, 5])[:, None, None]

    def test_as_torch_over_valid_frames(self) -> None:
        """Outputs, gradients and running statistics; the padding has none."""
        torch.manual_seed(0)
        ours, theirs = shaken(BatchNorm(4)), torch.nn.BatchNorm1d(4)
        names = {"running_variance": "running_var"}
        theirs.load_state_dict(
            {names.get(name, name): value for name, value in ours.state_dict().items()}, strict=False
        )
        x, weights, valid = 3 * torch.randn(3, 6, 4) + 1, torch.randn(3, 6, 4), self.valid()[:, :, 0]
        parts = []
        for norm in (ours, theirs):
            given = x.clone().requires_grad_()
            found = norm(given, self.valid())[valid] if norm is ours else norm(given[valid])
            (found * weights[valid]).sum().backward()
            variance = norm.running_variance if norm is ours else norm.running_var
            parts.append([found, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, variance])
        torch.testing.assert_close(parts[0], parts[1], rtol=1e-4, atol=1e-5)
        assert not parts[0][1][~valid].any()
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.flatten(0, 1)).view_as(x), rtol=1e-4, atol=1e-5)

    def test_stays_where_it_does_not_learn(self) -> None:
        """In evaluation, without gradients, and with a weight that wants none: running statistics, untouched."""
        torch.manual_seed(0)
        norm = shaken(BatchNorm(4))
        before = copy.deepcopy(norm.state_dict())
        x = torch.randn(3, 6, 4)
        expected = norm.eval()(x)
        norm.train()
        with torch.no_grad():
            assert torch.equal(norm(x, self.valid()), expected)
        norm.weight.requires_grad_(False)
        assert torch.equal(norm(x, self.valid()), expected)
        assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
        norm.weight.requires_grad_(True)
        norm(x, self.valid())
        assert not torch.equal(norm.running_mean, before["running_mean"])

    def test_a_single_frame(self) -> None:
        """Has no variance; its output is the bias, and the statistics stay numbers."""
        norm = shaken(BatchNorm(4))
        assert torch.allclose(norm(torch.randn(1, 1, 4)), norm.bias, atol=1e-6)
        assert torch.isfinite(norm.running_variance).all()


def test_compiled_blocks_equal_plain_ones() -> None:
    """Running statistics and gradients included."""
    torch.manual_seed(0)
    plain = Transformer(config(layers=1))
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled, backend="aot_eager")
    for lengths in ([9, 9], [9, 5]):
        x = torch.randn(2, 9, 16)
        results = []
        for model in (plain, compiled):
            model.zero_grad()
            features = model(x, torch.tensor(lengths))
            features.square().sum().backward()
            statistics = [value for name, value in model.state_dict().items() if "running" in name]
            results.append([features.detach(), *statistics, *(one.grad for one in model.parameters())])
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conformer": ConformerConfig(kernel=4)}, "kernel must be odd"),
        ({"conformer": ConformerConfig("rotary"), "dim": 10}, "heads of an even width"),
        ({"dim": 15, "heads": 3}, "even dim"),
        ({"conformer": ConformerConfig("rotary", rotary_base=0)}, "rotary_base"),
        ({"relative_buckets": 8}, "relative_buckets are for Transformer blocks"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    numbers: dict[str, Any] = {"layers": 1, "dim": 16, "heads": 2, "block": "conformer"}
    with pytest.raises(ConfigError, match=words):
        Transformer(TransformerConfig(**numbers | changes))
