"""An optimiser's state as a checkpoint can hold it: string keys, and no hyperparameters."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ddl import sharding
from ddl.progress import State


def optimiser_state(optimiser: Optimizer) -> State:
    """What it has gathered for each parameter. Its hyperparameters come from the configuration, so a scheduler may change them."""
    return {"state": {str(key): value for key, value in optimiser.state_dict()["state"].items()}}


def load_optimiser(optimiser: Optimizer, state: State) -> None:
    """Go on from `optimiser_state`, with whole tensors, with the hyperparameters and parameters that `optimiser` has now."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    slots: dict[int, Any] = {
        int(key): {name: sharding.like(value, parameters[int(key)]) if isinstance(value, Tensor) else value for name, value in slot.items()}
        for key, slot in state["state"].items()
    }
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
