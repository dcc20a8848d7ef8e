"""Compiled Transformer blocks compute what plain ones do, gradients included, and keep their names in a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch

from firstwords.nn.transformer import Transformer, TransformerConfig, compile_blocks

SMALL = {"layers": 2, "dim": 16, "feed_forward_dim": 32, "heads": 2, "position_kernel": 4, "position_groups": 2}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}


@pytest.mark.parametrize("norm_first", [False, True])
def test_compiled_blocks_equal_plain_ones(norm_first: bool) -> None:
    torch.manual_seed(0)
    plain = Transformer(TransformerConfig(norm_first=norm_first, **SMALL, **STILL))
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled, backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for frames, lengths in ((9, [9, 9]), (9, [9, 5]), (12, [12, 12])):
        x = torch.randn(2, frames, 16)
        results = []
        for model in (plain, compiled):
            model.zero_grad()
            features = model(x, torch.tensor(lengths))
            features.square().sum().backward()
            results.append([features.detach(), *(one.grad for one in model.parameters())])
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_compiled_blocks_drop_as_they_should() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**SMALL, **STILL | {"dropout": 0.5, "attention_dropout": 0.1}))
    compile_blocks(model, backend="aot_eager")
    x, lengths = torch.randn(1, 10, 16), torch.tensor([10])
    first, second = model(x, lengths), model(x, lengths)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(model.eval()(x, lengths), model(x, lengths))
