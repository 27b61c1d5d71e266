"""An optimiser's state as a checkpoint can hold it: string keys, and no hyperparameters."""

from typing import Any

from torch.optim import Optimizer

from ddl.progress import State


def optimiser_state(optimiser: Optimizer) -> State:
    """What it has gathered for each parameter. Its hyperparameters come from the configuration, so a scheduler may change them."""
    return {"state": {str(key): value for key, value in optimiser.state_dict()["state"].items()}}


def load_optimiser(optimiser: Optimizer, state: State) -> None:
    """Go on from `optimiser_state`, with the hyperparameters that `optimiser` has now."""
    slots: dict[int, Any] = {int(key): value for key, value in state["state"].items()}
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
