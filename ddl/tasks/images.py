"""What the tasks on images that `fit` trains have in common: which images, how long, how fast."""

from collections.abc import Sequence
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
from ddl.learners.network import MakeOptimiser, Network
from ddl.models.autoencoders import halved
from ddl.precision import Precision
from ddl.tasks.fitted import FittedTask
from ddl.tasks.task import STRICT, Count, CountOrZero, PrecisionName


def _can_be_pooled(widths: list[int]) -> list[int]:
    halved(cifar10.SHAPE[1], len(widths) - 1)
    return widths


UNetWidths = Annotated[list[Count], Len(1, 6), AfterValidator(_can_be_pooled)]
"""Channels of a U-Net on CIFAR-10 at each resolution; each further one halves the image."""


@dataclass(frozen=True, config=STRICT)
class ImageTask(FittedTask):
    unit = "images"

    content: Literal["full", "sample"]
    """`full`: all of it. `sample`: the part that comes with the package, the same on every machine."""
    train_limit: CountOrZero
    """Use only the first so many training images; 0 for all."""
    val_limit: CountOrZero
    """The same for validation."""
    schedule: Literal["constant", "linear"]
    """Of the learning rate. `linear`: it falls to 0 with the last step."""
    precision: PrecisionName

    def load(self, name: str, device: Device) -> DataSet:
        """The data set `name` within the limits, on the device; and torch's generator seeded for the weights that come next."""
        data = sources.load(name, self.content)
        torch.manual_seed(stream(self.seed, "weights", 0))
        train, val = data.train.limit(self.train_limit or None), data.val.limit(self.val_limit or None)
        return replace(data, train=train.to(device.torch), val=val.to(device.torch))

    def settled(self) -> Precision:
        return Precision.parse("fp32" if self.precision == "auto" else self.precision)

    def optimised(self, module: nn.Module, optimiser: MakeOptimiser, train: Examples, device: Device) -> Network:
        """The module, to be trained on `train`."""
        falling_over = self.steps(train) if self.schedule == "linear" else 0
        return Network(module, optimiser, self.settled(), device, falling_over)

    def facts(self, data: DataSet, modules: Sequence[nn.Module]) -> dict[str, Any]:
        """`modules` are those that are trained."""
        return {
            "data": data.origin.facts() | {"train": len(data.train), "val": len(data.val)},
            "parameters": sum(parameter.numel() for module in modules for parameter in module.parameters()),
            "precision": str(self.settled()),
        }
