"""One optimiser step for several members of a stack, with the rules and the states of their `torch.optim` optimisers."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

AT_ONCE = 2**17
"""Elements updated at once on a CPU, so that the intermediate results stay in the core's cache."""

Hyperparameter = float | Tensor
"""A number that all members share, or one for each member: fp64 [k, 1]."""


class StackedOptimiser:
    """The update rule of k optimisers of the same class (`SGD` with momentum, `Adam` or `AdamW`), for blocks of parameters [k, n].

    Learning rate, momentum, betas, epsilon and weight decay may differ between the optimisers. `slots[b]` is the state for the block
    b, a tensor [k, n] for each of the names that `torch.optim` uses; `steps` fp32 [k, p] are Adam's numbers of steps, one for each of
    p parameters.
    """

    def __init__(self, optimisers: Sequence[Optimizer], lrs: Sequence[float], blocks: Sequence[Tensor], parameters: int):
        """`lrs` are the learning rates at the first step: the optimisers' own may have been changed by a schedule."""
        assert all(len(optimiser.param_groups) == 1 for optimiser in optimisers)
        groups = [optimiser.param_groups[0] for optimiser in optimisers]
        assert not any(group["maximize"] or group.get("amsgrad") or group.get("nesterov") for group in groups), groups
        self._blocks, self._device = blocks, blocks[0].device
        self._lr, self._decay = self._each(lrs), self._each([group["weight_decay"] for group in groups])
        self._decays = isinstance(self._decay, Tensor) or self._decay != 0
        self._adam = isinstance(optimisers[0], Adam)
        if self._adam:
            self._decoupled = groups[0]["decoupled_weight_decay"]
            self._beta1, self._beta2 = (self._each([group["betas"][number] for group in groups]) for number in (0, 1))
            self._eps = self._each([group["eps"] for group in groups])
            names: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
        else:
            assert type(optimisers[0]) is SGD, optimisers[0]
            self._momentum = self._each([group["momentum"] for group in groups])
            names = () if not isinstance(self._momentum, Tensor) and self._momentum == 0 else ("momentum_buffer",)
        self.slots = [{name: torch.zeros_like(block) for name in names} for block in blocks]
        self.steps = torch.zeros(len(groups), parameters, device=self._device)

    def _each(self, values: Sequence[float]) -> Hyperparameter:
        return values[0] if len(set(values)) == 1 else torch.tensor(values, dtype=torch.float64, device=self._device).unsqueeze(1)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], schedule: float, clip: float) -> None:
        """Update the blocks. `schedule` multiplies the learning rates; each member's gradient is clipped to the norm `clip`."""
        if math.isfinite(clip):
            norms = torch.stack([gradient.norm(dim=1, keepdim=True) for gradient in gradients]).norm(dim=0)
            for gradient in gradients:
                gradient *= (clip / (norms + 1e-6)).clamp(max=1)
        update = self._adam_step if self._adam else self._sgd_step
        update(gradients, self._lr * schedule)

    def _sgd_step(self, gradients: Sequence[Tensor], lr: Hyperparameter) -> None:
        for parameters, gradient, slot in self._parts(gradients):
            if self._decays:
                gradient = gradient + parameters * _fp32(self._decay)
            if slot:
                gradient = slot["momentum_buffer"].mul_(_fp32(self._momentum)).add_(gradient)
            parameters.sub_(gradient * _fp32(lr))

    def _adam_step(self, gradients: Sequence[Tensor], lr: Hyperparameter) -> None:
        """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2 for the decoupled weight decay."""
        self.steps += 1
        steps = self.steps[:, :1].double()
        step_size = (lr / (1 - self._beta1**steps)).float()
        second_scale = (1 - self._beta2**steps).sqrt().float()
        for parameters, gradient, slot in self._parts(gradients):
            if self._decays:
                if self._decoupled:
                    parameters.mul_(_fp32(1 - lr * self._decay))
                else:
                    gradient = gradient + parameters * _fp32(self._decay)
            slot["exp_avg"].lerp_(gradient, _fp32(1 - self._beta1))
            slot["exp_avg_sq"].mul_(_fp32(self._beta2)).add_(gradient.square().mul_(_fp32(1 - self._beta2)))
            root = slot["exp_avg_sq"].sqrt().div_(second_scale).add_(_fp32(self._eps))
            parameters.sub_(torch.div(slot["exp_avg"], root, out=root).mul_(step_size))

    def _parts(self, gradients: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Parameters, gradients and state of every block, in parts of some columns on a CPU."""
        for block, gradient, slot in zip(self._blocks, gradients, self.slots, strict=True):
            columns = block.shape[1] if block.device.type != "cpu" else max(AT_ONCE // len(block), 1)
            for first in range(0, block.shape[1], columns):
                part = slice(first, first + columns)
                yield block[:, part], gradient[:, part], {name: value[:, part] for name, value in slot.items()}


def _fp32(value: Hyperparameter) -> Hyperparameter:
    return value.float() if isinstance(value, Tensor) else value
