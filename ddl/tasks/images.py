"""What the tasks on images that `fit` trains have in common: which images, how long, how fast."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.data import sources
from ddl.data.splits import DataSet, Examples
from ddl.devices import Device, stream
from ddl.fit import fit
from ddl.learners.learner import Learner
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, CountOrZero, Positive, PrecisionName, Task


@dataclass(frozen=True, config=STRICT)
class ImageTask(Task):
    content: Literal["full", "sample"]
    """`full`: all of it. `sample`: the part that comes with the package, the same on every machine."""
    train_limit: CountOrZero
    """Use only the first so many training images; 0 for all."""
    val_limit: CountOrZero
    """The same for validation."""
    lr: Positive
    """Of Adam."""
    batch_size: Count
    epochs: Count
    precision: PrecisionName

    def load(self, name: str, device: Device) -> DataSet:
        """The data set `name` within the limits, on the device; and torch's generator seeded for the weights that come next."""
        data = sources.load(name, self.content)
        torch.manual_seed(stream(self.seed, "weights", 0))
        train, val = data.train.limit(self.train_limit or None), data.val.limit(self.val_limit or None)
        return replace(data, train=train.to(device.torch), val=val.to(device.torch))

    def settled(self) -> Precision:
        return Precision.parse("fp32" if self.precision == "auto" else self.precision)

    def facts(self, data: DataSet, modules: Sequence[nn.Module]) -> dict[str, Any]:
        """`modules` are those that are trained."""
        return {
            "data": data.origin.facts() | {"train": len(data.train), "val": len(data.val)},
            "parameters": sum(parameter.numel() for module in modules for parameter in module.parameters()),
            "precision": str(self.settled()),
        }

    def train(
        self, learner: Learner, train: Examples, val: Examples, epochs: int, device: Device, facts: dict[str, Any], resume: State | None
    ) -> Iterator[Progress]:
        yield from fit(
            learner,
            train,
            val,
            epochs=epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=device,
            unit="images",
            facts=facts,
            resume=resume,
        )
