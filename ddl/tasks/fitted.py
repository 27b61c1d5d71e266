"""What the tasks that `fit` trains have in common: how fast, how long, on how much at once."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from ddl.data.splits import Examples
from ddl.devices import Device
from ddl.fit import fit
from ddl.learners.learner import Learner
from ddl.learners.network import MakeOptimiser
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Positive, Task


@dataclass(frozen=True, config=STRICT)
class FittedTask(Task):
    unit: ClassVar[str]
    """What its examples are called, many of them: metric `time/{unit}_per_s`."""

    lr: Positive
    """Of the optimiser, at the start."""
    batch_size: Count
    epochs: Count

    def trained_epochs(self) -> int:
        """Epochs that are trained."""
        return self.epochs

    def steps(self, train: Examples) -> int:
        return self.trained_epochs() * math.ceil(len(train) / self.batch_size)

    def train(
        self, learner: Learner, train: Examples, val: Examples, device: Device, facts: dict[str, Any], resume: State | None
    ) -> Iterator[Progress]:
        yield from fit(
            learner,
            train,
            val,
            epochs=self.trained_epochs(),
            batch_size=self.batch_size,
            seed=self.seed,
            device=device,
            unit=self.unit,
            facts=facts,
            resume=resume,
        )


def optimiser(name: Literal["adam", "sgd"], lr: float, momentum: float = 0.0, beta1: float = 0.9) -> MakeOptimiser:
    """Of the parameters that are not frozen. `momentum` is sgd's, `beta1` adam's."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        if name == "sgd":
            return SGD(learning, lr=lr, momentum=momentum)
        return Adam(learning, lr=lr, betas=(beta1, 0.999), fused=True)  # one pass over the parameters instead of eight

    return make
