"""A module with its optimiser where it computes: what a learner has one or two of."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.optimisers import MakeOptimiser, load_optimiser, optimiser_state
from ddl.precision import Precision
from ddl.progress import State


class OptimisedModule:
    """On its device, in its precision, its gradients averaged over all processes that train the trial.

    Called, it gives the module's outputs in fp32, in the mode that it is in (`train`, `eval`). `trained` is for what needs the module.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: MakeOptimiser,
        precision: Precision,
        device: Device,
        decay_steps: int = 0,
        clip: float = math.inf,
    ):
        """The learning rate falls linearly to 0 over `decay_steps` steps (Defazio et al. 2023, arXiv:2310.07831); 0: it stays. Gradients
        are cut to the norm `clip`."""
        self.module = module.to(device.torch)
        self._replicated = device.replicate(precision.apply(self.module))
        self._optimiser = optimiser(self.module.parameters())  # of what sharding leaves of them
        self._precision, self._device = precision, device
        self._decay_steps, self._clip = decay_steps, clip
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        self.steps = 0

    def __call__(self, inputs: Tensor) -> Any:
        return self.through(self._replicated, inputs)

    def through(self, part: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        """The outputs (a tensor, or a tuple of what may be outputs) of `part` of the module, in fp32. Its gradients stay in this process."""
        with self._precision.autocast(self._device):
            outputs = part(self._precision.layout(inputs))
        return _fp32(outputs)

    def train(self) -> None:
        self._replicated.train()

    def eval(self) -> None:
        self._replicated.eval()

    def trained(self) -> Any:
        """The module (`Any`, for its parts are called too) as it is now, whole and in eval mode. Every process has to ask for it."""
        self.eval()
        return self._device.unsharded(self.module).eval()

    def minimise(self, loss: Tensor) -> None:
        """One step of the optimiser on the gradient of `loss`."""
        if self._decay_steps:
            for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
                group["lr"] = rate * max(1 - self.steps / self._decay_steps, 0.0)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if math.isfinite(self._clip):
            nn.utils.clip_grad_norm_(self.module.parameters(), self._clip)
        self._optimiser.step()
        self.steps += 1

    def state_dict(self) -> State:
        return {"model": self.module.state_dict(), "optimiser": optimiser_state(self._optimiser), "steps": self.steps}

    def load_state_dict(self, state: State) -> None:
        self._device.load(self.module, state["model"])
        load_optimiser(self._optimiser, state["optimiser"])
        self.steps = state["steps"]


def _fp32(outputs: Any) -> Any:
    return outputs.float() if isinstance(outputs, Tensor) else tuple(map(_fp32, outputs))
