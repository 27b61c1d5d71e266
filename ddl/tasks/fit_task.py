"""Base class of the tasks that `fit` trains."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.data.splits import Examples
from ddl.devices import Device, derive_seed
from ddl.fit import fit
from ddl.learners.learner import Learner
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Positive, Task


@dataclass(frozen=True, config=STRICT)
class FitTask(Task):
    """Base class of tasks that train a `Learner` on batches with `fit`: learning rate, batch size and epochs."""

    unit: ClassVar[str]
    """Plural noun for the examples, as in the metric `time/{unit}_per_s`."""

    lr: Positive
    """Learning rate at the first step."""
    batch_size: Count
    """Number of examples per training batch, over all processes."""
    epochs: Count
    """Number of passes over the training examples, with an evaluation after each."""

    def trained_epochs(self) -> int:
        """Number of epochs that are trained; a task may override `epochs`."""
        return self.epochs

    def seed_weights(self) -> None:
        """Seed torch's generator for the initial weights."""
        torch.manual_seed(derive_seed(self.seed, "weights", 0))

    def steps(self, train: Examples) -> int:
        """Number of training steps."""
        return self.trained_epochs() * math.ceil(len(train) / self.batch_size)

    def train(
        self, learner: Learner, train: Examples, val: Examples, device: Device, metadata: dict[str, Any], resume: State | None
    ) -> Iterator[Progress]:
        """Run `fit` with the task's hyperparameters."""
        yield from fit(
            learner,
            train,
            val,
            epochs=self.trained_epochs(),
            batch_size=self.batch_size,
            seed=self.seed,
            device=device,
            unit=self.unit,
            metadata=metadata,
            resume=resume,
        )


def count_parameters(modules: Iterable[nn.Module], trainable_only: bool = False) -> int:
    """Total number of parameters of `modules`, frozen ones included unless `trainable_only`."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not trainable_only)
