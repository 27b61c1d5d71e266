"""A module with its optimiser where it computes: what a learner has one or two of."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ddl.devices import Device
from ddl.learners.optimisers import load_optimiser, optimiser_state
from ddl.precision import Precision
from ddl.progress import State

MakeOptimiser = Callable[[Iterable[nn.Parameter]], Optimizer]


class Network:
    """On its device, in its precision, its gradients averaged over all processes that train the trial.

    Called, it gives the module's outputs in fp32, to be trained on. For all else there is `trained`.
    """

    def __init__(self, module: nn.Module, optimiser: MakeOptimiser, precision: Precision, device: Device):
        self.module = module.to(device.torch)
        self._replicated = device.replicate(precision.apply(self.module))
        self._optimiser = optimiser(self.module.parameters())  # of what sharding leaves of them
        self._precision, self._device = precision, device

    def __call__(self, inputs: Tensor) -> Any:
        return self.through(self._replicated, inputs)

    def through(self, part: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        """The outputs (a tensor or a tuple of them) of `part` of the module, in fp32. Its gradients stay in this process."""
        inputs = self._precision.layout(inputs) if inputs.ndim == 4 else inputs
        with self._precision.autocast(self._device):
            outputs = part(inputs)
        return tuple(output.float() for output in outputs) if isinstance(outputs, tuple) else outputs.float()

    def train(self) -> None:
        self._replicated.train()

    def trained(self) -> Any:
        """The module (`Any`, for its parts are called too) as it is now, whole and in eval mode. Every process has to ask for it."""
        self._replicated.eval()
        return self._device.whole(self.module).eval()

    def minimise(self, loss: Tensor) -> None:
        """One step of the optimiser on the gradient of `loss`."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()

    def state_dict(self) -> State:
        return {"model": self.module.state_dict(), "optimiser": optimiser_state(self._optimiser)}

    def load_state_dict(self, state: State) -> None:
        self._device.load(self.module, state["model"])
        load_optimiser(self._optimiser, state["optimiser"])
