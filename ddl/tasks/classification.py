"""Image classification with a small convolutional network (Karshenas, section 1)."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic import AfterValidator, ValidationInfo
from pydantic.dataclasses import dataclass

from ddl.data.shapes import CIFAR10_SHAPE, DEFAULT_SIZE, MNIST_SHAPE
from ddl.tasks.fit_task import Fitting
from ddl.tasks.image_task import FolderPath, ImageTask
from ddl.tasks.task import STRICT, Count, CountOrZero, Depth, Fraction, Width

if TYPE_CHECKING:
    from ddl.data.augment import Augmentation
    from ddl.data.splits import DataSet
    from ddl.devices import Device


def _halve_images(widths: list[int], info: ValidationInfo) -> list[int]:
    shapes = {"cifar10": CIFAR10_SHAPE, "mnist": MNIST_SHAPE}
    *_, size = shapes.get(info.data.get("data_set", ""), (2 ** len(widths),))
    if size < 2 ** len(widths):
        raise ValueError(f"{len(widths)} blocks cannot halve {size} x {size} pixels. Use at most {size.bit_length() - 1}.")
    return widths


def _can_be_halved(size: int, info: ValidationInfo) -> int:
    blocks = len(info.data.get("widths", []))
    if size < 2**blocks:
        raise ValueError(f"{size} x {size} pixels cannot be halved by {blocks} blocks. Use at least {2**blocks}, or fewer task.widths.")
    return size


@dataclass(frozen=True, config=STRICT)
class Classification(ImageTask):
    """Trains a small convolutional network to classify CIFAR-10, MNIST (Karshenas, section 1, table 1, figures 1 and 7) or your own
    images."""

    data_sets: ClassVar[tuple[str, ...]] = ("cifar10", "mnist")
    strategies = ("ddp", "fsdp")
    holds_out: ClassVar[bool] = True
    changeable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout")
    stackable: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dropout", "augmentation")

    data_set: Literal["cifar10", "mnist", "folder"]
    """Data set to train and validate on; `folder` for your own images in `path`."""
    augmentation: Literal["none", "light", "aggressive"]
    """Strength of the random zoom, rotation, translation and flip of training images (Karshenas, section 1)."""
    widths: Annotated[list[Width], Len(1, 5), AfterValidator(_halve_images)]
    """Channels of each block of convolutions, 1 to 5 numbers; each block halves the image."""
    convolutions: Depth
    """Number of 3x3 convolutions per block."""
    dense: Width
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
    path: FolderPath = field(default="", kw_only=True)
    """Folder of your own images, with a folder for each class; relative to the folder that the command is started in, or absolute."""
    image_size: Annotated[Count, AfterValidator(_can_be_halved)] = field(default=DEFAULT_SIZE, kw_only=True)
    """Side in pixels that your own images are resized and cropped to; the other data sets keep theirs."""

    def files(self) -> tuple[str, ...]:
        return (self.path,) if self.path else ()

    def can_stack(self) -> bool:
        return self.has_stackable_precision()

    def stack_variant(self) -> object:
        return self.dropout > 0  # in a stack, a member without dropout would compute masks too

    def load_data(self, device: Device) -> DataSet:
        if self.data_set == "folder":
            return self.load_folder(self.path, self.image_size, device)
        return self.load(self.data_set, device)

    def augment(self) -> Augmentation:
        """The augmentation of the training images. A subclass may have another one."""
        from ddl.data.augment import STRENGTHS

        return STRENGTHS[self.augmentation]

    def build(self, data: DataSet, device: Device) -> Fitting:
        from ddl.learners.optimisers import make_optimiser
        from ddl.learners.supervised import Classifier
        from ddl.models.cnn import ConvNet
        from ddl.models.preprocess import Normalise

        channels, size = data.train.inputs.shape[1], data.train.inputs.shape[-1]
        shape = (channels, size, len(data.classes), self.widths, self.convolutions, self.dense)
        model = ConvNet(*shape, self.dropout, self.batch_norm_layers, self.initialisation)
        normalise = Normalise(data.mean, data.std).to(device.torch)
        augment = self.augment()
        learner = Classifier(
            self.optimised(model, make_optimiser(self.optimiser, self.lr, self.momentum), data.train, device),
            training=lambda images: normalise(augment(images.float())),
            evaluation=normalise,
            device=device,
        )
        metadata = self.metadata(data, [model]) | {"classes": list(data.classes)}
        return Fitting(learner, data.train, data.val, metadata, data.test)
