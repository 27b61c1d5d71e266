"""New digits, from a variational autoencoder or a GAN (Karshenas, section 5 and table 6)."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Len
from pydantic import field_validator
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.data import sources
from ddl.data.sets import mnist
from ddl.data.splits import DataSet
from ddl.devices import Device, derive_seed
from ddl.learners.adversarial import GanLearner, GanPair
from ddl.learners.learner import Learner
from ddl.learners.optimisers import make_optimiser
from ddl.learners.sample_gallery import SampleGallery
from ddl.learners.variational import VariationalLearner
from ddl.metrics.generated_images import SPLITS
from ddl.models.autoencoders import VariationalAutoencoder
from ddl.models.downsampling import halved_side
from ddl.models.initialisation import initialise_dcgan
from ddl.models.preprocess import ScaleToUnit
from ddl.models.strided import StridedDecoder, StridedEncoder
from ddl.progress import Progress, State
from ddl.scoring_classifier import load_scoring_classifier
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction, Number

SIZE = mnist.SHAPE[1]
SHOWN = 10
"""Reconstructions in the figure: of the first validation images."""


@dataclass(frozen=True, config=STRICT)
class Generation(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)

    data_set: Literal["mnist"]
    model: Literal["vae", "gan"]
    latent: Count
    """Numbers that an image is made of."""
    widths: Annotated[list[Count], Len(1, 5)]
    """Channels of the strided convolutions, each of which halves the image; the generator and the decoder have the same."""
    convolutions: CountOrZero
    """3x3 convolutions at the smallest size, besides the strided ones, in each network."""
    dense: CountOrZero
    """Units of the dense layer between latent and convolutions; 0: none. Of `gan`, the generator's."""
    discriminator_dense: CountOrZero
    """The same of `gan`'s discriminator: the one layer that sees the whole of an image before it is judged."""
    kl_weight: Annotated[Number, Ge(0)]
    """Of the Kullback-Leibler term of `vae` (`ddl.learners.variational`); 0: without."""
    generated: Annotated[Count, Ge(SPLITS)]
    """Images made for each evaluation."""
    judge_epochs: Count
    """Of the classifier that scores them."""
    collapse_grace_steps: CountOrZero
    """Steps before a `gan` that makes one class only is taken to have collapsed."""
    gradient_penalty: Annotated[Number, Ge(0)]
    """Of `gan`'s discriminator (`ddl.learners.adversarial`); 0: none."""
    averaging: Fraction
    """What the running mean of the weights of `gan`'s generator keeps at each step; 0: the weights as they are."""
    beta1: Fraction
    """Of Adam."""

    @field_validator("widths")
    @classmethod
    def _can_be_halved(cls, widths: list[int]) -> list[int]:
        halved_side(SIZE, len(widths))
        return widths

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        # The judge learns from all the images there are, whatever the trial is limited to.
        everything = sources.load_data_set(self.data_set, self.content)
        find_judge = cache(partial(load_scoring_classifier, everything, self.judge_epochs, device.torch))
        gallery = SampleGallery(self.generated, self.latent, derive_seed(self.seed, "latents", 0), find_judge, device)
        models, learner = self._learner(data, gallery, device)
        steps = (self.generated + len(data.val)) / self.batch_size / 3
        metadata = self.metadata(data, models) | {"evaluation_steps": steps}
        yield from self.train(learner, data.train, data.val, device, metadata, resume)

    def _learner(self, data: DataSet, gallery: SampleGallery, device: Device) -> tuple[list[nn.Module], Learner]:
        """The networks that are trained, and what trains them."""
        prepare, channels = ScaleToUnit(SIZE), data.train.inputs.shape[1]
        adam = make_optimiser("adam", self.lr, beta1=self.beta1)
        decoder = StridedDecoder(self.latent, self.dense, channels, SIZE, self.widths, self.convolutions)
        if self.model == "vae":
            vae = VariationalAutoencoder(
                StridedEncoder(channels, SIZE, self.widths, self.dense, 2 * self.latent, self.convolutions), decoder
            )
            shown = data.val.inputs[:SHOWN]
            network = self.optimised(vae, adam, data.train, device)
            return [vae], VariationalLearner(network, prepare, self.kl_weight, gallery, shown, device)
        models: list[nn.Module] = [
            initialise_dcgan(decoder),
            initialise_dcgan(StridedEncoder(channels, SIZE, self.widths, self.discriminator_dense, 1, self.convolutions)),
        ]
        generator, discriminator = (self.optimised(model, adam, data.train, device) for model in models)
        game = GanPair(generator, discriminator, device, self.gradient_penalty)
        return models, GanLearner(game, prepare, self.latent, gallery, self.collapse_grace_steps, self.averaging, device)
