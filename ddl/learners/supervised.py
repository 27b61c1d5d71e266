"""Training of a classifier with one label per example."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, Pipeline, StackableLearner, Transform
from ddl.learners.optimised_module import OptimisedModule


class Classifier(StackableLearner):
    """A network that maps inputs to logits [n, classes], trained on the cross-entropy.

    Batches are (inputs as stored, labels int64 [n], further arguments of the network if it has any); `training` and `evaluation` map
    stored inputs to model inputs. Metrics: `loss` (nats) and `accuracy` (0..1).
    """

    augments = True

    def __init__(self, network: OptimisedModule, training: Transform, evaluation: Transform, device: Device):
        super().__init__(network)
        self._training, self._evaluation, self._device = training, evaluation, device

    def prepared(self, batch: Batch) -> Batch:
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
        totals = torch.zeros(3, dtype=torch.float64, device=self._device.torch)
        for inputs, labels, *more in batches:
            logits = self._network(self._evaluation(inputs), *more)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            totals += torch.stack([loss.double(), correct.double(), torch.tensor(float(len(labels))).to(correct).double()])
        loss, correct, count = self._device.sum(totals).tolist()
        yield "loss", loss / count
        yield "accuracy", correct / count

    def predictor(self) -> nn.Module:
        return Pipeline(self._evaluation, self._network.trained()).eval()
