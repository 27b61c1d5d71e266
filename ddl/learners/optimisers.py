"""Construction of optimisers, and their state in a form that a checkpoint can hold."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from ddl import sharding
from ddl.progress import State

MakeOptimiser = Callable[[Iterable[nn.Parameter]], Optimizer]


def make_optimiser(name: Literal["adam", "sgd"], lr: float, momentum: float = 0.0, beta1: float = 0.9) -> MakeOptimiser:
    """Return a constructor of an optimiser for the trainable parameters. `momentum` applies to sgd, `beta1` to adam."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        if name == "sgd":
            return SGD(trainable, lr=lr, momentum=momentum)
        return Adam(trainable, lr=lr, betas=(beta1, 0.999), fused=True)  # one pass over the parameters instead of eight

    return make


def make_nesterov(lr: float, momentum: float, weight_decay: float) -> MakeOptimiser:
    """Return a constructor of SGD with Nesterov's momentum (Sutskever et al. 2013) for the trainable parameters; plain SGD if it is 0."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        return SGD(trainable, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay)

    return make


def optimiser_state(optimiser: Optimizer) -> State:
    """The optimiser's per-parameter state, with string keys. Hyperparameters are omitted, so a scheduler may change them."""
    return {"state": {str(key): value for key, value in optimiser.state_dict()["state"].items()}}


def load_optimiser(optimiser: Optimizer, state: State) -> None:
    """Restore a state from `optimiser_state` with unsharded tensors. The optimiser keeps its current hyperparameters."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    slots: dict[int, Any] = {
        int(key): {name: _placed_like(value, parameters[int(key)]) if isinstance(value, Tensor) else value for name, value in slot.items()}
        for key, slot in state["state"].items()
    }
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})


def _placed_like(value: Tensor, parameter: Tensor) -> Tensor:
    """This process's shard of the value, in the parameter's order in memory.

    Fused kernels need that order, and on a CPU do not check it. Checkpoints have channels first.
    """
    value = sharding.shard_like(value, parameter)
    if value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
