"""The running mean of a module's weights, to evaluate with."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ddl.learners.optimised_module import OptimisedModule
from ddl.progress import State


class RunningMean:
    """A copy of a module with the exponential moving average of its weights (Polyak & Juditsky 1992).

    Each step keeps `averaging` of the mean, less in the first steps. 0 uses the current weights. Buffers, such as the statistics of batch
    normalisation, are averaged in the same way if `average_buffers`, else copied; integers are always copied.
    """

    def __init__(self, network: OptimisedModule, averaging: float, average_buffers: bool = False):
        self.module = copy.deepcopy(network.module)
        self._network, self._averaging, self._average_buffers = network, averaging, average_buffers

    @torch.no_grad()
    def update(self) -> None:
        """Move the mean towards the current weights, which it equals after the first step. It keeps less in the first steps."""
        current, steps = self._network.module, self._network.steps
        keep = min(self._averaging, steps / (9 + steps)) if steps > 1 else 0.0
        get_ema_multi_avg_fn(keep)(list(self.module.parameters()), list(current.parameters()), steps)
        for mean, value in zip(self.module.buffers(), current.buffers(), strict=True):
            if self._average_buffers and mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)
        self._network.device.broadcast_buffers(self.module)

    def state_dict(self) -> State:
        """The mean, with names as in stored checkpoints and hashes of first steps."""
        mean = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {"n_averaged": torch.tensor(self._network.steps), **mean}

    def load_state_dict(self, state: State) -> None:
        """Restore a state from `state_dict`."""
        self.module.load_state_dict({name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"})
