"""Training of image-to-image networks on pairs, with a loss alone or with a discriminator."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddl import figures
from ddl.devices import Device
from ddl.learners.adversarial import GanPair
from ddl.learners.learner import Batch, Pipeline, SeveralNetworksLearner, SingleNetworkLearner, Transform
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.images import Measure, absolute_error
from ddl.metrics.means import Means


@dataclass(frozen=True, eq=False)
class TranslationEvaluation:
    """Metrics, figure and predictor of an image-to-image network.

    `prepare` maps stored images to 0..1. `measures` are metrics of predicted and target images; `baselines` (with full names) are
    the same of input and target images, for comparison. `shown` is the batch of the figure, and `captions` name its columns:
    input, prediction, target.
    """

    prepare: nn.Module
    measures: Mapping[str, Measure]
    baselines: Mapping[str, Measure]
    shown: Batch
    captions: Sequence[str]
    device: Device

    @torch.no_grad()
    def evaluate(self, network: OptimisedModule, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        """Yield (name, mean) of every measure and baseline."""
        model, means = network.trained(), Means(self.device)
        for inputs, targets in batches:
            source, target = self.prepare(inputs), self.prepare(targets)
            predicted = network.through(model, source)
            values = {name: measure(predicted, target) for name, measure in self.measures.items()}
            means.add(values | {name: measure(source, target) for name, measure in self.baselines.items()})
        yield from means.results()

    @torch.no_grad()
    def show(self, network: OptimisedModule) -> Iterator[tuple[str, bytes | str]]:
        """Yield the figure of inputs, predictions and targets."""
        source, target = (self.prepare(images) for images in self.shown)
        columns = [source.expand_as(target), network.through(network.trained(), source), target]
        yield "strip.png", figures.image_grid(torch.stack(columns, dim=1).flatten(0, 1), len(columns), self.captions, enlarge=3)

    def predictor(self, network: OptimisedModule) -> nn.Module:
        """The network with its preprocessing."""
        return Pipeline(self.prepare, network.trained()).eval()


class TranslationLearner(SingleNetworkLearner):
    """An image-to-image network trained on a loss per image. Batches are (inputs, targets), images as stored.

    `training` maps the stored inputs to model inputs in training. Metrics: `loss` and those of `evaluation`.
    """

    def __init__(self, network: OptimisedModule, training: Transform, loss: Measure, evaluation: TranslationEvaluation):
        super().__init__(network)
        self._training, self._loss, self._evaluation = training, loss, evaluation

    def step(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets = batch
        self._network.train()
        loss = self._loss(self._network(self._training(inputs)), self._evaluation.prepare(targets)).mean()
        self._network.minimise(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._evaluation.evaluate(self._network, batches)

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._evaluation.show(self._network)

    def predictor(self) -> nn.Module:
        return self._evaluation.predictor(self._network)


class AdversarialTranslationLearner(SeveralNetworksLearner):
    """A conditional GAN for image-to-image translation (pix2pix: Isola et al. 2017, arXiv:1611.07004).

    The discriminator gets the input concatenated with the target or the prediction. The generator minimises its adversarial loss +
    `mae_weight` x the mean absolute error (equation 4). There is no noise input, which the authors found to be ignored.

    Parts of a step: `loss` (the generator's), `mae`, `generator_loss` and `discriminator_loss` (nats).
    """

    def __init__(self, gan: GanPair, training: Transform, mae_weight: float, evaluation: TranslationEvaluation):
        super().__init__(gan.networks())
        self._gan, self._training = gan, training
        self._mae_weight, self._evaluation = mae_weight, evaluation

    def step(self, batch: Batch) -> dict[str, Tensor]:
        source, target = self._training(batch[0]), self._evaluation.prepare(batch[1])
        self._gan.train()
        predicted = self._gan.generator(source)
        discriminator_loss = self._gan.train_discriminator(torch.cat([source, target], dim=1), torch.cat([source, predicted], dim=1))
        generator_loss = self._gan.generator_loss(torch.cat([source, predicted], dim=1))
        mae = absolute_error(predicted, target).mean()
        loss = generator_loss + self._mae_weight * mae
        self._gan.generator.minimise(loss)
        parts = {"loss": loss, "mae": mae, "generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
        return {name: value.detach() for name, value in parts.items()}

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._evaluation.evaluate(self._gan.generator, batches)

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._evaluation.show(self._gan.generator)

    def predictor(self) -> nn.Module:
        return self._evaluation.predictor(self._gan.generator)
