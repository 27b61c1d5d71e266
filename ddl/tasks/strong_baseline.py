"""Classification of CIFAR-10 with today's recipe for a small network and few epochs (Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Len
from pydantic.dataclasses import dataclass

from ddl.tasks.fit_task import Fitting
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, CountOrZero, Fraction, Number, Width

if TYPE_CHECKING:
    from ddl.data.splits import DataSet
    from ddl.devices import Device

WHITENED = 1000
"""Number of training images, from the first, whose patches determine the whitening filters."""


@dataclass(frozen=True, config=STRICT)
class StrongBaseline(ImageTask):
    """Trains a small convolutional network to classify CIFAR-10 with today's recipe (Jordan 2024, arXiv:2404.00498). Each ingredient can be
    switched off."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)
    strategies = ()
    holds_out: ClassVar[bool] = True
    changeable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "weight_decay", "label_smoothing", "averaging")

    stem: Literal["whitening", "trained"]
    """First layer, on patches of 2 x 2 pixels: frozen filters that whiten the training images, or trained ones."""
    widths: Annotated[list[Width], Len(1, 4)]
    """Channels of each block of two convolutions, 1 to 4 numbers; each block halves the image."""
    activation: Literal["gelu", "relu"]
    """Activation after each layer but the last."""
    flips: Literal["alternating", "random", "none"]
    """Mirroring of training images: each one in every other epoch, each with probability 1/2, or none."""
    translation: Annotated[CountOrZero, Le(16)]
    """Largest random shift of training images in pixels, up to 16, in each direction; the border is reflected."""
    label_smoothing: Fraction
    """Probability of the training labels that is spread over all classes, 0 to below 1."""
    momentum: Fraction
    """Nesterov momentum of SGD, 0 to below 1."""
    weight_decay: Annotated[Number, Ge(0)]
    """Weight decay of SGD."""
    averaging: Fraction
    """Fraction of the running mean of the weights that each step keeps; the mean is evaluated. 0 evaluates the current weights."""
    mirrored_evaluation: bool
    """Evaluate the mean of the logits of each image and its mirror image."""

    def load_data(self, device: Device) -> DataSet:
        return self.load("cifar10", device)

    def build(self, data: DataSet, device: Device) -> Fitting:
        import torch

        from ddl.data.augment import FlipAndShift
        from ddl.data.splits import NumberedSplit
        from ddl.devices import derive_seed
        from ddl.learners.averaged_classifier import AveragedClassifier
        from ddl.learners.optimisers import make_nesterov
        from ddl.models.compact import CompactNet, whitening_filters
        from ddl.models.preprocess import Normalise

        train = NumberedSplit(data.train.inputs, data.train.targets)
        normalise = Normalise(data.mean, data.std).to(device.torch)
        whitening = whitening_filters(normalise(train.inputs[:WHITENED])).cpu() if self.stem == "whitening" else None
        model = CompactNet(train.inputs.shape[1], len(data.classes), self.widths, whitening, self.activation)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "flips", 0))
        first = torch.rand(len(train), generator=generator) < 0.5
        learner = AveragedClassifier(
            self.optimised(model, make_nesterov(self.lr, self.momentum, self.weight_decay), train, device),
            FlipAndShift(self.flips, self.translation, first.to(device.torch)),
            normalise,
            steps_per_epoch=math.ceil(len(train) / self.batch_size),
            label_smoothing=self.label_smoothing,
            averaging=self.averaging,
            mirror=self.mirrored_evaluation,
            device=device,
        )
        metadata = self.metadata(data, [model]) | {"classes": list(data.classes)}
        return Fitting(learner, train, data.val, metadata, data.test)
