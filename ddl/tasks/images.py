"""What the tasks on images that `fit` trains have in common: which images, how long, how fast."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Len
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.data import sources
from ddl.data.sets import cifar10
from ddl.data.splits import DataSet, Examples
from ddl.devices import Device, stream
from ddl.fit import fit
from ddl.learners.learner import Learner
from ddl.models.autoencoders import halved
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, CountOrZero, Positive, PrecisionName, Task


def _can_be_pooled(widths: list[int]) -> list[int]:
    halved(cifar10.SHAPE[1], len(widths) - 1)
    return widths


UNetWidths = Annotated[list[Count], Len(1, 6), AfterValidator(_can_be_pooled)]
"""Channels of a U-Net on CIFAR-10 at each resolution; each further one halves the image."""


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
