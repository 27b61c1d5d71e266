"""One model, one optimiser, one target per example."""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ddl.devices import Device
from ddl.learners.learner import Batch, Learner, Pipeline, Transform
from ddl.learners.optimisers import load_optimiser, optimiser_state
from ddl.precision import Precision
from ddl.progress import State


class Classifier(Learner):
    """Cross-entropy on class numbers.

    Batches are (inputs as stored, class numbers int64 [n]); `training` and `evaluation` turn inputs into what the model
    takes. Metrics: `loss` (nats) and `accuracy` (share, 0..1).
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: Callable[[Iterable[nn.Parameter]], Optimizer],
        training: Transform,
        evaluation: Transform,
        precision: Precision,
        device: Device,
    ):
        self._module = model.to(device.torch)
        self._model = device.replicate(precision.apply(self._module))
        self._optimiser = optimiser(self._module.parameters())
        self._training, self._evaluation = training, evaluation
        self._precision, self._device = precision, device

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets = batch
        self._model.train()
        logits = self._logits(self._training(inputs))
        loss = F.cross_entropy(logits, targets)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == targets).float().mean()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        self._model.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=self._device.torch)
        for inputs, targets in batches:
            logits = self._logits(self._evaluation(inputs))
            loss = F.cross_entropy(logits, targets, reduction="sum")
            right = (logits.argmax(1) == targets).sum()
            totals += torch.stack([loss.double(), right.double(), torch.tensor(float(len(targets))).to(right).double()])
        loss, right, count = self._device.sum(totals).tolist()
        yield "loss", loss / count
        yield "accuracy", right / count

    def _logits(self, images: Tensor) -> Tensor:
        with self._precision.autocast(self._device):
            return self._model(self._precision.layout(images)).float()

    def predictor(self) -> nn.Module:
        return Pipeline(self._evaluation, self._device.whole(self._module)).eval()

    def state_dict(self) -> State:
        return {"model": self._module.state_dict(), "optimiser": optimiser_state(self._optimiser)}

    def load_state_dict(self, state: State) -> None:
        self._device.load(self._module, state["model"])
        load_optimiser(self._optimiser, state["optimiser"])
