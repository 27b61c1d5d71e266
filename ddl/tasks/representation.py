"""Dimension reduction of digits with PCA and autoencoders (Karshenas, section 4 and table 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic import ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from ddl.models.downsampling import halved_side
from ddl.progress import Predictor, Progress, State
from ddl.tasks.fit_task import Fitting
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count, Width

if TYPE_CHECKING:
    from torch import Tensor

    from ddl.data.splits import DataSet
    from ddl.devices import Device
    from ddl.models.autoencoders import Autoencoder

SHOWN = 10
"""Number of images in the figure, the first of the validation split."""
MEAN_IMAGES = 10_000
"""Number of training images whose mean the decoder returns initially."""


@dataclass(frozen=True, config=STRICT)
class Representation(ImageTask):
    """Reduces MNIST images to a few numbers with PCA or a trained autoencoder (Karshenas, section 4, table 4)."""

    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    holds_out: ClassVar[bool] = True
    stackable: ClassVar[tuple[str, ...]] = ("lr",)

    data_set: Literal["mnist"]
    """Data set to train and validate on."""
    size: Count
    """Side of the images in pixels, to which they are resized bilinearly."""
    latent: Width
    """Dimension of the representation, at most the number of pixels."""
    method: Literal["pca", "dense", "convolutional"]
    """Method: principal component analysis, or an autoencoder with a dense or a convolutional encoder."""
    dense_down: Annotated[list[Width], Len(1, 8)]
    """Units of the encoder's hidden layers for `dense`, 1 to 8 numbers."""
    dense_up: Annotated[list[Width], Len(1, 8)]
    """Units of the decoder's hidden layers for `dense`, 1 to 8 numbers."""
    convolutional_widths: Annotated[list[Width], Len(1, 8)]
    """Channels of the encoder's convolutions for `convolutional`, 1 to 8 numbers, with 2x2 max pooling between them."""
    convolutional_up: Annotated[list[Width], Len(1, 8)]
    """Units of the decoder's hidden layers for `convolutional`, 1 to 8 numbers."""
    relu_latent: bool
    """True for a ReLU after the representation; ignored by `pca`."""
    output: Literal["sigmoid", "relu"]
    """Activation of the decoder's output; ignored by `pca`."""
    convolutional_epochs: Count
    """Number of epochs for `convolutional`, instead of `epochs`; its epochs take fifteen times as long."""

    @field_validator("latent")
    @classmethod
    def _fewer_than_pixels(cls, latent: int, info: ValidationInfo) -> int:
        pixels = info.data.get("size", latent) ** 2
        if latent > pixels:
            raise ValueError(f"{latent} numbers do not reduce an image of {pixels} pixels. Use at most {pixels}.")
        return latent

    @field_validator("convolutional_widths")
    @classmethod
    def _can_be_pooled(cls, widths: list[int], info: ValidationInfo) -> list[int]:
        if "size" in info.data and info.data.get("method") == "convolutional":
            halved_side(info.data["size"], len(widths) - 1)
        return widths

    def can_stack(self) -> bool:
        return self.method != "pca" and self.has_stackable_precision()

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        if self.method == "pca":
            yield from self._pca(self.load(self.data_set, device), device, resume)
        else:
            yield from super().run(device, resume)

    def load_data(self, device: Device) -> tuple[DataSet, Tensor]:
        """The data, and the mean training image that the decoder returns initially."""
        from ddl.models.preprocess import ScaleToUnit

        data = self.load(self.data_set, device)
        return data, ScaleToUnit(self.size)(data.train.limit(MEAN_IMAGES).inputs).mean(0).cpu()

    def build(self, data: tuple[DataSet, Tensor], device: Device) -> Fitting:
        from ddl.learners.autoencoder import AutoencoderLearner
        from ddl.learners.optimisers import make_optimiser
        from ddl.models.preprocess import ScaleToUnit

        images, mean = data
        model = self._model(mean)
        network = self.optimised(model, make_optimiser("adam", self.lr), images.train, device)
        shown = images.val.inputs[:SHOWN]
        learner = AutoencoderLearner(network, ScaleToUnit(self.size), images.train, len(images.classes), shown, device)
        # An evaluation also encodes the training images, for the linear classifier.
        steps = (len(images.val) + len(images.train) / 2) / self.batch_size / 3
        metadata = self.metadata(images, [model]) | {"evaluation_steps": steps}
        return Fitting(learner, images.train, images.val, metadata, images.test)

    def trained_epochs(self) -> int:
        return self.convolutional_epochs if self.method == "convolutional" else self.epochs

    def _model(self, mean: Tensor) -> Autoencoder:
        from ddl.models import autoencoders

        if self.method == "dense":
            return autoencoders.dense_autoencoder(mean, self.dense_down, self.latent, self.dense_up, self.relu_latent, self.output)
        widths, up = self.convolutional_widths, self.convolutional_up
        return autoencoders.convolutional_autoencoder(mean, widths, self.latent, up, self.relu_latent, self.output)

    def _pca(self, data: DataSet, device: Device, resume: State | None) -> Iterator[Progress]:
        """One step in closed form. Each of several processes computes all of it, which is faster than communicating."""
        from ddl.learners.autoencoder import reconstruction_strip
        from ddl.learners.learner import Pipeline
        from ddl.metrics.images import squared_error
        from ddl.metrics.linear_classifier import fit_linear_classifier
        from ddl.models.pca import fit_pca, pca_autoencoder
        from ddl.models.preprocess import ScaleToUnit

        prepare, train, val = ScaleToUnit(self.size), data.train, data.val
        model: Autoencoder | None = None
        if resume is not None and resume["step"] == 1:
            shape = (train.inputs.shape[1], self.size, self.size)
            model = pca_autoencoder(resume["mean"].to(device.torch), resume["components"].to(device.torch), shape)

        def state() -> State:
            return {"step": 0} if model is None else {"step": 1, **model.encode.state_dict()}

        def predictor() -> Predictor | None:
            return None if model is None else Predictor(Pipeline(prepare, model).eval(), val.inputs[:1])

        done = Progress(step=1, total_steps=1, epoch=1, state=state, predictor=predictor)
        if model is not None:
            yield done
            return
        parameters = (self.latent + 1) * train.inputs.shape[1] * self.size**2
        metadata = self.metadata(data, []) | {"parameters": parameters, "precision": "fp32", "evaluations": 1, "evaluation_steps": 0.1}
        yield Progress(step=0, total_steps=1, epoch=0, state=state, metadata=metadata)
        images = prepare(train.inputs)
        model = fit_pca(images, self.latent)
        representations, error = model.encode(images), squared_error(model(images), images)
        predict = fit_linear_classifier(representations, train.targets, len(data.classes))
        metrics = {"train/mse": error, "train/accuracy": predict(representations) == train.targets}
        for name, split in {"val": val, "test": data.test}.items():
            if split is not None:
                images = prepare(split.inputs)
                metrics[f"{name}/mse"] = squared_error(model(images), images)
                metrics[f"{name}/accuracy"] = predict(model.encode(images)) == split.targets
        images = prepare(val.inputs[:SHOWN])
        means = {name: value.double().mean().item() for name, value in metrics.items()}
        strip = reconstruction_strip(images, model(images))
        yield replace(done, metrics=means, figures={"reconstructions.png": strip})
