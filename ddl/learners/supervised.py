"""One model, one optimiser, one target per example."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.learner import Batch, Learner, Pipeline, Transform
from ddl.learners.optimised_module import OptimisedModule
from ddl.progress import State


class Classifier(Learner):
    """Cross-entropy on class numbers.

    Batches are (inputs as stored, class numbers int64 [n]); `training` and `evaluation` turn inputs into what the model
    takes. Metrics: `loss` (nats) and `accuracy` (share, 0..1).
    """

    def __init__(self, network: OptimisedModule, training: Transform, evaluation: Transform, device: Device):
        self._network, self._device = network, device
        self._training, self._evaluation = training, evaluation

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets = batch
        self._network.train()
        logits = self._network(self._training(inputs))
        loss = F.cross_entropy(logits, targets)
        self._network.minimise(loss)
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == targets).float().mean()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._network.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=self._device.torch)
        for inputs, targets in batches:
            logits = self._network(self._evaluation(inputs))
            loss = F.cross_entropy(logits, targets, reduction="sum")
            right = (logits.argmax(1) == targets).sum()
            totals += torch.stack([loss.double(), right.double(), torch.tensor(float(len(targets))).to(right).double()])
        loss, right, count = self._device.sum(totals).tolist()
        yield "loss", loss / count
        yield "accuracy", right / count

    def predictor(self) -> nn.Module:
        return Pipeline(self._evaluation, self._network.trained()).eval()

    def state_dict(self) -> State:
        return self._network.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)
