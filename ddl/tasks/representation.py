"""Ten numbers for a digit: PCA and autoencoders (Karshenas, section 4 and table 4)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from annotated_types import Len
from pydantic import ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from ddl.data.splits import DataSet
from ddl.devices import Device
from ddl.learners.autoencoder import AutoencoderLearner, reconstruction_strip
from ddl.learners.learner import Pipeline
from ddl.learners.optimisers import make_optimiser
from ddl.metrics.images import squared_error
from ddl.metrics.linear_classifier import fit_linear_classifier
from ddl.models import autoencoders
from ddl.models.autoencoders import Autoencoder
from ddl.models.downsampling import halved_side
from ddl.models.pca import fit_pca, pca_autoencoder
from ddl.models.preprocess import ScaleToUnit
from ddl.progress import Predictor, Progress, State
from ddl.tasks.image_task import ImageTask
from ddl.tasks.task import STRICT, Count

SHOWN = 10
"""Images of the figure: the first of the validation split."""
AVERAGED = 10_000
"""Training images whose mean a decoder begins at."""


@dataclass(frozen=True, config=STRICT)
class Representation(ImageTask):
    data_sets: ClassVar[tuple[str, ...]] = ("mnist",)

    data_set: Literal["mnist"]
    size: Count
    """Side of the images, in pixels: resized to it, bilinearly."""
    latent: Count
    """Numbers that an image is reduced to."""
    method: Literal["pca", "dense", "convolutional"]
    dense_down: Annotated[list[Count], Len(1, 8)]
    """Units of the layers before the representation, of `dense`."""
    dense_up: Annotated[list[Count], Len(1, 8)]
    """Units of the layers between the representation and the image, of `dense`."""
    convolutional_widths: Annotated[list[Count], Len(1, 8)]
    """Channels of the convolutions of `convolutional`, with 2x2 max pooling between them."""
    convolutional_up: Annotated[list[Count], Len(1, 8)]
    """Like `dense_up`."""
    relu_latent: bool
    """ReLU after the representation too."""
    output: Literal["sigmoid", "relu"]
    """What follows the last layer."""
    convolutional_epochs: Count
    """Of `convolutional`, which takes fifteen times as long."""

    @field_validator("latent")
    @classmethod
    def _fewer_than_pixels(cls, latent: int, info: ValidationInfo) -> int:
        pixels = info.data.get("size", latent) ** 2
        if latent > pixels:
            raise ValueError(f"{latent} numbers are no reduction of an image of {pixels} pixels. Take {pixels} at most.")
        return latent

    @field_validator("convolutional_widths")
    @classmethod
    def _can_be_pooled(cls, widths: list[int], info: ValidationInfo) -> list[int]:
        if "size" in info.data and info.data.get("method") == "convolutional":
            halved_side(info.data["size"], len(widths) - 1)
        return widths

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load(self.data_set, device)
        if self.method == "pca":
            yield from self._pca(data, device, resume)
            return
        prepare = ScaleToUnit(self.size)
        model = self._model(prepare(data.train.limit(AVERAGED).inputs).mean(0).cpu())
        learner = AutoencoderLearner(
            self.optimised(model, make_optimiser("adam", self.lr), data.train, device),
            prepare,
            data.train,
            len(data.classes),
            data.val.inputs[:SHOWN],
            device,
        )
        # An evaluation encodes the training images too, for the probe.
        steps = (len(data.val) + len(data.train) / 2) / self.batch_size / 3
        metadata = self.metadata(data, [model]) | {"evaluation_steps": steps}
        yield from self.train(learner, data.train, data.val, device, metadata, resume)

    def trained_epochs(self) -> int:
        return self.convolutional_epochs if self.method == "convolutional" else self.epochs

    def _model(self, mean: Tensor) -> Autoencoder:
        if self.method == "dense":
            return autoencoders.dense_autoencoder(mean, self.dense_down, self.latent, self.dense_up, self.relu_latent, self.output)
        widths, up = self.convolutional_widths, self.convolutional_up
        return autoencoders.convolutional_autoencoder(mean, widths, self.latent, up, self.relu_latent, self.output)

    def _pca(self, data: DataSet, device: Device, resume: State | None) -> Iterator[Progress]:
        """One step, in closed form. With several processes each does it all, which takes less time than to share it out."""
        prepare, train, val = ScaleToUnit(self.size), data.train, data.val
        model: Autoencoder | None = None
        if resume is not None and resume["step"] == 1:
            shape = (train.inputs.shape[1], self.size, self.size)
            model = pca_autoencoder(resume["mean"].to(device.torch), resume["components"].to(device.torch), shape)

        def state() -> State:
            return {"step": 0} if model is None else {"step": 1, **model.encode.state_dict()}

        def predictor() -> Predictor | None:
            return None if model is None else Predictor(Pipeline(prepare, model).eval(), val.inputs[:1])

        if model is not None:
            yield Progress(step=1, total_steps=1, epoch=1, state=state, predictor=predictor)
            return
        numbers = (self.latent + 1) * train.inputs.shape[1] * self.size**2
        metadata = self.metadata(data, []) | {"parameters": numbers, "precision": "fp32", "evaluations": 1, "evaluation_steps": 0.1}
        yield Progress(step=0, total_steps=1, epoch=0, state=state, metadata=metadata)
        images = prepare(train.inputs)
        model = fit_pca(images, self.latent)
        encoded, error = model.encode(images), squared_error(model(images), images)
        predict = fit_linear_classifier(encoded, train.targets, len(data.classes))
        metrics = {"train/mse": error, "train/accuracy": predict(encoded) == train.targets}
        images = prepare(val.inputs)
        metrics |= {"val/mse": squared_error(model(images), images), "val/accuracy": predict(model.encode(images)) == val.targets}
        yield Progress(
            step=1,
            total_steps=1,
            epoch=1,
            state=state,
            predictor=predictor,
            metrics={name: value.double().mean().item() for name, value in metrics.items()},
            figures={"reconstructions.png": reconstruction_strip(images[:SHOWN], model(images[:SHOWN]))},
        )
