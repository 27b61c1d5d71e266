"""Image classification with a small convolutional network (Karshenas, section 1)."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic.dataclasses import dataclass

from ddl.data.augment import STRENGTHS
from ddl.data.splits import DataSet
from ddl.devices import Device
from ddl.learners.optimisers import make_optimiser
from ddl.learners.supervised import Classifier
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.tasks.fit_task import Fitting
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Fraction


@dataclass(frozen=True, config=STRICT)
class Classification(ImageTask):
    """Trains a small convolutional network to classify CIFAR-10 or MNIST (Karshenas, section 1, table 1, figures 1 and 7)."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "mnist")
    strategies = ("ddp", "fsdp")
    changeable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout")
    stackable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout", "augmentation")

    data_set: Literal["cifar10", "mnist"]
    """Data set to train and validate on."""
    augmentation: Literal["none", "light", "aggressive"]
    """Strength of the random zoom, rotation, translation and flip of training images (Karshenas, section 1)."""
    widths: Annotated[list[Count], Len(1, 5)]
    """Channels of each block of convolutions, 1 to 5 numbers; each block halves the image."""
    convolutions: Count
    """Number of 3x3 convolutions per block."""
    dense: Count
    """Units of the dense layer before the logits."""
    dropout: Fraction
    """Dropout probability after each layer but the last, 0 to below 1."""
    batch_norm_layers: CountOrZero
    """Number of convolutions with batch normalisation, counted from the first."""
    initialisation: Literal["glorot", "zeros"]
    """Initial weights: Glorot uniform or all zero; biases are zero."""
    optimiser: Literal["adam", "sgd"]
    """Optimiser: Adam, or SGD with `momentum`."""
    momentum: Fraction
    """Momentum of sgd, 0 to below 1; ignored by adam."""

    def can_stack(self) -> bool:
        return self.has_stackable_precision()

    def stack_variant(self) -> object:
        return self.dropout > 0  # without dropout, the network has no layers for it

    def load_data(self, device: Device) -> DataSet:
        return self.load(self.data_set, device)

    def build(self, data: DataSet, device: Device) -> Fitting:
        channels, size = data.train.inputs.shape[1], data.train.inputs.shape[-1]
        shape = (channels, size, len(data.classes), self.widths, self.convolutions, self.dense)
        model = ConvNet(*shape, self.dropout, self.batch_norm_layers, self.initialisation)
        normalise = Normalise(data.mean, data.std).to(device.torch)
        augment = STRENGTHS[self.augmentation]
        learner = Classifier(
            self.optimised(model, make_optimiser(self.optimiser, self.lr, self.momentum), data.train, device),
            training=lambda images: normalise(augment(images.float())),
            evaluation=normalise,
            device=device,
        )
        return Fitting(learner, data.train, data.val, self.metadata(data, [model]) | {"classes": list(data.classes)})
