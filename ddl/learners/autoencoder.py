"""Autoencoders: trained to give an image back, judged by what of it their representation keeps."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddl import figures
from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.learner import Batch, Learner, Pipeline
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.images import squared_error
from ddl.metrics.linear_classifier import fit_linear_classifier
from ddl.metrics.means import Means
from ddl.progress import State

ENCODED_AT_ONCE = 1024


def reconstruction_strip(originals: Tensor, reconstructions: Tensor, columns: int = 10) -> bytes:
    """A PNG: images in one row, and under each what came back, row pairs of `columns`."""
    pairs = zip(originals.split(columns), reconstructions.split(columns), strict=True)
    return figures.image_grid(torch.cat([row for pair in pairs for row in pair]), columns)


class AutoencoderLearner(Learner):
    """Mean squared error between images and what an autoencoder makes of them.

    Batches are (images as stored, classes int64 [n]); `prepare` turns images into what the model takes, in 0..1. Metrics:
    `loss` and `mse` (per pixel); `accuracy` of a linear probe (`ddl.metrics.linear_classifier`) fitted to the representations of `train`, on the
    validated images and, as `train/accuracy`, on `train` itself.
    """

    def __init__(
        self,
        network: OptimisedModule,
        prepare: nn.Module,
        train: Split,
        classes: int,
        shown: Tensor,
        device: Device,
    ):
        """`network` is of an `Autoencoder`. `shown` are the images of the figure."""
        self._network, self._prepare, self._device = network, prepare, device
        self._train, self._classes, self._shown = train, classes, shown

    def step(self, batch: Batch) -> dict[str, Tensor]:
        images = self._prepare(batch[0])
        self._network.train()
        loss = F.mse_loss(self._network(images), images)
        self._network.minimise(loss)
        return {"loss": loss.detach(), "mse": loss.detach()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model = self._network.trained()
        predict, accuracy = self._probe(model)
        means = Means(self._device)
        for inputs, classes in batches:
            images = self._prepare(inputs)
            representations = self._network.through(model.encode, images)
            error = squared_error(self._network.through(model.decode, representations), images)
            means.add({"loss": error, "mse": error, "accuracy": (predict(representations) == classes).double()})
        yield from means.results()
        yield "train/accuracy", accuracy

    def _probe(self, model: Any) -> tuple[Callable[[Tensor], Tensor], float]:
        """What tells classes from representations, and its accuracy on those it was fitted to."""
        parts = self._train.inputs.split(ENCODED_AT_ONCE)
        encoded = torch.cat([self._network.through(model.encode, self._prepare(part)) for part in parts])
        predict = fit_linear_classifier(encoded, self._train.targets, self._classes)
        return predict, (predict(encoded) == self._train.targets).double().mean().item()

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        images = self._prepare(self._shown)
        yield "reconstructions.png", reconstruction_strip(images, self._network.through(self._network.trained(), images))

    def predictor(self) -> nn.Module:
        return Pipeline(self._prepare, self._network.trained()).eval()

    def state_dict(self) -> State:
        return self._network.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)
