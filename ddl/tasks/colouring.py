"""Colour for grey images, by a U-Net alone or against a discriminator (Karshenas, section 5 and figure 10)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass

from ddl.data.pairs import Pairs
from ddl.data.sets import cifar10
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.adversarial import GanPair
from ddl.learners.optimisers import make_optimiser
from ddl.learners.translation import AdversarialTranslationLearner, TranslationEvaluation, TranslationLearner
from ddl.metrics.images import absolute_error, colourfulness, grey
from ddl.models.initialisation import initialise_dcgan
from ddl.models.preprocess import ScaleToUnit
from ddl.models.unet import PatchDiscriminator, UNet
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask, UNetWidths
from ddl.tasks.task import STRICT, Count, Fraction, Number

CHANNELS, SIZE, _ = cifar10.SHAPE
SHOWN = 8
"""Images of the figure: the first of the validation split."""


@dataclass(frozen=True, config=STRICT)
class Colouring(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10",)

    data_set: Literal["cifar10"]
    model: Literal["unet", "cgan"]
    """`unet`: the mean absolute error alone. `cgan`: with a discriminator."""
    widths: UNetWidths
    discriminator_width: Count
    """Channels of the discriminator's first convolution; `unet` ignores it, as the next."""
    mae_weight: Annotated[Number, Ge(0)]
    """Of the mean absolute error beside the generator's loss."""
    beta1: Fraction
    """Of Adam."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        train, val = _grey_and_colour(data.train), _grey_and_colour(data.val)
        prepare = ScaleToUnit(SIZE)
        examination = TranslationEvaluation(
            prepare,
            measures={"mae": absolute_error, "colourfulness": lambda predicted, _: colourfulness(predicted)},
            baselines={"grey/mae": absolute_error, "real/colourfulness": lambda _, wanted: colourfulness(wanted)},
            shown=(val.given[:SHOWN], val.wanted[:SHOWN]),
            captions=("grey", self.model, "real"),
            device=device,
        )
        unet = UNet(1, CHANNELS, SIZE, self.widths)
        adam = make_optimiser("adam", self.lr, beta1=self.beta1)
        generator = self.optimised(unet, adam, train, device)
        if self.model == "unet":
            metadata = self.metadata(data, [unet])
            translator = TranslationLearner(generator, prepare, absolute_error, examination)
            yield from self.train(translator, train, val, device, metadata, resume)
            return
        discriminator = initialise_dcgan(PatchDiscriminator(1 + CHANNELS, self.discriminator_width))
        game = GanPair(generator, self.optimised(discriminator, adam, train, device), device)
        metadata = self.metadata(data, [unet, discriminator])
        learner = AdversarialTranslationLearner(game, prepare, self.mae_weight, examination)
        yield from self.train(learner, train, val, device, metadata, resume)


def _grey_and_colour(split: Split) -> Pairs:
    return Pairs(grey(split.inputs), split.inputs)
