"""Image classification with a small convolutional network (Karshenas, section 1)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic.dataclasses import dataclass

from ddl.data.augment import STRENGTHS
from ddl.devices import Device
from ddl.learners.optimisers import make_optimiser
from ddl.learners.supervised import Classifier
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.progress import Progress, State
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction


@dataclass(frozen=True, config=STRICT)
class Classification(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "mnist")
    strategies = ("ddp", "fsdp")
    changeable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout")

    data_set: Literal["cifar10", "mnist"]
    augmentation: Literal["none", "light", "aggressive"]
    widths: Annotated[list[Count], Len(1, 5)]
    """Channels of each block of convolutions; each block halves the image."""
    convolutions: Count
    """3x3 convolutions in a block."""
    dense: Count
    """Units of the dense layer before the class scores."""
    dropout: Fraction
    """Probability of a zero after each layer."""
    batch_norm_layers: CountOrZero
    """How many convolutions, from the first, are batch-normalised."""
    initialisation: Literal["glorot", "zeros"]
    optimiser: Literal["adam", "sgd"]
    momentum: Fraction
    """Of sgd; adam ignores it."""

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        channels, size = data.train.inputs.shape[1], data.train.inputs.shape[-1]
        model = ConvNet(
            channels,
            size,
            len(data.classes),
            self.widths,
            self.convolutions,
            self.dense,
            self.dropout,
            self.batch_norm_layers,
            self.initialisation,
        )
        normalise = Normalise(data.mean, data.std).to(device.torch)
        augment = STRENGTHS[self.augmentation]
        learner = Classifier(
            self.optimised(model, make_optimiser(self.optimiser, self.lr, self.momentum), data.train, device),
            training=lambda images: normalise(augment(images.float())),
            evaluation=normalise,
            device=device,
        )
        metadata = self.metadata(data, [model]) | {"classes": list(data.classes)}
        yield from self.train(learner, data.train, data.val, device, metadata, resume)
