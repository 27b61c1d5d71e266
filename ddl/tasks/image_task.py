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
from ddl.devices import Device, derive_seed
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import MakeOptimiser
from ddl.models.downsampling import halved_side
from ddl.precision import Precision
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import STRICT, Count, CountOrZero, PrecisionName


def _can_be_pooled(widths: list[int]) -> list[int]:
    halved_side(cifar10.SHAPE[1], len(widths) - 1)
    return widths


UNetWidths = Annotated[list[Count], Len(1, 6), AfterValidator(_can_be_pooled)]
"""Channels of a U-Net on CIFAR-10 at each resolution; each further one halves the image."""


@dataclass(frozen=True, config=STRICT)
class ImageTask(FitTask):
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
        data = sources.load_data_set(name, self.content)
        torch.manual_seed(derive_seed(self.seed, "weights", 0))
        train, val = data.train.limit(self.train_limit or None), data.val.limit(self.val_limit or None)
        return replace(data, train=train.to(device.torch), val=val.to(device.torch))

    def settled(self) -> Precision:
        return Precision.parse("fp32" if self.precision == "auto" else self.precision)

    def optimised(self, module: nn.Module, optimiser: MakeOptimiser, train: Examples, device: Device) -> OptimisedModule:
        """The module, to be trained on `train`."""
        decay_steps = self.steps(train) if self.schedule == "linear" else 0
        return OptimisedModule(module, optimiser, self.settled(), device, decay_steps)

    def metadata(self, data: DataSet, modules: Sequence[nn.Module]) -> dict[str, Any]:
        """`modules` are those that are trained."""
        return {
            "data": data.origin.metadata() | {"train": len(data.train), "val": len(data.val)},
            "parameters": sum(parameter.numel() for module in modules for parameter in module.parameters()),
            "precision": str(self.settled()),
        }
