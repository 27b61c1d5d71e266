"""What the tasks that `fit` trains have in common: how fast, how long, on how much at once."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from ddl.data.splits import Examples
from ddl.devices import Device
from ddl.fit import fit
from ddl.learners.learner import Learner
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Positive, Task


@dataclass(frozen=True, config=STRICT)
class FitTask(Task):
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
        self, learner: Learner, train: Examples, val: Examples, device: Device, metadata: dict[str, Any], resume: State | None
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
            metadata=metadata,
            resume=resume,
        )
