"""From images to images: one network trained on pairs, by a loss alone or with a discriminator as a second critic."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ddl import figures
from ddl.devices import Device
from ddl.learners.adversarial import GanPair
from ddl.learners.learner import Batch, Learner, Pipeline, Transform
from ddl.learners.optimised_module import OptimisedModule
from ddl.metrics.images import Measure, absolute_error
from ddl.metrics.means import Means
from ddl.progress import State


class TranslationEvaluation:
    """What a translator is measured by and shown with.

    `prepare` takes stored images to 0..1. `measures` are metrics of predicted and wanted images, `baselines` (named in full) of given and
    wanted ones, to hold them against. `shown` is the batch of the figure, whose columns `captions` names: given, predicted, wanted.
    """

    def __init__(
        self,
        prepare: nn.Module,
        measures: Mapping[str, Measure],
        baselines: Mapping[str, Measure],
        shown: Batch,
        captions: Sequence[str],
        device: Device,
    ):
        self.prepare, self._measures, self._baselines = prepare, measures, baselines
        self._shown, self._captions, self._device = shown, captions, device

    @torch.no_grad()
    def evaluate(self, network: OptimisedModule, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        model, means = network.trained(), Means(self._device)
        for given, wanted in batches:
            source, target = self.prepare(given), self.prepare(wanted)
            predicted = network.through(model, source)
            values = {name: measure(predicted, target) for name, measure in self._measures.items()}
            means.add(values | {name: measure(source, target) for name, measure in self._baselines.items()})
        yield from means.results()

    @torch.no_grad()
    def show(self, network: OptimisedModule) -> Iterator[tuple[str, bytes | str]]:
        source, target = (self.prepare(images) for images in self._shown)
        columns = [source.expand_as(target), network.through(network.trained(), source), target]
        yield "strip.png", figures.image_grid(torch.stack(columns, dim=1).flatten(0, 1), len(columns), self._captions, enlarge=3)


class TranslationLearner(Learner):
    """Batches are (given, wanted), images as stored. `training` takes the given ones to what the model sees while it learns. Metrics:
    `loss` and what the examination measures."""

    def __init__(self, network: OptimisedModule, training: Transform, loss: Measure, examination: TranslationEvaluation):
        self._network, self._training = network, training
        self._loss, self._examination = loss, examination

    def step(self, batch: Batch) -> dict[str, Tensor]:
        given, wanted = batch
        self._network.train()
        loss = self._loss(self._network(self._training(given)), self._examination.prepare(wanted)).mean()
        self._network.minimise(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._examination.evaluate(self._network, batches)

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._examination.show(self._network)

    def predictor(self) -> nn.Module:
        return Pipeline(self._examination.prepare, self._network.trained()).eval()

    def state_dict(self) -> State:
        return self._network.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)


class AdversarialTranslationLearner(Learner):
    """A conditional GAN (pix2pix: Isola et al. 2017, arXiv:1611.07004): the discriminator sees what was given beside what came of it, and
    the generator minimises its own loss + `mae_weight` x the mean absolute error (their equation 4). No noise is given: they
    found that it is ignored.

    Parts of a step: `loss` (the generator's), `mae`, `generator_loss` and `discriminator_loss` (nats).
    """

    def __init__(self, game: GanPair, training: Transform, mae_weight: float, examination: TranslationEvaluation):
        self._game, self._training = game, training
        self._mae_weight, self._examination = mae_weight, examination

    def step(self, batch: Batch) -> dict[str, Tensor]:
        source, target = self._training(batch[0]), self._examination.prepare(batch[1])
        self._game.train()
        predicted = self._game.generator(source)
        discriminator_loss = self._game.discriminate(torch.cat([source, target], dim=1), torch.cat([source, predicted], dim=1))
        deceived = self._game.deceive(torch.cat([source, predicted], dim=1))
        mae = absolute_error(predicted, target).mean()
        loss = deceived + self._mae_weight * mae
        self._game.generator.minimise(loss)
        return {
            "loss": loss.detach(),
            "mae": mae.detach(),
            "generator_loss": deceived.detach(),
            "discriminator_loss": discriminator_loss,
        }

    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        yield from self._examination.evaluate(self._game.generator, batches)

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        yield from self._examination.show(self._game.generator)

    def predictor(self) -> nn.Module:
        return Pipeline(self._examination.prepare, self._game.generator.trained()).eval()

    def state_dict(self) -> State:
        return self._game.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._game.load_state_dict(state)
