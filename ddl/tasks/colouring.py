"""Colour for grey images, by a U-Net alone or against a discriminator (Karshenas, section 5 and figure 10)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass

from ddl.data.pairs import Pairs
from ddl.data.sets import cifar10
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.adversarial import Game
from ddl.learners.translation import AdversarialTranslator, Examination, Translator
from ddl.metrics.images import absolute_error, colourfulness, grey
from ddl.models.initial import dcgan
from ddl.models.preprocess import Unit
from ddl.models.unet import PatchDiscriminator, UNet
from ddl.progress import Progress, State
from ddl.tasks.fitted import optimiser
from ddl.tasks.images import ImageTask, UNetWidths
from ddl.tasks.task import STRICT, Count, Number, Share

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
    beta1: Share
    """Of Adam."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        train, val = _grey_and_colour(data.train), _grey_and_colour(data.val)
        prepare = Unit(SIZE)
        examination = Examination(
            prepare,
            measures={"mae": absolute_error, "colourfulness": lambda predicted, _: colourfulness(predicted)},
            baselines={"grey/mae": absolute_error, "real/colourfulness": lambda _, wanted: colourfulness(wanted)},
            shown=(val.given[:SHOWN], val.wanted[:SHOWN]),
            captions=("grey", self.model, "real"),
            device=device,
        )
        unet = UNet(1, CHANNELS, SIZE, self.widths)
        adam = optimiser("adam", self.lr, beta1=self.beta1)
        generator = self.optimised(unet, adam, train, device)
        if self.model == "unet":
            facts = self.facts(data, [unet])
            translator = Translator(generator, prepare, absolute_error, examination)
            yield from self.train(translator, train, val, device, facts, resume)
            return
        discriminator = dcgan(PatchDiscriminator(1 + CHANNELS, self.discriminator_width))
        game = Game(generator, self.optimised(discriminator, adam, train, device), device)
        facts = self.facts(data, [unet, discriminator])
        learner = AdversarialTranslator(game, prepare, self.mae_weight, examination)
        yield from self.train(learner, train, val, device, facts, resume)


def _grey_and_colour(split: Split) -> Pairs:
    return Pairs(grey(split.inputs), split.inputs)
