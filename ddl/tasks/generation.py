"""Generation of digits with a variational autoencoder or a GAN (Karshenas, section 5 and table 6)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Len
from pydantic import field_validator
from pydantic.dataclasses import dataclass

from ddl.data.shapes import MNIST_SHAPE
from ddl.metrics.limits import INCEPTION_SPLITS
from ddl.models.downsampling import halved_side
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, WIDEST, Count, CountOrZero, Fraction, Number, Width

if TYPE_CHECKING:
    from torch import nn

    from ddl.data.splits import DataSet
    from ddl.devices import Device
    from ddl.learners.learner import Learner
    from ddl.learners.sample_gallery import SampleGallery

SIZE = MNIST_SHAPE[1]
SHOWN = 10
"""Number of reconstructions in the figure, of the first validation images."""


@dataclass(frozen=True, config=STRICT)
class Generation(ImageTask):
    """Trains a variational autoencoder or a GAN to generate MNIST digits (Karshenas, section 5, table 6)."""

    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)

    data_set: Literal["mnist"]
    """Data set to train and validate on."""
    model: Literal["vae", "gan"]
    """Model: variational autoencoder or generative adversarial network."""
    latent: Width
    """Dimension of the latent vectors."""
    widths: Annotated[list[Width], Len(1, 5)]
    """Channels of the strided convolutions, 1 to 5 numbers, mirrored in the decoder or generator; each convolution halves the image."""
    convolutions: CountOrZero
    """Number of additional 3x3 convolutions at the smallest size, in each network."""
    dense: Annotated[CountOrZero, Le(WIDEST)]
    """Units of the dense layer between latent vector and convolutions, for `gan` in the generator; 0 for no such layer."""
    discriminator_dense: Annotated[CountOrZero, Le(WIDEST)]
    """Units of the dense layer before the logit of `gan`'s discriminator; 0 for no such layer; ignored by `vae`."""
    kl_weight: Annotated[Number, Ge(0)]
    """Weight of the Kullback-Leibler term of `vae` (`ddl.learners.variational`), at least 0; ignored by `gan`."""
    generated: Annotated[Count, Ge(INCEPTION_SPLITS)]
    """Number of images generated for each evaluation, at least 10."""
    judge_epochs: Count
    """Number of training epochs of the scoring classifier."""
    collapse_grace_steps: CountOrZero
    """Number of steps before a `gan` that generates almost only one class counts as collapsed; ignored by `vae`."""
    gradient_penalty: Annotated[Number, Ge(0)]
    """Gamma of the R1 penalty on `gan`'s discriminator (`ddl.learners.adversarial`); 0 for no penalty; ignored by `vae`."""
    averaging: Fraction
    """Fraction of the running mean of `gan`'s generator weights kept at each step, 0 to below 1; 0 for the current weights."""
    beta1: Fraction
    """Adam's decay rate of the first moment, 0 to below 1."""

    @field_validator("widths")
    @classmethod
    def _can_be_halved(cls, widths: list[int]) -> list[int]:
        halved_side(SIZE, len(widths))
        return widths

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        from ddl.data import sources
        from ddl.devices import derive_seed
        from ddl.learners.sample_gallery import SampleGallery
        from ddl.scoring_classifier import load_scoring_classifier

        data = self.load(self.data_set, device)
        # The scoring classifier is trained on all images, so that trials with different limits are scored alike.
        unlimited = sources.load_data_set(self.data_set, self.content)
        load_classifier = cache(partial(load_scoring_classifier, unlimited, self.judge_epochs, device.torch))
        gallery = SampleGallery(self.generated, self.latent, derive_seed(self.seed, "latents", 0), load_classifier, device)
        models, learner = self._learner(data, gallery, device)
        steps = (self.generated + len(data.val)) / self.batch_size / 3
        metadata = self.metadata(data, models) | {"evaluation_steps": steps}
        yield from self.train(learner, data.train, data.val, device, metadata, resume)

    def _learner(self, data: DataSet, gallery: SampleGallery, device: Device) -> tuple[list[nn.Module], Learner]:
        """The trained networks, and their learner."""
        from ddl.learners.adversarial import GanLearner, GanPair
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.variational import VariationalLearner
        from ddl.models.autoencoders import VariationalAutoencoder
        from ddl.models.initialisation import initialise_dcgan
        from ddl.models.preprocess import ScaleToUnit
        from ddl.models.strided import StridedDecoder, StridedEncoder

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
        gan = GanPair(generator, discriminator, device, self.gradient_penalty)
        return models, GanLearner(gan, prepare, self.latent, gallery, self.collapse_grace_steps, self.averaging, device)
