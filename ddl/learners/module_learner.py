"""Training of any module on any loss of its outputs and the targets."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, StackableLearner
from ddl.learners.optimised_module import OptimisedModule

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss of outputs and targets, a scalar."""

Metrics = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Further means over the examples of outputs and targets, by name: scalars."""


class ModuleLearner(StackableLearner):
    """A network whose loss is a function of its outputs and the targets.

    Batches are (inputs, targets). Metrics: `loss`, and those of `metrics`, each a mean over all examples.
    """

    def __init__(self, network: OptimisedModule, loss: Loss, metrics: Metrics, device: Device):
        super().__init__(network)
        self._loss, self._metrics, self._device = loss, metrics, device

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        inputs, targets = batch
        return {"loss": self._loss(network(inputs), targets)}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        totals: dict[str, Tensor] = {}
        count = torch.zeros((), dtype=torch.float64, device=self._device.torch)
        for inputs, targets in batches:
            outputs = self._network(inputs)
            for name, mean in {"loss": self._loss(outputs, targets), **self._metrics(outputs, targets)}.items():
                totals[name] = totals.get(name, torch.zeros_like(count)) + mean.double() * len(targets)
            count += len(targets)
        sums = self._device.sum(torch.stack([count, *totals.values()])).tolist()  # over all workers of the trial
        for name, total in zip(totals, sums[1:], strict=True):
            yield name, total / sums[0]

    def predictor(self) -> nn.Module:
        return self._network.trained()
