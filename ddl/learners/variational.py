"""Training of a variational autoencoder, with or without its Kullback-Leibler term."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ddl.devices import Device
from ddl.learners.autoencoder import reconstruction_strip
from ddl.learners.learner import Batch, Pipeline, SingleNetworkLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.sample_gallery import SampleGallery
from ddl.metrics.images import squared_error
from ddl.metrics.means import Means
from ddl.models.autoencoders import Reconstruction


class VariationalLearner(SingleNetworkLearner):
    """A `VariationalAutoencoder` trained on `mse` (per pixel) + `kl_weight` x `kl` / pixels.

    `kl` (nats per image) is the divergence of the encoder's distribution from N(0, 1) (Kingma & Welling 2014, appendix B). With
    `kl_weight` twice the decoder's variance, the loss is the negative evidence lower bound up to scale.

    Batches are (images as stored, labels int64 [n]). Further metrics: `latent_mean_square` of the encoder's means, which is 1 for
    N(0, 1); far above 1, latent vectors sampled from N(0, 1) are unlike those of real images. And the metrics of
    `GeneratedImageScores` for images decoded from N(0, 1).
    """

    def __init__(
        self, network: OptimisedModule, prepare: nn.Module, kl_weight: float, gallery: SampleGallery, shown: Tensor, device: Device
    ):
        """`shown` are the images of the figure of reconstructions."""
        super().__init__(network)
        self._prepare, self._kl_weight, self._gallery = prepare, kl_weight, gallery
        self._shown, self._device = shown, device

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._network.train()
        parts = {name: value.mean() for name, value in self._parts(self._network, self._prepare(batch[0])).items()}
        self._network.minimise(parts["loss"])
        return {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model = self._network.trained()
        scores, means = self._gallery.scores(self._through(model.decode)), Means(self._device)
        for inputs, labels in batches:
            images = self._prepare(inputs)
            means.add(self._parts(self._through(model), images))
            scores.add_real(images, labels)
        yield from means.results()
        yield from scores.results()

    def _parts(self, model: Callable[[Tensor], Any], images: Tensor) -> dict[str, Tensor]:
        """Loss and its parts for each image, [n]."""
        reconstructions, mean, log_variance = model(images)
        error = squared_error(reconstructions, images)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        loss = error + self._kl_weight * kl / images[0].numel()
        return {"loss": loss, "mse": error, "kl": kl, "latent_mean_square": mean.square().mean(1)}

    def _through(self, part: nn.Module) -> Callable[[Tensor], Any]:
        return partial(self._network.through, part)

    @torch.no_grad()
    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        model, images = self._network.trained(), self._prepare(self._shown)
        yield "reconstructions.png", reconstruction_strip(images, self._network.through(model, images)[0])
        yield from self._gallery.show(self._through(model.decode), epoch)

    def predictor(self) -> nn.Module:
        return Pipeline(self._prepare, Reconstruction(self._network.trained())).eval()
