"""The optimiser that a configuration asks for."""

from __future__ import annotations

import torch
from torch import nn

from firstwords.training.config import OptimizerConfig, SGDConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig | SGDConfig) -> torch.optim.Optimizer:
    """AdamW over all parameters; or SGD over those that learn, with transition scores at a rate of their own.

    A group's `rate_scale` multiplies the learning rate, which the loop sets before every update.
    """
    if isinstance(config, OptimizerConfig):
        first, second = config.betas
        return torch.optim.AdamW(
            model.parameters(),
            lr=0.0,
            betas=(first, second),
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )
    learning = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [{"params": [value for name, value in learning if name != "transitions"], "rate_scale": 1.0}]
    if transitions := [value for name, value in learning if name == "transitions"]:
        groups.append({"params": transitions, "rate_scale": config.transition_scale})
    return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay)


def parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of an optimiser's parameters in its own order."""
    names = {id(value): name for name, value in model.named_parameters()}
    return [names[id(value)] for group in optimizer.param_groups for value in group["params"]]
