"""A module with its optimiser, on its device and in its precision: the part of a learner that is trained."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.optimisers import MakeOptimiser, load_optimiser, optimiser_state
from ddl.precision import Precision
from ddl.progress import State


class OptimisedModule:
    """A module and its optimiser, with gradients averaged over all processes that train the trial.

    A call returns the module's outputs in fp32, in the current mode (`train`, `eval`). Use `trained` to access the module itself.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: MakeOptimiser,
        precision: Precision,
        device: Device,
        decay_steps: int = 0,
        clip: float = math.inf,
        warmup_steps: int = 0,
    ):
        """The learning rate decays linearly to 0 at step `decay_steps` (Defazio et al. 2023, arXiv:2310.07831); 0 keeps it constant.

        Before it decays, it rises linearly over `warmup_steps` steps, fewer than `decay_steps`: one cycle (Smith & Topin 2018,
        arXiv:1708.07120). Gradients are clipped to the norm `clip`.
        """
        self.module = module.to(device.torch)
        self._replicated = device.replicate(precision.apply(self.module))
        self.optimiser = optimiser(self.module.parameters())  # after `replicate`: sharding replaces the parameters
        self._precision, self.device = precision, device
        self._scaler = precision.scaler(device)
        self._decay_steps, self._warmup_steps, self.clip = decay_steps, warmup_steps, clip
        self.initial_lrs = [group["lr"] for group in self.optimiser.param_groups]
        self.steps = 0

    def __call__(self, inputs: Tensor, *more: Any) -> Any:
        return self.through(self._replicated, inputs, *more)

    def through(self, part: Callable[..., Any], inputs: Tensor, *more: Any) -> Any:
        """Call `part`, a part of the module or a copy of it, in the module's precision. `more` are further arguments of it.

        Returns a tensor, or a nested tuple of tensors, in fp32. Gradients are not averaged over processes.
        """
        return self.autocast(part, self._precision.layout(inputs), *more)

    def autocast(self, part: Callable[..., Any], *inputs: Any) -> Any:
        """`through` in the module's number format alone: `torch.vmap` cannot change the memory layout."""
        with self._precision.autocast(self.device):
            outputs = part(*inputs)
        return _to_fp32(outputs)

    def train(self) -> None:
        self._replicated.train()

    def eval(self) -> None:
        """Switch to evaluation mode."""
        self._replicated.eval()

    def trained(self) -> Any:
        """The module with its current weights and rank 0's buffers, unsharded and in evaluation mode. Every process must call this.

        Typed `Any` because callers use attributes of the module's own class.
        """
        self.eval()
        self.device.broadcast_buffers(self.module)
        return self.device.unsharded(self.module).eval()

    def schedule(self) -> float:
        """The next step's learning rate as a fraction of the highest one."""
        if not self._decay_steps:
            return 1.0
        if self.steps < self._warmup_steps:
            return (self.steps + 1) / (self._warmup_steps + 1)
        return max(1 - (self.steps - self._warmup_steps) / (self._decay_steps - self._warmup_steps), 0.0)

    def minimise(self, loss: Tensor) -> None:
        """Take one optimiser step on the gradient of `loss`."""
        for group, initial_lr in zip(self.optimiser.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial_lr * self.schedule()
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if math.isfinite(self.clip):
            self._scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.steps += 1

    def state_dict(self) -> State:
        """Weights, optimiser state, number of steps and, in fp16, the scale of the loss."""
        scale = {"scaler": self._scaler.state_dict()} if self._scaler.is_enabled() else {}
        return {"model": self.module.state_dict(), "optimiser": optimiser_state(self.optimiser), "steps": self.steps, **scale}

    def load_state_dict(self, state: State) -> None:
        """Restore a state from `state_dict`, with unsharded tensors."""
        self.device.load(self.module, state["model"])
        load_optimiser(self.optimiser, state["optimiser"])
        self.steps = state["steps"]
        if "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])

    def weights(self) -> State:
        """The module's parameters and buffers."""
        return self.module.state_dict()

    def load_weights(self, state: State) -> None:
        """Restore a state from `weights`, with tensors that are unsharded, or sharded as the module is."""
        self.device.load(self.module, state)


def _to_fp32(outputs: Any) -> Any:
    if isinstance(outputs, tuple | list):
        return tuple(map(_to_fp32, outputs))
    if not isinstance(outputs, Tensor):
        raise TypeError(f"the model returned {type(outputs).__name__}. It must return a tensor, or a tuple of them.")
    return outputs.float()
