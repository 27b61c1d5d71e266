"""New digits, from a variational autoencoder or a GAN (Karshenas, section 5 and table 6)."""

from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Len
from pydantic import field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ddl.data import sources
from ddl.data.sets import mnist
from ddl.devices import Device, stream
from ddl.fit import fit
from ddl.learners.adversarial import Adversarial, Game
from ddl.learners.gallery import Gallery
from ddl.learners.learner import Learner
from ddl.learners.variational import Variational
from ddl.metrics.generated import SPLITS
from ddl.models.autoencoders import VariationalAutoencoder, halved
from ddl.models.initial import dcgan
from ddl.models.preprocess import Unit
from ddl.models.strided import StridedDecoder, StridedEncoder
from ddl.precision import Precision
from ddl.progress import Progress, State
from ddl.tasks.judge import judge
from ddl.tasks.task import STRICT, Count, CountOrZero, Number, Positive, PrecisionName, Share, Task

SIZE = mnist.SHAPE[1]
SHOWN = 10
"""Reconstructions in the figure: of the first validation images."""


@dataclass(frozen=True, config=STRICT)
class Generation(Task):
    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)

    data_set: Literal["mnist"]
    content: Literal["full", "sample"]
    train_limit: CountOrZero
    """Use only the first so many training images; 0 for all."""
    val_limit: CountOrZero
    """The same for validation."""
    model: Literal["vae", "gan"]
    latent: Count
    """Numbers that an image is made of."""
    widths: Annotated[list[Count], Len(1, 5)]
    """Channels of the strided convolutions, each of which halves the image; the generator and the decoder have the same."""
    kl_weight: Annotated[Number, Ge(0)]
    """Of the Kullback-Leibler term of `vae` (`ddl.learners.variational`); 0: without."""
    generated: Annotated[Count, Ge(SPLITS)]
    """Images made for each evaluation."""
    judge_epochs: Count
    """Of the classifier that scores them."""
    collapse_grace_steps: CountOrZero
    """Steps before a `gan` that makes one class only is taken to have collapsed."""
    lr: Positive
    beta1: Share
    """Of Adam."""
    batch_size: Count
    epochs: Count
    precision: PrecisionName

    @field_validator("widths")
    @classmethod
    def _can_be_halved(cls, widths: list[int]) -> list[int]:
        halved(SIZE, len(widths))
        return widths

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = sources.load(self.data_set, self.content)
        train = data.train.limit(self.train_limit or None).to(device.torch)
        val = data.val.limit(self.val_limit or None).to(device.torch)
        torch.manual_seed(stream(self.seed, "weights", 0))
        precision = Precision.parse("fp32" if self.precision == "auto" else self.precision)
        gallery = Gallery(
            self.generated,
            self.latent,
            stream(self.seed, "latents", 0),
            cache(partial(judge, data, self.judge_epochs, device.torch)),
            device,
        )
        models, learner = self._learner(train.inputs.shape[1], gallery, val.inputs[:SHOWN], precision, device)
        facts = {
            "data": data.origin.facts() | {"train": len(train), "val": len(val)},
            "parameters": sum(parameter.numel() for model in models for parameter in model.parameters()),
            "precision": str(precision),
            "evaluation_steps": (self.generated + len(val)) / self.batch_size / 3,
        }
        yield from fit(
            learner,
            train,
            val,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            device=device,
            unit="images",
            facts=facts,
            resume=resume,
        )

    def _learner(
        self, channels: int, gallery: Gallery, shown: Tensor, precision: Precision, device: Device
    ) -> tuple[list[nn.Module], Learner]:
        """The networks that are trained, and what trains them."""
        prepare = Unit(SIZE)
        decoder = StridedDecoder(self.latent, channels, SIZE, self.widths)
        if self.model == "vae":
            vae = VariationalAutoencoder(StridedEncoder(channels, SIZE, self.widths, 2 * self.latent), decoder)
            return [vae], Variational(vae, self._optimiser, prepare, self.kl_weight, gallery, shown, precision, device)
        generator, discriminator = dcgan(decoder), dcgan(StridedEncoder(channels, SIZE, self.widths, 1))
        game = Game(generator, discriminator, self._optimiser, precision, device)
        return [generator, discriminator], Adversarial(game, prepare, self.latent, gallery, self.collapse_grace_steps, device)

    def _optimiser(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        return Adam(parameters, lr=self.lr, betas=(self.beta1, 0.999), fused=True)
