"""Base class of the tasks on images that `fit` trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Len
from pydantic import AfterValidator, Field, ValidationInfo
from pydantic.dataclasses import dataclass

from ddl.data.shapes import CIFAR10_SHAPE
from ddl.models.downsampling import halved_side
from ddl.tasks.fit_task import count_parameters, split_lengths
from ddl.tasks.precision_task import PrecisionTask
from ddl.tasks.task import STRICT, CountOrZero, Width

if TYPE_CHECKING:
    from torch import nn

    from ddl.data.splits import DataSet, Examples
    from ddl.devices import Device
    from ddl.learners.optimised_module import OptimisedModule
    from ddl.learners.optimisers import MakeOptimiser

PEAK = 0.23
"""Fraction of the steps after which a one-cycle schedule has its highest learning rate (as in airbench94 of Jordan 2024, arXiv:2404.00498)."""


def _can_be_pooled(widths: list[int]) -> list[int]:
    halved_side(CIFAR10_SHAPE[1], len(widths) - 1)
    return widths


UNetWidths = Annotated[list[Width], Len(1, 6), AfterValidator(_can_be_pooled)]
"""Channels of a U-Net on CIFAR-10 at each resolution, 1 to 6 numbers; each resolution after the first halves the image."""


def _belongs_to_folder(path: str, info: ValidationInfo) -> str:
    data_set = info.data.get("data_set", "folder" if path else "")
    if data_set == "folder" and not path:
        raise ValueError("missing. With task.data_set=folder, set task.path to the folder of your images.")
    if path and data_set != "folder":
        raise ValueError(f"{path!r} is not read by task.data_set={data_set}. Set task.data_set to folder, or remove the path.")
    return path


FolderPath = Annotated[str, Field(validate_default=True), AfterValidator(_belongs_to_folder)]
"""Path of the user's own images: given exactly if the field `data_set`, which precedes it, is `folder`."""


@dataclass(frozen=True, config=STRICT)
class ImageTask(PrecisionTask):
    """Base class of tasks on images: amount of data, learning rate schedule and precision."""

    unit = "images"

    content: Literal["full", "sample"]
    """Amount of data: `full` for the whole data set, `sample` for the part bundled with the package."""
    train_limit: CountOrZero
    """Number of training images to use, from the first; 0 for all."""
    val_limit: CountOrZero
    """Number of validation images to use, from the first; 0 for all."""
    schedule: Literal["constant", "linear", "one_cycle"]
    """Learning rate schedule: `constant`; `linear` decay to 0 at the last step; `one_cycle`, which rises to `lr` before it decays to 0."""

    def load(self, name: str, device: Device) -> DataSet:
        """Load the data set `name`, limited and on the device, and seed torch's generator for the initial weights."""
        from ddl.data import sources

        return self._limited(sources.load_data_set(name, self.content), device)

    def load_folder(self, path: str, size: int, device: Device) -> DataSet:
        """Like `load`, for the user's own images in the folder `path`, as `size` x `size` pixels. `content` has no effect."""
        from ddl.data import image_folders

        return self._limited(image_folders.load_image_folder(path, size), device)

    def _limited(self, data: DataSet, device: Device) -> DataSet:
        self.seed_weights()
        train, val = data.train.limit(self.train_limit or None), data.val.limit(self.val_limit or None)
        limited = replace(data, train=train.to(device.torch), val=val.to(device.torch))
        return limited.with_holdout(self.holdout) if self.holdout else limited

    def optimised(self, module: nn.Module, optimiser: MakeOptimiser, train: Examples, device: Device) -> OptimisedModule:
        """The module with its optimiser, in the task's precision and with its schedule over the steps on `train`."""
        from ddl.learners.optimised_module import OptimisedModule

        steps = self.steps(train)
        decay_steps = 0 if self.schedule == "constant" else steps
        warmup_steps = int(PEAK * steps) if self.schedule == "one_cycle" else 0
        return OptimisedModule(module, optimiser, self.resolved_precision(), device, decay_steps, warmup_steps=warmup_steps)

    def metadata(self, data: DataSet, modules: Sequence[nn.Module]) -> dict[str, Any]:
        """Metadata of a trial that trains `modules`: data, number of parameters, precision."""
        return {
            "data": data.origin.metadata() | split_lengths(data.train, data.val, data.test),
            "parameters": count_parameters(modules),
            "precision": str(self.resolved_precision()),
        }
