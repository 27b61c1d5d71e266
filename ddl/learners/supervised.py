"""Training of a classifier with one label per example, and of a regressor with one number per example."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, Pipeline, StackableLearner, Transform
from ddl.learners.optimised_module import OptimisedModule
from ddl.models.mlp import RestoreUnit


def evaluate_logits(predict: Callable[..., Tensor], batches: Iterable[Batch], device: Device) -> Iterator[tuple[str, float]]:
    """`loss` (nats) and `accuracy` (0..1) over all batches of (inputs, labels, further arguments); `predict` returns logits."""
    totals = torch.zeros(3, dtype=torch.float64, device=device.torch)
    for inputs, labels, *more in batches:
        logits = predict(inputs, *more)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(1) == labels).sum()
        totals += torch.stack([loss.double(), correct.double(), torch.tensor(float(len(labels))).to(correct).double()])
    loss, correct, count = device.sum(totals).tolist()
    yield "loss", loss / count
    yield "accuracy", correct / count


class Classifier(StackableLearner):
    """A network that maps inputs to logits [n, classes], trained on the cross-entropy.

    Batches are (inputs as stored, labels int64 [n], further arguments of the network if it has any); `training` and `evaluation` map
    stored inputs to model inputs. Without `training` they are the same, and a step draws no random numbers. Metrics: `loss` (nats) and
    `accuracy` (0..1).
    """

    def __init__(self, network: OptimisedModule, training: Transform | None, evaluation: Transform, device: Device):
        super().__init__(network)
        self._training, self._evaluation, self._device = training, evaluation, device
        self.augments = training is not None

    def prepared(self, batch: Batch) -> Batch:
        if self._training is None:
            return batch
        inputs, *rest = batch
        return (self._training(inputs), *rest)

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        inputs, labels, *more = batch
        logits = network(inputs, *more)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        yield from evaluate_logits(lambda inputs, *more: self._network(self._evaluation(inputs), *more), batches, self._device)

    def predictor(self) -> nn.Module:
        return Pipeline(self._evaluation, self._network.trained()).eval()


class Regressor(StackableLearner):
    """A network that maps inputs to one standardised value each, trained on the mean squared error.

    Batches are (inputs, standardised targets fp32 [n]). Metrics: `loss` (that error), `rmse` in the target's own unit, and `r2`, the part
    of the targets' variance that is predicted (1 at best, 0 for their mean).
    """

    def __init__(self, network: OptimisedModule, restore: RestoreUnit, device: Device):
        """`restore` maps standardised values to the target's own unit."""
        super().__init__(network)
        self._restore, self._device = restore, device

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        inputs, targets = batch
        return {"loss": F.mse_loss(network(inputs), targets)}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        totals = torch.zeros(4, dtype=torch.float64, device=self._device.torch)
        for inputs, targets in batches:
            exact = targets.double()
            errors = (self._network(inputs).double() - exact).square()
            totals += torch.stack([errors.sum(), exact.sum(), exact.square().sum(), torch.ones_like(exact).sum()])
        errors, total, squares, count = self._device.sum(totals).tolist()
        yield "loss", errors / count
        yield "rmse", self._restore.std * math.sqrt(errors / count)
        yield "r2", 1 - errors / (squares - total**2 / count)

    def predictor(self) -> nn.Module:
        return nn.Sequential(self._network.trained(), self._restore).eval()
