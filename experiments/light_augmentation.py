"""Classification with one part of the study's light augmentation changed (light_augmentation.yaml)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval
from pydantic.dataclasses import dataclass

from ddl.data.augment import STRENGTHS, Augmentation
from ddl.data.splits import DataSet, Split
from ddl.devices import Device, derive_seed
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT

BATCH = 1000
"""Images that are transformed at once before training."""


@dataclass(frozen=True, config=STRICT)
class LightAugmentation(Classification):
    """Trains the study's network with a variant of its light augmentation."""

    stackable: ClassVar[tuple[str, ...]] = ()

    rotation: Annotated[float, Interval(ge=0, le=1)]
    """Largest rotation as a fraction of pi, where `augmentation` is not `none`; 0.2 is the study's."""
    fill: Literal["reflection", "border", "zeros"]
    """Pixels from outside the image: its reflection, the nearest pixel of its border, or black."""
    interpolation: Literal["bilinear", "nearest"]
    """Interpolation of the transform."""
    sampled: Literal["each epoch", "once"]
    """Time at which transforms are sampled: again each time that an image is trained on, or once before training."""
    validation: Literal["as it is", "augmented"]
    """Validation images: as they are, or transformed once like training images."""

    def can_stack(self) -> bool:
        return False  # the data differ with the seed

    def augment(self) -> Augmentation:
        return STRENGTHS["none"] if self.sampled == "once" else self._variant()

    def load_data(self, device: Device) -> DataSet:
        data = super().load_data(device)
        if self.sampled == "once":
            data = replace(data, train=self._transformed(data.train, "train"))
        if self.validation == "augmented":
            data = replace(data, val=self._transformed(data.val, "val"))
        return data

    def _variant(self) -> Augmentation:
        whole = STRENGTHS[self.augmentation]
        if self.augmentation == "none":
            return whole
        return replace(whole, rotation=self.rotation * math.pi, fill=self.fill, interpolation=self.interpolation)

    def _transformed(self, split: Split, name: str) -> Split:
        """The split with each image transformed once, as this seed samples it."""
        transform = self._variant()
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(self.seed, f"transform {name}", 0))
            parts = [transform(part.float()).round().clamp(0, 255).to(torch.uint8) for part in split.inputs.split(BATCH)]
        return replace(split, inputs=torch.cat(parts))
