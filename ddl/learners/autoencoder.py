"""Training of autoencoders, and a linear classifier on their representations as a metric."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl import figures
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.learner import Batch, Pipeline, StackableLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.images import squared_error
from ddl.metrics.linear_classifier import fit_linear_classifier
from ddl.metrics.means import Means

BATCH_SIZE = 1024
"""Number of training images encoded at once for the linear classifier."""


def reconstruction_strip(originals: Tensor, reconstructions: Tensor, columns: int = 10) -> bytes:
    """A PNG with rows of `columns` originals, each above a row of their reconstructions."""
    columns = min(columns, len(originals))
    pairs = zip(originals.split(columns), reconstructions.split(columns), strict=True)
    return figures.image_grid(torch.cat([row for pair in pairs for row in pair]), columns)


class AutoencoderLearner(StackableLearner):
    """An `Autoencoder` trained on the mean squared error of its reconstructions.

    Batches are (images as stored, labels int64 [n]); `prepare` maps images to 0..1. Metrics: `loss` and `mse` (per pixel);
    `accuracy` of a linear classifier (`ddl.metrics.linear_classifier`) on the validation representations, and `train/accuracy`
    on the representations of `train`, to which it is fitted.
    """

    def __init__(self, network: OptimisedModule, prepare: nn.Module, train: Split, classes: int, shown: Tensor, device: Device):
        """`shown` are the images of the figure."""
        super().__init__(network)
        self._prepare, self._device = prepare, device
        self._train, self._classes, self._shown = train, classes, shown

    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        images = self._prepare(batch[0])
        loss = F.mse_loss(network(images), images)
        return {"loss": loss, "mse": loss}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model = self._network.trained()
        predict, train_accuracy = self._fit_classifier(model)
        means = Means(self._device)
        for inputs, labels in batches:
            images = self._prepare(inputs)
            representations = self._network.through(model.encode, images)
            error = squared_error(self._network.through(model.decode, representations), images)
            means.add({"loss": error, "mse": error, "accuracy": (predict(representations) == labels).double()})
        yield from means.results()
        yield "train/accuracy", train_accuracy

    def _fit_classifier(self, model: Any) -> tuple[Callable[[Tensor], Tensor], float]:
        """Linear classifier fitted to the training representations, and its accuracy on them."""
        batches = self._train.inputs.split(BATCH_SIZE)
        representations = torch.cat([self._network.through(model.encode, self._prepare(images)) for images in batches])
        predict = fit_linear_classifier(representations, self._train.targets, self._classes)
        return predict, (predict(representations) == self._train.targets).double().mean().item()

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        images = self._prepare(self._shown)
        yield "reconstructions.png", reconstruction_strip(images, self._network.through(self._network.trained(), images))

    def predictor(self) -> nn.Module:
        return Pipeline(self._prepare, self._network.trained()).eval()
