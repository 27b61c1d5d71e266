"""The stacked optimiser takes the steps of `torch.optim`, for members with different hyperparameters."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from ddl.learners import stacked_optimiser
from ddl.learners.stacked_optimiser import StackedOptimiser

CASES = {
    "sgd": [partial(SGD, lr=0.1), partial(SGD, lr=0.01)],
    "momentum": [partial(SGD, lr=0.1, momentum=0.9), partial(SGD, lr=0.1, momentum=0.0), partial(SGD, lr=0.1, weight_decay=0.1)],
    "adam": [partial(Adam, lr=0.1), partial(Adam, lr=0.01, betas=(0.5, 0.9), eps=1e-3), partial(Adam, lr=0.1, weight_decay=0.1)],
    "adamw": [
        partial(AdamW, lr=0.1, weight_decay=0.0),
        partial(AdamW, lr=0.01, weight_decay=0.5),
        partial(AdamW, lr=0.1, betas=(0.5, 0.9)),
    ],
}


@pytest.mark.parametrize("clip", [math.inf, 3.5])
@pytest.mark.parametrize("name", CASES)
def test_the_steps_are_those_of_each_optimiser_alone(name, clip, monkeypatch):
    monkeypatch.setattr(stacked_optimiser, "AT_ONCE", 12)  # several parts of a block
    members = [[nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(7))] for _ in CASES[name]]
    optimisers = [make(parameters) for make, parameters in zip(CASES[name], members, strict=True)]
    lrs = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    blocks = [torch.stack([parameters[number].detach().clone() for parameters in members]) for number in (0, 1)]
    together = StackedOptimiser(optimisers, lrs, blocks, parameters=2)
    for step in range(6):
        gradients = [torch.randn_like(block) for block in blocks]
        for position, (parameters, optimiser) in enumerate(zip(members, optimisers, strict=True)):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient[position].clone()
            if math.isfinite(clip):
                nn.utils.clip_grad_norm_(parameters, clip)
            optimiser.param_groups[0]["lr"] = lrs[position] * (1 - step / 10)
            optimiser.step()
        together.step(gradients, schedule=1 - step / 10, clip=clip)
    for number, block in enumerate(blocks):
        torch.testing.assert_close(block, torch.stack([parameters[number].detach() for parameters in members]), rtol=1e-5, atol=1e-6)
    for position, (parameters, optimiser) in enumerate(zip(members, optimisers, strict=True)):
        for number, parameter in enumerate(parameters):
            for slot, value in together.slots[number].items():
                if slot in optimiser.state[parameter]:
                    torch.testing.assert_close(value[position], optimiser.state[parameter][slot], rtol=1e-5, atol=1e-6)
