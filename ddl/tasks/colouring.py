"""Colouring of grey images with a U-Net or a conditional GAN (Karshenas, section 5 and figure 10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass

from ddl.data.shapes import CIFAR10_SHAPE
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask, UNetWidths
from ddl.tasks.task import STRICT, Fraction, Number, Width

if TYPE_CHECKING:
    from torch import nn

    from ddl.data.splits import Split
    from ddl.devices import Device
    from ddl.learners.learner import Learner

CHANNELS, SIZE, _ = CIFAR10_SHAPE
SHOWN = 8
"""Number of images in the figure, the first of the validation split."""


@dataclass(frozen=True, config=STRICT)
class Colouring(ImageTask):
    """Trains a U-Net, alone or with a discriminator, to colour grey CIFAR-10 images (Karshenas, section 5, figure 10)."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)
    holds_out: ClassVar[bool] = True

    data_set: Literal["cifar10"]
    """Data set to train and validate on."""
    model: Literal["unet", "cgan"]
    """Training method: `unet` minimises the mean absolute error alone, `cgan` adds a discriminator."""
    widths: UNetWidths
    """Channels of the U-Net at each resolution, 1 to 6 numbers; each resolution after the first halves the image."""
    discriminator_width: Width
    """Channels of the discriminator's first convolution; ignored by `unet`."""
    mae_weight: Annotated[Number, Ge(0)]
    """Weight of the mean absolute error in the loss of `cgan`'s generator, at least 0; ignored by `unet`."""
    beta1: Fraction
    """Adam's decay rate of the first moment, 0 to below 1."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        from ddl.learners.adversarial import GanPair
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.translation import AdversarialTranslationLearner, TranslationEvaluation, TranslationLearner
        from ddl.metrics.images import absolute_error, colourfulness
        from ddl.models.initialisation import initialise_dcgan
        from ddl.models.preprocess import ScaleToUnit
        from ddl.models.unet import PatchDiscriminator, UNet

        data = self.load(self.data_set, device)
        train, val = _grey_and_colour(data.train), _grey_and_colour(data.val)
        test = None if data.test is None else _grey_and_colour(data.test)
        prepare = ScaleToUnit(SIZE)
        evaluation = TranslationEvaluation(
            prepare,
            measures={"mae": absolute_error, "colourfulness": lambda predicted, _: colourfulness(predicted)},
            baselines={"grey/mae": absolute_error, "real/colourfulness": lambda _, target: colourfulness(target)},
            shown=(val.inputs[:SHOWN], val.targets[:SHOWN]),
            captions=("grey", self.model, "real"),
            device=device,
        )
        unet = UNet(1, CHANNELS, SIZE, self.widths)
        adam = make_optimiser("adam", self.lr, beta1=self.beta1)
        generator = self.optimised(unet, adam, train, device)
        models: list[nn.Module] = [unet]
        learner: Learner = TranslationLearner(generator, prepare, absolute_error, evaluation)
        if self.model == "cgan":
            models.append(initialise_dcgan(PatchDiscriminator(1 + CHANNELS, self.discriminator_width)))
            gan = GanPair(generator, self.optimised(models[1], adam, train, device), device)
            learner = AdversarialTranslationLearner(gan, prepare, self.mae_weight, evaluation)
        yield from self.train(learner, train, val, device, self.metadata(data, models), resume, test)


def _grey_and_colour(split: Split) -> Split:
    from ddl.data.splits import Split
    from ddl.metrics.images import grey

    return Split(grey(split.inputs), split.inputs)
